"""Keeping what failed: by one command, and from then on it is run again with every test run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pytest_redisq.cli import main
from pytest_redisq.regressions import Regression, find, read_regression, read_regressions

DRAINERS = """
def drain(client):
    length = client.llen("jobs")
    jobs = client.lrange("jobs", 0, length - 1)
    client.ltrim("jobs", length, -1)
    return jobs

def two_drainers(world):
    world.redis.rpush("jobs", "a", "b")
    one, two = world.actor(drain), world.actor(drain)
    world.run()
    assert sorted(one.result + two.result) == [b"a", b"b"]

def test_each_job_is_drained_once(redisq):
    redisq.explore(two_drainers)

def test_one_drainer_and_its_twin(redisq):
    def within(world):
        two_drainers(world)
    redisq.explore(within)
"""
CURED = re.sub(r"length = .*return jobs", 'return client.lpop("jobs", 100) or []', DRAINERS, flags=re.DOTALL)

LOSES = """
class Loses:
    def __init__(self, client):
        self.client = client
    def put(self, body):
        self.client.rpush("jobs", body)
    def get(self, timeout_seconds):
        self.client.lpop("jobs")
        return self.client.lpop("jobs")

def test_it_loses(redisq):
    redisq.run(Loses, messages=10).verify("at-least-once")
"""


@pytest.fixture
def keep(pytester: pytest.Pytester) -> Callable[..., Result]:
    """`redisq keep` in the folder of the inner run."""
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")

    def run(*words: str, name: str = "Two drainers!", why: str = "LTRIM trims what another has read.") -> Result:
        result = CliRunner().invoke(main, ["keep", *words, "--name", name, "--why", why])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


def outcomes(pytester: pytest.Pytester, *args: str) -> dict[str, int]:
    return pytester.runpytest_subprocess("-q", *args).parseoutcomes()


def test_what_failed_is_kept_by_one_command_and_holds_once_it_is_cured(
    pytester: pytest.Pytester, keep: Callable[..., Result]
) -> None:
    broken = pytester.makepyfile(test_drainers=DRAINERS)
    assert outcomes(pytester, "-k", "each_job") == {"failed": 1, "deselected": 1}
    kept = keep()
    assert kept.exit_code == 0, kept.output
    (regression,) = read_regressions(Path("tests/regressions"))
    assert (regression.scenario, regression.schedule) == ("test_drainers.py::two_drainers", "AABBBA")
    assert (regression.verdict, regression.error, regression.file.stem) == ("holds", "AssertionError", "two-drainers")
    result = pytester.runpytest_subprocess("-q", "tests/regressions")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*AssertionError: assert [[]b'a', b'a',*",
            "*Two drainers!: it fails again. LTRIM trims what another has read.",
            "*1 * LLEN jobs → 2*",
            "*replay: redisq.replay(two_drainers, *",
        ]
    )
    broken.write_text(CURED)
    assert outcomes(pytester) == {"passed": 3}


@pytest.mark.slow
def test_a_scenario_that_no_module_has_is_kept_as_its_test(
    pytester: pytest.Pytester, keep: Callable[..., Result]
) -> None:
    broken = pytester.makepyfile(test_drainers=DRAINERS)
    assert outcomes(pytester, "-k", "twin") == {"failed": 1, "deselected": 1}
    assert keep("twin", "--verdict", "fails").exit_code == 0
    (regression,) = read_regressions(Path("tests/regressions"))
    assert (regression.test, regression.schedule) == ("test_drainers.py::test_one_drainer_and_its_twin", "AABBBA")
    assert outcomes(pytester, "tests/regressions") == {"passed": 1}
    broken.write_text(CURED)
    result = pytester.runpytest_subprocess("-q", "tests/regressions")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*it does not fail any more*", '*write verdict = "holds" in *two-drainers.toml'])


def test_a_history_is_kept_and_judged_again(pytester: pytest.Pytester, keep: Callable[..., Result]) -> None:
    pytester.makepyfile(LOSES)
    assert outcomes(pytester) == {"failed": 1}
    without = keep()
    assert without.exit_code == 2
    assert "--contract" in without.output
    assert keep("--contract", "at-least-once", "--verdict", "fails").exit_code == 0
    assert keep("--contract", "at-most-once", "--verdict", "fails", name="No loss").exit_code == 0
    result = pytester.runpytest_subprocess("-q", "tests/regressions")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*No loss: it does not fail any more*"])


def test_what_to_keep_has_to_be_clear(pytester: pytest.Pytester, keep: Callable[..., Result]) -> None:
    nothing = keep()
    assert (nothing.exit_code, "run the failing test first" in nothing.output) == (1, True)
    pytester.makepyfile(test_drainers=DRAINERS)
    assert outcomes(pytester) == {"failed": 2}
    both, neither = keep(), keep("no such test")
    assert "2 failures match; give a longer part of the name" in both.output
    assert "No failure matches 'no such test'. There are:" in neither.output
    assert keep("test_each_job").exit_code == 0
    assert "exists already" in keep("test_each_job").output


@pytest.mark.parametrize(
    ("name", "why", "words"),
    [
        ("a\x1b[31mred", "w", "name contains '\\x1b'; write text without control characters"),
        ("two\nlines", "w", "name contains '\\n'"),
        ("del\x7f", "w", "name contains '\\x7f'"),
        ("n", "\udcff", "why contains '\\udcff'"),
        ("!!!", "w", "--name '!!!' needs a letter or a digit"),
    ],
)
def test_keep_refuses_a_name_that_no_file_can_hold(
    pytester: pytest.Pytester, keep: Callable[..., Result], name: str, why: str, words: str
) -> None:
    (pytester.path / "a.schedule.json").write_text('{"schedule": "A", "test": "t.py::t"}')
    refused = keep("a.schedule.json", name=name, why=why)
    assert refused.exit_code == 1
    assert words in " ".join(refused.output.split())
    assert not Path("tests").exists()


def test_keep_takes_a_name_of_any_length_and_language(pytester: pytest.Pytester, keep: Callable[..., Result]) -> None:
    (pytester.path / "a.schedule.json").write_text('{"schedule": "A", "test": "t.py::t"}')
    for name in ("long " * 100, "キュー" * 100, 'quotes " \\ and ' + "é" * 300):
        kept = keep("a.schedule.json", name=name, why="first line\nsecond line")
        assert kept.exit_code == 0, kept.output
    assert [len(regression.name) for regression in read_regressions(Path("tests/regressions"))].count(500) == 1


@pytest.mark.parametrize("record", ["[]", "{}", "1", "[" * 100_000, '{"schedule": 5, "test": "t"}', "no JSON"])
def test_keep_tells_what_is_no_failure(pytester: pytest.Pytester, keep: Callable[..., Result], record: str) -> None:
    (pytester.path / "a.schedule.json").write_text(record)
    refused = keep("a.schedule.json")
    assert (refused.exit_code, "a.schedule.json cannot be kept: " in refused.output) == (1, True)
    assert not Path("tests").exists()


def test_a_broken_file_is_one_failing_test_and_hides_no_other(
    pytester: pytest.Pytester, keep: Callable[..., Result]
) -> None:
    """A typing mistake in one file must not end the collection of all."""
    pytester.makepyfile(test_drainers=CURED)
    (pytester.path / "a.schedule.json").write_text(
        '{"schedule": "A", "test": "test_drainers.py::test_each_job_is_drained_once"}'
    )
    assert keep("a.schedule.json").exit_code == 0
    folder = Path("tests/regressions")
    (folder / "control.toml").write_text('name = "\x01"')
    (folder / "not-utf-8.toml").write_bytes(b'name = "\xff"')
    (folder / "deep.toml").write_text("name = " + "[" * 5_000)
    (folder / "needs.toml").write_text('name="n"\nwhy="w"\nverdict="holds"\ntest="t.py::t"\nschedule="A"\nneeds=[1]')
    (folder / "folder.toml").mkdir()
    (folder / "nowhere.toml").symlink_to("no-such-file")
    result = pytester.runpytest_subprocess("-q", "tests/regressions")
    result.assert_outcomes(passed=1, failed=6)
    result.stdout.fnmatch_lines(["*control.toml: not a TOML file: Illegal character*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def regression(folder: Path, **said: object) -> Path:
    whole = {"name": "n", "why": "w", "verdict": "holds", "scenario": "a.py::f", "schedule": "AB"} | said
    file = folder / "regression.toml"
    file.write_text("".join(f"{key} = {value!r}\n" for key, value in whole.items() if value != "absent"))
    return file


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"verdict": "passes"}, "verdict = 'passes' must be one of holds, fails"),
        ({"why": " "}, "why must not be empty"),
        ({"why": "absent"}, "why missing"),
        ({"schedul": "AB"}, "unknown key 'schedul'. Did you mean 'schedule'?"),
        ({"schedule": "absent"}, "schedule is missing"),
        ({"schedule": "A!"}, "not a schedule: 'A!'"),
        ({"needs": ["redis >"]}, "needs 'redis >', which is not a valid requirement: "),
        ({"history": "h.jsonl"}, "one of scenario, test and history"),
        ({"scenario": "absent", "history": "h.jsonl", "contract": "twice"}, "twice"),
    ],
)
def test_an_entry_that_makes_no_sense_is_told_with_its_file(
    tmp_path: Path, said: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        read_regression(regression(tmp_path, **said))


def test_an_entry_is_read_as_it_was_written(tmp_path: Path) -> None:
    whole: dict[str, Any] = {"name": 'a "name"', "why": "because\nof ⚡", "verdict": "fails", "test": "t.py::t[1]"}
    written = Regression(file=tmp_path / "e.toml", **whole, schedule="AxB", needs=("rq==3.0.0",))
    written.file.write_text(written.text(), encoding="utf-8")
    assert read_regression(written.file) == written
    assert written.missing() == "rq==3.0.0"


@pytest.mark.parametrize(
    ("need", "is_there"),
    [("redis", True), ("redis>=5.2", True), ("redis<5.2", False), ("redis==1.0", False), ("no-such-library>=1", False)],
)
def test_what_an_entry_needs_is_there_or_not(tmp_path: Path, need: str, is_there: bool) -> None:
    whole: dict[str, Any] = {"name": "n", "why": "w", "verdict": "fails", "test": "t.py::t", "schedule": "A"}
    assert Regression(file=tmp_path / "e.toml", **whole, needs=(need,)).missing() == ("" if is_there else need)


def test_a_scenario_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def scenario(world): ...\n")
    assert callable(find("a.py::scenario", tmp_path))
    for place, words in (("b.py::f", "FILE.py::FUNCTION"), ("a.py::scenari", "Did you mean 'scenario'?")):
        with pytest.raises(ValueError, match=re.escape(words)):
            find(place, tmp_path)
