"""The state of one process of a pytest run: its server, shared with other processes, and its tests' namespaces."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pytest_redisq import failure_store, interrupts
from pytest_redisq.errors import DeliveryError, RedisqError, ScheduleError
from pytest_redisq.options import OptionError, OptionSource, keywords, resolve
from pytest_redisq.secret import Secret, Url, masked
from pytest_redisq.servers.choose import start
from pytest_redisq.servers.supervisor import end_when_orphaned
from pytest_redisq.terminal import degrade, note_width

if TYPE_CHECKING:
    from pytest_redisq.activity_log import ActivityLog
    from pytest_redisq.servers import Namespace, Namespaces, Server

#: Lines of the server's log that a failure report shows.
LOG_LINES = 20


class FixtureContext(NamedTuple):
    """What the fixtures of one test work with."""

    server: Server
    namespace: Namespace
    #: Whether tests run on the server at the same time in other processes.
    shared: bool
    #: Where failing schedules are kept between runs; None: nowhere.
    failure_folder: Path | None = None
    #: The one schedule to replay, as it is written; None: explore.
    schedule: str | None = None
    #: Whether what proves less than it was asked for fails the test.
    strict: bool = False
    #: Shows a line of progress in place of the previous one; None: progress is not shown.
    tell: Callable[[str], None] | None = None


#: Whether a phase of the test has failed or skipped it so far.
FAILED = pytest.StashKey[bool]()

#: The context of a test that uses redisq fixtures.
FIXTURE_CONTEXT = pytest.StashKey[FixtureContext]()


class Session:
    """The server and namespaces of one process of a pytest run.

    The server starts at first use. If the start fails, it is not repeated, and each test that needs it fails with the
    same message. Everything is released by `close`. `sources`: where the settings come from, highest precedence first.
    """

    def __init__(self, config: pytest.Config, sources: Sequence[OptionSource]) -> None:
        self._config = config
        self._sources = sources
        self._failure = ""
        self._notes: list[str] = []
        self._shared: tuple[Server, Namespaces] | None = None
        self._held = contextlib.ExitStack()
        self._held.enter_context(interrupts.repeated_where_lost())
        config.pluginmanager.register(_Masks(), "redisq-masks")
        written_to = getattr(config.get_terminal_writer(), "_file", None) if self.worker is None else None
        degrade(written_to)
        note_width(written_to)
        if self.worker is not None:
            # execnet also ends a worker, but 5 to 15 s after its controller was killed; its results are lost anyway.
            end_when_orphaned()

    @property
    def worker(self) -> dict[str, Any] | None:
        """The `workerinput` of pytest-xdist; None if this process is not an xdist worker."""
        return getattr(self._config, "workerinput", None)

    def server(self) -> Server:
        """The server that all processes of this run share. Fails the test without a traceback if it cannot start."""
        return self._start()[0]

    def header(self) -> str:
        """The header line about the server. Starts the server."""
        try:
            return f"redisq: {self.server().header()}"
        except pytest.fail.Exception:
            return f"redisq: no server: {self._failure.splitlines()[0]}"

    @functools.cached_property
    def log(self) -> ActivityLog:
        """Collects what the tests of this process do with redisq."""
        from pytest_redisq.activity_log import ActivityLog  # with all that the facade imports

        return ActivityLog()

    @property
    def started(self) -> bool:
        """Whether the shared server was started."""
        return self._shared is not None

    def activity(self) -> dict[str, Any] | None:
        """What was done with redisq since the last call, as plain values; None: nothing."""
        taken = self.log.take() if "log" in vars(self) else None
        return taken.as_json() if taken else None

    @contextlib.contextmanager
    def fixture_context(self, settings: Mapping[str, object] | None = None) -> Iterator[FixtureContext]:
        """An empty namespace of the shared server, or with `settings` of a dedicated server that no other test uses."""
        with contextlib.ExitStack() as held:
            with _failing_shortly():
                if settings is None:
                    server, namespaces = self._start()
                else:
                    server, namespaces = self._start_dedicated(settings, "redisq_dedicated", held)
                namespace = held.enter_context(namespaces.namespace())
            if not self._config.pluginmanager.hasplugin("redisq-reports"):
                self._config.pluginmanager.register(_Reports(self), "redisq-reports")
            yield FixtureContext(
                server,
                namespace,
                shared=settings is None and self.worker is not None,
                **self._same_for_all,
            )

    @functools.cached_property
    def _same_for_all(self) -> dict[str, Any]:
        """The fields that are the same for all tests of this process."""
        settings = resolve(self._sources)
        return {
            "failure_folder": _folder(self._config),
            "schedule": settings.replay,
            "strict": settings.strict,
            "tell": _teller(self._config),
        }

    def dedicated(self, settings: Mapping[str, object], where: str, held: contextlib.ExitStack) -> Server:
        """Start a dedicated server, which runs until `held` is closed.

        `settings`: options by name; they take precedence over all other sources. `where`: the name of the function that
        took them, for error messages.
        """
        with _failing_shortly():
            return self._start_dedicated(settings, where, held)[0]

    def close(self) -> None:
        """Release everything. An xdist worker sends its remaining notes to the controller."""
        try:
            with _failing_shortly():
                self._held.close()
        except pytest.fail.Exception as failure:
            self.tell(str(failure))
        if self.worker is not None and self._notes:
            self._config.workeroutput["redisq_notes"] = self.notes()  # type: ignore[attr-defined]

    def notes(self) -> list[str]:
        """The notes of an xdist worker since the last call. It has no terminal, so its controller prints them."""
        notes, self._notes = self._notes, []
        return notes

    def tell(self, text: str) -> None:
        """Print a note about keys on the user's own server now; an xdist worker sends it to the controller."""
        line = f"redisq: {text}"
        if self.worker is not None:
            self._notes.append(line)
            return
        terminal: pytest.TerminalReporter | None = self._config.pluginmanager.getplugin("terminalreporter")
        capture = self._config.pluginmanager.getplugin("capturemanager")
        if terminal is not None:
            with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
                write_note(terminal, line)

    def _start(self) -> tuple[Server, Namespaces]:
        if self._failure:
            pytest.fail(self._failure, pytrace=False)
        if self._shared is None:
            try:
                with _failing_shortly():
                    server = self._share_or_start()
            except pytest.fail.Exception as failure:
                self._failure = str(failure)
                raise
            self._shared = server, self._namespaces(server, self._held)
        return self._shared

    def _share_or_start(self) -> Server:
        settings = resolve(self._sources)
        if self.worker is not None:
            from pytest_redisq.servers.share import share

            return self._held.enter_context(share(settings, self.worker["testrunuid"]))
        server = start(settings)
        self._held.callback(server.stop)
        return server

    def _start_dedicated(
        self, settings: Mapping[str, object], where: str, held: contextlib.ExitStack
    ) -> tuple[Server, Namespaces]:
        server = start(resolve([keywords(settings, where), *self._sources]))
        held.callback(server.stop)
        return server, self._namespaces(server, held)

    def _namespaces(self, server: Server, held: contextlib.ExitStack) -> Namespaces:
        from pytest_redisq.servers.namespace import Namespaces

        namespaces = Namespaces(server, self.tell)
        held.callback(namespaces.close)
        return namespaces


def write_note(terminal: pytest.TerminalReporter, line: str) -> None:
    """On a line of its own, wherever the progress stands."""
    terminal.ensure_newline()
    if terminal._tw.width_of_current_line:  # after an earlier note, what it writes is on a line that it does not know
        terminal.write_line("")
    terminal.write_line(line)


def _folder(config: pytest.Config) -> Path | None:
    """The folder of the failure store; None if pytest's cache is switched off (`-p no:cacheprovider`)."""
    return config.rootpath / failure_store.FOLDER if hasattr(config, "cache") else None


def _teller(config: pytest.Config) -> Callable[[str], None] | None:
    """Returns a function that replaces the terminal's current line; None without a terminal or without `-v`."""
    terminal: pytest.TerminalReporter | None = config.pluginmanager.getplugin("terminalreporter")
    capture = config.pluginmanager.getplugin("capturemanager")
    if terminal is None or capture is None or terminal.verbosity < 1 or not terminal.isatty:
        return None

    def tell(line: str) -> None:
        with capture.global_and_fixture_disabled():
            terminal.rewrite(line, erase=True)
            terminal.flush()
        if not line:
            terminal.currentfspath = None  # the test's name, which was there, is to be written again with the outcome

    return tell


@contextlib.contextmanager
def _failing_shortly() -> Iterator[None]:
    """Turn errors that are written for the user into a test failure without a traceback."""
    try:
        yield
    except (OptionError, RedisqError) as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


def _how_to_replay(item: pytest.Item, error: ScheduleError) -> str:
    # An empty schedule, where it fails before the first command, needs none: the first that is tried does.
    flag = f" --redisq-replay {error.schedule}" if error.schedule else ""
    replay = f"Run it alone: pytest {shlex.quote(item.nodeid)}{flag}"
    if error.picture is None:
        return replay
    return f"{replay}\nAs a picture: {os.path.relpath(error.picture)}\nIt is kept there, and tried first from now on."


def _is_about_the_server(error: BaseException) -> bool:
    """Whether the server's log may explain the failure: a broken contract, a failed run, a lost connection, OOM."""
    import redis

    about = (redis.ConnectionError, redis.TimeoutError, redis.exceptions.OutOfMemoryError)
    return isinstance(error, (DeliveryError, RedisqError, *about))


def _begin_with_the_point(report: pytest.TestReport, error: BaseException) -> None:
    """Take the module's name from the line that pytest's summary shows, which is cut off at the terminal's width."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None and type(error).__module__.startswith("pytest_redisq."):
        crash.message = crash.message.removeprefix(f"{type(error).__module__}.")


class _Masks:
    """Takes the passwords that this process knows out of all that pytest reports: a failing frame of a client library
    shows them with `--showlocals`, a difference of two texts with `assert`.
    """

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        report.longrepr, report.sections = _mask(report.longrepr), _mask(report.sections)
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self, excrepr: object) -> None:
        _mask(excrepr)

    @pytest.hookimpl(tryfirst=True)
    def pytest_assertrepr_compare(self, op: str, left: object, right: object) -> list[str] | None:
        """Of a URL no difference is shown, which would cut its password in two."""
        if not isinstance(left, (Url, Secret)) and not isinstance(right, (Url, Secret)):
            return None
        return [masked(f"{left!r} {op} {right!r}")]


def _mask(thing: object) -> Any:
    """`thing` without passwords: text, containers of it, and in place whatever pytest shows on a terminal."""
    if isinstance(thing, str):
        return masked(thing)
    if type(thing) in (list, tuple):
        return type(thing)(map(_mask, thing))  # type: ignore[call-overload, call-arg]
    if hasattr(thing, "toterminal"):
        for name, value in vars(thing).items():
            setattr(thing, name, _mask(value))
    return thing


class _Reports:
    """Adds sections to failure reports: the history, the schedule, and the end of the server's log."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._told = session.worker is None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        if call.excinfo is not None and (interrupt := interrupts.interrupt_behind(call.excinfo.value)):
            raise interrupt
        report = yield
        if call.excinfo is not None:
            item.stash[FAILED] = True
            _begin_with_the_point(report, call.excinfo.value)
        place = item.stash.get(FIXTURE_CONTEXT, None)
        about_the_server = call.excinfo is not None and _is_about_the_server(call.excinfo.value)
        if call.excinfo is not None and isinstance(call.excinfo.value, DeliveryError):
            report.sections.append(("redisq: the history", self._keep_history(item, call.excinfo.value)))
        if call.excinfo is not None and isinstance(call.excinfo.value, ScheduleError) and call.excinfo.value.__cause__:
            report.sections.append(("redisq: the schedule", _how_to_replay(item, call.excinfo.value)))
        if about_the_server and place is not None and place.server.supervisor is not None:
            log = "\n".join(place.server.log().splitlines()[-LOG_LINES:])
            report.sections.append(("redisq: the end of the server's log", log))
        if not self._told and self._session.started:
            # An xdist controller has no server of its own to speak of: the first report brings it the news.
            report.redisq_header = self._session.header()  # type: ignore[attr-defined]
            self._told = True
        if notes := self._session.notes():
            report.redisq_notes = notes  # type: ignore[attr-defined]
        if activity := self._session.activity():
            report.redisq_activity = activity  # type: ignore[attr-defined]
        return report

    @pytest.hookimpl
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Show the failure that was being shrunk when Ctrl-C came: no report will."""
        failure = excinfo.value.__cause__
        if isinstance(failure, ScheduleError):
            self._session.tell(str(failure))

    def _keep_history(self, item: pytest.Item, error: DeliveryError) -> str:
        """Write the judged history to the failure store; returns the text of the report section."""
        from pytest_redisq.history import History, write_history  # a green run has no use for it

        folder = _folder(item.config)
        if folder is None or not isinstance(error.history, History):
            return "The history was not saved: pytest's cache is switched off."
        path = folder / f"{failure_store.file_name(item.nodeid)}{failure_store.HISTORY}"
        try:
            failure_store.make(folder)
            write_history(error.history, path)
        except OSError as hindrance:
            return f"The history was not saved: {hindrance}"
        return f"One JSON line for each operation: {path}\nCheck it again: redisq check {path} CONTRACT"
