"""pytest's side: options, header, fixtures, failure sections. Parse, delegate, print.

Every pytest run in an environment with this package imports this module. So at import it loads pytest and the option
table, and nothing else. What a fixture needs is imported when the fixture is used; hence the imports inside functions.
Hooks that pytest calls for each test are registered only in runs that have a server.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Unpack

import pytest

from pytest_redisq.option_table import OPTIONS, Option

if TYPE_CHECKING:
    import redis
    import redis.asyncio

    from pytest_redisq.activity_log import ActivityLog
    from pytest_redisq.facade import Redisq
    from pytest_redisq.keywords import ServerKeywords, StartServer
    from pytest_redisq.options import OptionSource
    from pytest_redisq.servers import Server
    from pytest_redisq.session import FixtureContext, Session

#: The fixtures that need the run's server. A test that asks for one, however indirectly, has it among its names.
_NEED_SERVER = frozenset(
    {"redisq", "redisq_async_client", "redisq_client", "redisq_server", "redisq_session", "redisq_url"}
)

_MARKER = (
    "redisq_dedicated(**settings): give this test a dedicated server, which it may restart, kill, pause and configure; "
    "settings are the options by name: persistence='aof', image='valkey:9.1', ..."
)

_SESSION = pytest.StashKey["Session"]()


def _session(config: pytest.Config) -> Session:
    """The `Session` of this process, created at first use."""
    from pytest_redisq.session import Session

    if _SESSION not in config.stash:
        config.stash[_SESSION] = Session(config, _sources(config))
    return config.stash[_SESSION]


class _Controller:
    """Prints what xdist workers report: the server's header line once, and notes about keys on the user's server."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._headed = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        header: str | None = getattr(report, "redisq_header", None)
        if header is not None and not self._headed:
            self._headed = True
            terminal: pytest.TerminalReporter | None = self._config.pluginmanager.getplugin("terminalreporter")
            if terminal and terminal.verbosity >= 0:
                from pytest_redisq.terminal import degrade

                degrade(getattr(terminal._tw, "_file", None))
                terminal.ensure_newline()
                terminal.write_line(header)
        self._show(getattr(report, "redisq_notes", ()))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, Any, Any]:
        """The tests of the workers end by a Ctrl-C that this process gets, and that Python must not lose."""
        from pytest_redisq.interrupts import repeated_where_lost

        with repeated_where_lost():
            return (yield)

    def pytest_testnodedown(self, node: Any) -> None:
        self._show(getattr(node, "workeroutput", {}).get("redisq_notes", ()))

    def _show(self, notes: Iterable[str]) -> None:
        terminal: pytest.TerminalReporter | None = self._config.pluginmanager.getplugin("terminalreporter")
        if notes and terminal:
            from pytest_redisq.session import write_note

            for note in notes:
                write_note(terminal, note)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("redisq", "redisq: a real Redis or Valkey for tests")
    for option in OPTIONS:
        group.addoption(
            option.flag,
            dest=option.ini,
            metavar=option.metavar,
            action="append" if option.repeatable else "store",
            help=f"{option.help} (also {option.ini} in the ini file, {option.env} in the environment)",
        )
        ini_type: Literal["linelist", "string"] = "linelist" if option.repeatable else "string"
        parser.addini(option.ini, option.help, type=ini_type, default=None)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(parser: pytest.Parser, args: list[str]) -> Generator[None]:
    """Reject misspelt --redisq options with a suggestion, once all plugins have registered theirs."""
    yield
    known = {option.flag for option in OPTIONS}
    doubtful = {word for word in args if word.startswith("--redisq") and word.partition("=")[0] not in known}
    if doubtful:
        from pytest_redisq.options import unknown_flag

        for argument in parser.parse_known_and_unknown_args(args)[1]:
            if argument in doubtful:
                raise pytest.UsageError(unknown_flag(argument))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)
    if any(_is_given(option, config) for option in OPTIONS):
        from pytest_redisq.options import OptionError, resolve

        try:
            resolve(_sources(config))
        except OptionError as error:
            raise pytest.UsageError(str(error)) from None
    if hasattr(config, "workerinput"):
        return
    if strange := {name for name in os.environ if name.startswith("REDISQ_")} - {option.env for option in OPTIONS}:
        from pytest_redisq.options import unknown_variables

        for warning in unknown_variables(strange):
            config.issue_config_time_warning(pytest.PytestConfigWarning(warning), stacklevel=2)
    if config.getoption("dist", "no") != "no":
        config.pluginmanager.register(_Controller(config), "redisq-controller")


def _is_given(option: Option, config: pytest.Config) -> bool:
    return config.getoption(option.ini) is not None or option.env in os.environ or config.getini(option.ini) is not None


def _sources(config: pytest.Config) -> list[OptionSource]:
    """The sources of options, highest precedence first."""
    from pytest_redisq.options import OptionSource, environment, flags

    overridden = {override.partition("=")[0] for override in config.getoption("override_ini") or ()}
    ini = {o.name: value for o in OPTIONS if (value := config.getini(o.ini)) is not None}
    place = config.inipath.name if config.inipath else "the ini file"
    by_hand = {o.name: ini.pop(o.name) for o in OPTIONS if o.ini in overridden and o.name in ini}
    return [
        flags(vars(config.option)),
        OptionSource(values=by_hand, origin=lambda o: f"-o {o.ini}"),
        environment(os.environ),
        OptionSource(values=ini, origin=lambda o: f"{o.ini} in {place}"),
    ]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the server before the first test if a test needs it.

    Its header line belongs above the tests, and plugins that fork for each test must find it running.
    """
    if _will_need_server(session.config, session.items):
        _session(session.config).header()


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    quiet = config.get_verbosity() < 0
    return [_session(config).header()] if not quiet and _will_need_server(config, items) else []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of the conformance kit if it ran, and the summary; under xdist both come with the reports."""
    reports = [each for some in terminalreporter.stats.values() for each in some]
    _summarize(terminalreporter, [each.redisq_activity for each in reports if hasattr(each, "redisq_activity")])
    calls = [each for each in reports if getattr(each, "when", "") == "call"]
    rows = [(row, each.outcome) for each in calls for name, row in each.user_properties if name == "redisq_conformance"]
    if rows:
        from pytest_redisq.report.conformance_table import conformance_table

        terminalreporter.section("redisq: conformance")
        for line in conformance_table(rows):
            terminalreporter.write_line(line)


def _summarize(terminal: pytest.TerminalReporter, activities: list[dict[str, Any]]) -> None:
    """Print what the tests did with redisq, if they did anything: one line under -q, nothing under -qq."""
    if not activities or terminal.verbosity < -1:
        return
    from pytest_redisq.report.activity import Activity

    total = Activity()
    for activity in activities:
        total.add(Activity.from_json(activity))
    if terminal.verbosity < 0:
        terminal.write_line(f"redisq: {total.line()}")
        return
    terminal.section("redisq: summary")
    for line in total.lines():
        terminal.write_line(line)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Release the server. Runs after pytest has ended the session fixtures, which may use the server."""
    if _SESSION in session.config.stash:
        session.config.stash[_SESSION].close()
    if "pytest_redisq.servers.temporary_folder" in sys.modules:
        from pytest_redisq.servers.temporary_folder import remove_temporary_folder

        remove_temporary_folder()


@pytest.hookimpl(tryfirst=True)
def pytest_keyboard_interrupt(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Give each traceback entry a line number, without which pytest fails to report the interrupt."""
    from pytest_redisq.interrupts import give_lines

    give_lines(excinfo.value)
    if excinfo.value.__traceback__ is not None:
        excinfo.traceback = type(excinfo.traceback)(excinfo.value.__traceback__)


def _will_need_server(config: pytest.Config, items: list[pytest.Item]) -> bool:
    looking = ("collectonly", "setupplan", "showfixtures", "show_fixtures_per_test")
    if any(config.getoption(name, False) for name in looking):
        return False
    return any(
        not _NEED_SERVER.isdisjoint(getattr(item, "fixturenames", ()))
        and item.get_closest_marker("redisq_dedicated") is None
        for item in items
    )


@pytest.fixture(scope="session")
def redisq_server(request: pytest.FixtureRequest) -> Server:
    """The Redis or Valkey that all tests and xdist workers of this run share: url, version, client(), log() …"""
    return _session(request.config).server()


@pytest.fixture(scope="session")
def redisq_start(request: pytest.FixtureRequest) -> Iterator[StartServer]:
    """Start a dedicated server: redisq_start(persistence="aof", server_args=["maxmemory 10mb"]).

    The keywords are the options by name.     The server ends when you call stop() on it, or at the end of the run.
    """
    session = _session(request.config)
    with contextlib.ExitStack() as held:

        def start(**settings: Unpack[ServerKeywords]) -> Server:
            return session.dedicated(settings, "redisq_start", held)

        yield start


@pytest.fixture
def _redisq_context(request: pytest.FixtureRequest) -> Iterator[FixtureContext]:
    """The context of this test: a namespace of the shared server, or of a dedicated one if its marker asks for it."""
    from pytest_redisq.session import FIXTURE_CONTEXT

    marker = request.node.get_closest_marker("redisq_dedicated")
    if marker is not None and marker.args:
        named = ", ".join(map(repr, marker.args))
        pytest.fail(f"redisq_dedicated({named}): name the setting, as in persistence='aof'.", pytrace=False)
    with _session(request.config).fixture_context(None if marker is None else marker.kwargs) as place:
        request.node.stash[FIXTURE_CONTEXT] = place
        yield place


@pytest.fixture
def redisq_client(_redisq_context: FixtureContext) -> redis.Redis:
    """A redis.Redis client of this test's namespace, which is empty at the start; replies are bytes."""
    return _redisq_context.namespace.client


@pytest.fixture
def redisq_url(_redisq_context: FixtureContext) -> str:
    """The URL of this test's namespace, for other clients and programs."""
    return _redisq_context.namespace.url


@pytest.fixture
def redisq_async_client(_redisq_context: FixtureContext) -> Iterator[redis.asyncio.Redis]:
    """A redis.asyncio.Redis client of this test's namespace, for pytest-asyncio (both modes), anyio and unittest."""
    from pytest_redisq.servers.async_client import closing_with_its_loop

    with closing_with_its_loop(_redisq_context.namespace.async_client) as client:
        yield client


def _kit(*args: Any, **options: Any) -> str:
    """Runs `redisq.conformance`. Imports Hypothesis, or raises an error that says how to install it."""
    __tracebackhide__ = True
    from pytest_redisq.properties import check_conformance

    return check_conformance(*args, **options)


@pytest.fixture
def redisq(_redisq_context: FixtureContext, request: pytest.FixtureRequest) -> Iterator[Redisq]:
    """A private namespace on a real Redis: client, url, server, queues; run(), explore(), load() and conformance()."""
    from pytest_redisq.facade import Redisq

    log = _session(request.config).log
    with Redisq(**_redisq_context._asdict(), kit=_kit, log=log) as facade:
        yield facade
    _look_for_unjudged(log, request, strict=_redisq_context.strict)


@pytest.fixture(scope="session")
def redisq_session(request: pytest.FixtureRequest) -> Iterator[Redisq]:
    """Like redisq, but one namespace for the whole run (of this xdist worker), for fixtures of wider scope."""
    from pytest_redisq.facade import Redisq

    session = _session(request.config)
    with session.fixture_context() as place, Redisq(**place._asdict(), kit=_kit, log=session.log) as facade:
        yield facade
    _look_for_unjudged(session.log, request, strict=place.strict)


def _look_for_unjudged(log: ActivityLog, request: pytest.FixtureRequest, *, strict: bool) -> None:
    """Warn about runs that were never judged, unless the test has failed anyway. Strictly, they fail it."""
    from pytest_redisq.activity_log import unjudged, warn_unjudged
    from pytest_redisq.session import FAILED

    runs = log.close_runs()
    if request.node.stash.get(FAILED, False):
        return
    if strict and runs:
        pytest.fail("\n".join(map(unjudged, runs)), pytrace=False)
    warn_unjudged(runs)
