"""Mutants of the queues and the checker (mutants.toml): each is a line done wrong, and the suite has to notice.

    python -m tests.mutants              # all of them, with the tests named here; prints what killed each
    python -m tests.mutants stream       # those whose name or file has "stream" in it
    python -m tests.mutants --runs 10    # each ten times, with fresh seeds
    python -m tests.mutants --jobs 2     # two side by side
    python -m tests.mutants --table tests/MUTANTS.md

Each is applied to a copy of the project; a mutant that survives makes the exit code 1. First a copy is tested as it is:
what fails without a mistake notices nothing. From its second run on, a mutant meets first the test that killed it
before, and only if it survives that one, the others.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: What a copy needs.
PARTS = ("pytest_redisq", "tests", "conftest.py", "pyproject.toml", "README.md", "docs")
#: A mutant may make a test wait for ever: it is killed by that when the same tests, without it, took a quarter as long
#: or less, and no less than the second, in seconds.
PATIENCE, LEAST_PATIENCE_SECONDS = 4, 120
#: The tests without any mutant end within this, or we cannot tell, in seconds.
BASELINE_SECONDS = 1_800
#: pytest's exit code when it was stopped, as by a test's own time limit.
_INTERRUPTED = 2


@dataclass(frozen=True, slots=True)
class Mutant:
    """In `file`, `old` (once there) becomes `new`; `tests` are the ones that must notice."""

    name: str
    file: str
    tests: str
    old: str
    new: str


MUTANTS = tuple(Mutant(**each) for each in tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["mutant"])


def copy_of_the_project(place: Path) -> None:
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, place / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place / part)


def apply(mutant: Mutant, place: Path) -> None:
    path = place / "pytest_redisq" / mutant.file
    source = path.read_text(encoding="utf-8")
    if source.count(mutant.old) != 1:
        raise SystemExit(
            f"{mutant.name}: {mutant.old!r} is {source.count(mutant.old)} times in {mutant.file}, not once"
        )
    path.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")


#: Runs of pytest in one process, since to start one takes longer than to kill a mutant.
_RUNS = """
import sys, pytest
for number in range(int(sys.argv[1])):
    code = int(pytest.main(sys.argv[2:]))
    print(flush=True)
    print("run", number, "ended with exit code", code, flush=True)
"""
_RUN_ENDED = re.compile(r"^run \d+ ended with exit code (\d+)$", re.MULTILINE)


def killers(place: Path, tests: Sequence[str], runs: int, patience_seconds: float) -> list[str]:
    """For each run the test that fails first; empty if none does. The killer of one run is the first test of the next.

    A run that does not end is the last.
    """
    arguments = ["-q", "-x", "--no-header", "--tb=no", "--failed-first", "-o", f"cache_dir={place / 'cache'}", *tests]
    python = [sys.executable, "-c", _RUNS, str(runs), *arguments]
    environment = os.environ | {"HYPOTHESIS_PROFILE": "mutants", "COLUMNS": "1000"}
    with (place / "output").open("w+") as output:
        try:
            subprocess.run(
                python, cwd=place, env=environment, stdout=output, stderr=output, timeout=patience_seconds, check=False
            )
            endless = []
        except subprocess.TimeoutExpired:
            endless = [f"no end within {patience_seconds:.0f} s"]
        output.seek(0)
        *ended, _ = _RUN_ENDED.split(output.read())
    return [killer(said, int(code)) for said, code in zip(ended[::2], ended[1::2], strict=True)] + endless


def killer(output: str, exit_code: int) -> str:
    """The test that failed in a run of pytest. SystemExit where none was run: that would pass for a kill."""
    if exit_code == 0:
        return ""
    if by := first_failed(output):
        return by
    if exit_code == _INTERRUPTED or "Timeout" in output:
        return f"ended by its time limit, exit code {exit_code}"
    raise SystemExit(f"no test was run, exit code {exit_code}: {output.strip()[-1000:]}")


def first_failed(output: str) -> str:
    """The name, in pytest's summary, of the test that failed; its id may have spaces in it, and a reason may follow."""
    found = re.search(r"^(?:FAILED|ERROR) \S+?::([^\[\n]+?(?:\[.*?\])?)(?: - .*)?$", output, re.MULTILINE)
    return found[1] if found else ""


@dataclass(slots=True)
class Death:
    """A mutant's fate: what killed it in how many runs, and in how many it survived."""

    mutant: Mutant
    by: Counter[str] = field(default_factory=Counter)

    @property
    def survived(self) -> int:
        return self.by[""]

    def row(self) -> str:
        runs = self.by.total()
        tests = ", ".join(f"`{test}`" for test in self.by if test)
        return f"| `{self.mutant.file}` | {self.mutant.name} | {runs - self.survived} of {runs} | {tests} |"


def judge(mutants: Sequence[Mutant], runs: int, jobs: int, patience_seconds: float) -> Iterator[Death]:
    """Each mutant, `runs` times; told as it goes. `patience_seconds`: how long one run may take."""

    def fate(mutant: Mutant) -> Death:
        began = time.monotonic()
        death = Death(mutant, Counter(tried(mutant, mutant.tests, runs, runs * patience_seconds)))
        by = ", ".join(f"{test or 'SURVIVED'} ({times})" for test, times in death.by.items())
        print(f"{mutant.file:25} {mutant.name:50} {time.monotonic() - began:5.0f} s  {by}", flush=True)
        return death

    with ThreadPoolExecutor(jobs) as side_by_side:
        yield from side_by_side.map(fate, mutants)


def tried(mutant: Mutant | None, tests: str, runs: int, patience_seconds: float) -> list[str]:
    """The tests that find the mutant (None: the unchanged project), in each run on its own copy."""
    with tempfile.TemporaryDirectory(prefix="rq-mutant-") as folder:
        place = Path(folder)
        copy_of_the_project(place)
        if mutant is not None:
            apply(mutant, place)
        return killers(place, tests.split(), runs, patience_seconds)


def patience_for(mutants: Sequence[Mutant]) -> float:
    """How long the tests of any of these may take with a mutant, in seconds. SystemExit if they fail without one."""
    began = time.monotonic()
    tests = " ".join(sorted({test for mutant in mutants for test in mutant.tests.split()}))
    (by,) = tried(None, tests, 1, BASELINE_SECONDS)
    if by:
        raise SystemExit(f"{tests}: {by} fails without any mutant, so that it can notice none")
    took = time.monotonic() - began
    print(f"{tests}: {took:.0f} s without a mutant", flush=True)
    return max(LEAST_PATIENCE_SECONDS, PATIENCE * took)


def table(deaths: Sequence[Death], before: str) -> str:
    """Those rows of the table `before` that are of other mutants of the list stay as they are."""
    rows = {row.split("|")[2].strip(): row for row in before.splitlines() if row.startswith("| `")}
    rows |= {death.mutant.name: death.row() for death in deaths}
    return _HEAD + "".join(f"{rows[mutant.name]}\n" for mutant in MUTANTS if mutant.name in rows)


_HEAD = """# What killed each mutant

Made by `python -m tests.mutants --runs 10 --table tests/MUTANTS.md`, each run with a fresh seed and the default number
of examples; a call for some mutants alone leaves the rows of the others. The mutants are in `tests/mutants.toml`.

| file | mutant | killed | by (the first test that failed) |
|---|---|---|---|
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Which tests notice which mistake")
    parser.add_argument("name", nargs="?", default="", help="part of a mutant's name or file")
    parser.add_argument("--runs", type=int, default=1, help="how often each, with fresh seeds")
    parser.add_argument("--jobs", type=int, default=1, help="how many mutants side by side")
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="write there what killed each, as Markdown; rows of others stay"
    )
    asked = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if asked.name in mutant.name or asked.name in mutant.file]
    deaths: list[Death] = []
    for death in judge(chosen, asked.runs, asked.jobs, patience_for(chosen)):
        deaths.append(death)
        if asked.table is not None:
            before = asked.table.read_text(encoding="utf-8") if asked.table.exists() else ""
            asked.table.write_text(table(deaths, before), encoding="utf-8")
    survived, runs = sum(death.survived for death in deaths), sum(death.by.total() for death in deaths)
    print(f"{runs - survived} of {runs} killed")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
