"""No false alarm: the properties of all supplied queues, on each server, with as many examples as asked for.

    python -m tests.alarms                                # 20 000 examples, shared out among the servers
    python -m tests.alarms --minutes 30                   # as many as there is time for
    python -m tests.alarms --file alarms.jsonl            # go on where the last call with this file was ended
    python -m tests.alarms --server process               # on the one of this machine
    python -m tests.alarms --server redisq/redis:8.0      # in a container of this image; repeatable

In rounds, each with a fresh seed, which it tells. A test that fails makes the exit code 1: either a queue is wrong, or
a property is. Only Hypothesis's own count is counted, of examples that passed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
#: What .ci/images builds.
IMAGES = ("redisq/redis:7.0", "redisq/redis:8.0", "redisq/valkey:8.1", "redisq/valkey:9.1")
TESTS = ("tests/properties/test_bursts.py", "tests/properties/test_drains.py", "tests/properties/test_lists.py")
#: Examples of each test in a round; many rounds find more than one long one, and can be ended in between.
PER_TEST = 50
#: A round ends within this, or something hangs, in seconds.
ROUND_SECONDS = 3_000


@dataclass(slots=True)
class Tally:
    """The results on one server so far."""

    server: str
    examples: int = 0
    seconds: float = 0.0
    failed: list[str] = field(default_factory=list)

    def add(self, round_: dict[str, Any]) -> None:
        self.examples += round_["examples"]
        self.seconds += round_["seconds"]
        self.failed += round_["failed"]

    def __str__(self) -> str:
        alarms = f"{len(self.failed)} FAILED: {', '.join(self.failed)}" if self.failed else "no alarm"
        return f"{self.server:20} {self.examples:7,} examples in {self.seconds:6.0f} s: {alarms}"


def play(tally: Tally, per_test: int, words: Sequence[str], file: Path | None) -> None:
    """One round, which adds a line to the `file`."""
    seed, began = secrets.randbits(32), time.monotonic()
    is_image = "/" in tally.server or ":" in tally.server
    server = {"REDISQ_SERVER": "docker", "REDISQ_IMAGE": tally.server} if is_image else {"REDISQ_SERVER": tally.server}
    environment = os.environ | server | {"HYPOTHESIS_PROFILE": "thorough", "HYPOTHESIS_EXAMPLES": str(per_test)}
    environment |= {"CI": "true"}  # a server that is missing is an error
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-show-statistics"]
    pytest += ["--tb=short", "-o", "timeout=0", f"--hypothesis-seed={seed}", "-m", "not slow", *words]
    done = subprocess.run(
        pytest, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=ROUND_SECONDS, check=False
    )
    examples = sum(int(count) for count in re.findall(r"- (\d+) passing", done.stdout))
    seconds = time.monotonic() - began
    failed = re.findall(r"^(?:FAILED|ERROR) \S+?::(\S+)", done.stdout, re.MULTILINE)
    if done.returncode and not failed:
        raise SystemExit(f"{tally.server}: no test was run:\n{(done.stdout + done.stderr)[-2000:]}")
    if not examples:
        raise SystemExit(f"{tally.server}: Hypothesis tells no numbers of examples:\n{done.stdout[-2000:]}")
    if failed:
        print(done.stdout)
    told = {"server": tally.server, "seed": seed, "examples": examples, "seconds": round(seconds, 1), "failed": failed}
    tally.add(told)
    if file is not None:
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(told) + "\n")
    print(f"seed {seed:10}  {tally}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="The properties of all supplied queues, on each server")
    parser.add_argument("--examples", type=int, default=20_000, help="how many, at least, all together")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no round after that (0: until they are done)")
    parser.add_argument("--server", action="append", help="process, embedded or an image; repeatable")
    parser.add_argument("--per-test", type=int, default=PER_TEST, help="examples of each test in a round")
    parser.add_argument("--file", type=Path, help="a line of JSON for each round; those that are there count")
    parser.add_argument("tests", nargs="*", default=TESTS, help="other tests than those of the queues")
    asked = parser.parse_args()
    tallies = [Tally(server) for server in asked.server or IMAGES]
    if asked.file is not None and asked.file.exists():
        for round_ in map(json.loads, asked.file.read_text(encoding="utf-8").splitlines()):
            for tally in tallies:
                if tally.server == round_["server"]:
                    tally.add(round_)
    over = time.monotonic() + asked.minutes * 60 if asked.minutes else float("inf")
    while sum(tally.examples for tally in tallies) < asked.examples and time.monotonic() < over:
        # In turn, so that each has its share whenever time is up.
        play(min(tallies, key=lambda tally: tally.examples), asked.per_test, asked.tests, asked.file)
    print(*tallies, sep="\n")
    print(f"{sum(tally.examples for tally in tallies):,} examples on {len(tallies)} servers")
    return 1 if any(tally.failed for tally in tallies) else 0


if __name__ == "__main__":
    sys.exit(main())
