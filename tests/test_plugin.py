"""The plugin's hooks: options and their errors, the line about the server, what a run without redisq pays."""

from __future__ import annotations

import subprocess
import sys

import pytest
from syrupy.assertion import SnapshotAssertion

from tests.inner import ONE_TEST, InnerRuns
from tests.support import local_kind

HEAVY = ("redis", "testcontainers", "docker", "hypothesis", "locust", "asyncio", "click", "rich", "multiprocessing")


def test_loading_the_plugin_imports_nothing_heavy() -> None:
    """Beside what pytest itself has loaded, in this very process, before the plugin came."""
    code = f"""
import sys, pytest, _pytest.config
_pytest.config.get_config()
before = set(sys.modules)
import pytest_redisq.plugin
new = set(sys.modules) - before
print(sorted(name for name in new if name.split(".")[0] in {HEAVY}))
print(sorted(name for name in new if name.startswith("pytest_redisq")))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy, ours = run.stdout.splitlines()
    assert heavy == "[]"
    assert ours == "['pytest_redisq', 'pytest_redisq.option_table', 'pytest_redisq.plugin']"


def test_a_run_without_redisq_says_nothing_and_imports_nothing(inner: InnerRuns) -> None:
    inner.file("test_plain.py", "def test_plain(): pass")
    result = inner.run("--redisq-server=process", "--redisq-persistence=aof")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("redisq:*")
    result.stdout.fnmatch_lines("redis imported: False")


@pytest.mark.server
def test_the_line_says_which_server_and_why_once_above_the_tests(inner: InnerRuns) -> None:
    inner.file("test_one.py", ONE_TEST)
    result = inner.run()
    result.assert_outcomes(passed=1)
    lines = [line for line in result.outlines if line.startswith("redisq: ")]
    assert len(lines) == 1
    result.stdout.re_match_lines(
        [r"collected 1 item", r"redisq: (redis|valkey) \d+\.\d+\.\d+, \w+, .+ \(.+\)$", r"test_one.py \."]
    )


def test_a_quiet_run_has_no_line(inner: InnerRuns) -> None:
    inner.file("test_one.py", ONE_TEST)
    result = inner.run("-q")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("redisq:*")


@pytest.mark.parametrize("option", ["--collect-only", "--setup-plan", "--fixtures", "--fixtures-per-test"])
def test_looking_does_not_start_a_server(inner: InnerRuns, option: str) -> None:
    inner.file("test_one.py", ONE_TEST)
    result = inner.run(option)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("redisq: *")
    result.stdout.fnmatch_lines("redis imported: False")


def test_tests_that_were_deselected_do_not_start_a_server(inner: InnerRuns) -> None:
    inner.file("test_one.py", ONE_TEST + "def test_plain(): pass")
    result = inner.run("-k", "plain")
    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines("redis imported: False")


def test_fixtures_explain_themselves(inner: InnerRuns, snapshot: SnapshotAssertion) -> None:
    text = inner.run("--fixtures").stdout.str()
    start = text.index("fixtures defined from pytest_redisq.plugin")
    section = text[start : text.index("-----", start + 60)] if "-----" in text[start + 60 :] else text[start:]
    assert inner.normal(section.partition("\n\n\n")[0]) == snapshot


def test_the_options_explain_themselves(inner: InnerRuns, snapshot: SnapshotAssertion) -> None:
    text = inner.run("--help").stdout.str()
    start = text.index("redisq: a real Redis")
    assert text[start : text.index("\n\n", start)] == snapshot


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--redisq-server=dokcer",), id="mistyped server"),
        pytest.param(("--redisq-sever=docker",), id="mistyped flag"),
        pytest.param(("--redisq-server=process", "--redisq-image=valkey:9.1"), id="image for a process"),
        pytest.param(("--redisq-server=redis://db", "--redisq-server-arg=save ''"), id="server argument for a URL"),
        pytest.param(("-o", "redisq_persistence=afo"), id="mistyped by -o"),
    ],
)
def test_bad_options_end_the_run_before_it_begins(
    inner: InnerRuns, snapshot: SnapshotAssertion, options: tuple[str, ...]
) -> None:
    """With one error message, and without a traceback."""
    inner.file("test_one.py", ONE_TEST)
    result = inner.run(*options, environ={"REDISQ_SERVER": None})
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert inner.normal(result.stderr.str()) == snapshot


def test_a_bad_environment_variable_or_ini_setting_is_named(inner: InnerRuns) -> None:
    inner.file("test_one.py", ONE_TEST)
    result = inner.run(environ={"REDISQ_SERVER": "porcess"})
    result.stderr.fnmatch_lines("ERROR: REDISQ_SERVER: 'porcess' is not a server. Did you mean 'process'?*")
    inner.file("pytest.ini", "[pytest]\nredisq_server = embeded\n")
    result = inner.run(environ={"REDISQ_SERVER": None})
    result.stderr.fnmatch_lines(
        "ERROR: redisq_server in pytest.ini: 'embeded' is not a server. Did you mean 'embedded'?*"
    )


def test_flags_of_others_and_flags_known_to_a_conftest_pass(inner: InnerRuns) -> None:
    """Only unknown names cause a warning."""
    inner.file("conftest.py", "def pytest_addoption(parser): parser.addoption('--redisq-sever')")
    inner.file("test_plain.py", "def test_plain(): pass")
    inner.run("--redisq-sever=x").assert_outcomes(passed=1)
    inner.run("--no-such-flag").stderr.fnmatch_lines("*unrecognized arguments: --no-such-flag*")


def test_an_unknown_variable_gets_a_warning_with_the_nearest_name(inner: InnerRuns) -> None:
    inner.file("test_plain.py", "def test_plain(): pass")
    result = inner.run("-W", "default", environ={"REDISQ_SEVER": "docker"})
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(
        "*PytestConfigWarning: REDISQ_SEVER is not a variable of pytest-redisq. Did you mean 'REDISQ_SERVER'?"
    )


def test_a_flag_beats_minus_o_beats_the_environment_beats_the_ini_file(inner: InnerRuns) -> None:
    kind = local_kind()
    inner.file("test_one.py", ONE_TEST)
    inner.file("pytest.ini", f"[pytest]\nredisq_server = {kind}\n")
    steps: list[tuple[tuple[str, ...], str | None, str]] = [
        ((), None, "(redisq_server in pytest.ini)"),
        ((), kind, "(REDISQ_SERVER)"),
        (("-o", f"redisq_server={kind}"), "docker", "(-o redisq_server)"),
        (("-o", "redisq_server=docker", f"--redisq-server={kind}"), "docker", "(--redisq-server)"),
    ]
    for options, variable, reason in steps:
        result = inner.run(*options, environ={"REDISQ_SERVER": variable})
        result.assert_outcomes(passed=1)
        assert [line.endswith(reason) for line in result.outlines if line.startswith("redisq: ")] == [True]
