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
from pytest_redisq.terminal import degrade

if TYPE_CHECKING:
    from pytest_redisq.servers import Namespace, Namespaces, Server

#: Lines of the server's log that a failure report shows.
LOG_LINES = 20


class FixtureContext(NamedTuple):
    """Where one test works."""

    server: Server
    namespace: Namespace
    #: Whether tests run on the server at the same time in other processes.
    shared: bool
    #: Where failing schedules are kept between runs; None: nowhere.
    failure_folder: Path | None = None
    #: The one schedule to replay, as it is written; None: explore.
    schedule: str | None = None
    #: Writes a line over the one before it; None: nobody wants to see it.
    tell: Callable[[str], None] | None = None


#: Where a test that uses a namespace works.
FIXTURE_CONTEXT = pytest.StashKey[FixtureContext]()


class Session:
    """The server is got at first need; that is tried once, and the failure is every test's. All is held until `close`.

    `sources` give the settings, the nearest first.
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
        degrade(getattr(config.get_terminal_writer(), "_file", None) if self.worker is None else None)
        if self.worker is not None:
            # execnet ends a worker too, 5 to 15 s after its controller was killed. Nobody hears of its results then.
            end_when_orphaned()

    @property
    def worker(self) -> dict[str, Any] | None:
        """What xdist tells its workers; None where this process is none."""
        return getattr(self._config, "workerinput", None)

    def server(self) -> Server:
        """The server that all processes of this run share. Fails the test, without a traceback, if there is none."""
        return self._start()[0]

    def header(self) -> str:
        """The one line about the server, which it starts for that."""
        try:
            return f"redisq: {self.server().header()}"
        except pytest.fail.Exception:
            return f"redisq: no server: {self._failure.splitlines()[0]}"

    @contextlib.contextmanager
    def fixture_context(self, settings: Mapping[str, object] | None = None) -> Iterator[FixtureContext]:
        """A clean namespace of the shared server, or of one with `settings` that nobody else uses."""
        with contextlib.ExitStack() as held:
            with _failing_shortly():
                if settings is None:
                    server, namespaces = self._start()
                else:
                    server, namespaces = self._start_dedicated(settings, "redisq_dedicated", held)
                namespace = held.enter_context(namespaces.namespace())
            yield FixtureContext(
                server,
                namespace,
                shared=settings is None and self.worker is not None,
                **self._same_for_all,
            )

    @functools.cached_property
    def _same_for_all(self) -> dict[str, Any]:
        """What the places of all tests have in common, made once."""
        return {
            "failure_folder": _folder(self._config),
            "schedule": resolve(self._sources).replay,
            "tell": _teller(self._config),
        }

    def dedicated(self, settings: Mapping[str, object], where: str, held: contextlib.ExitStack) -> Server:
        """A server until `held` is closed, with `settings` before all others; `where` is what errors call them."""
        with _failing_shortly():
            return self._start_dedicated(settings, where, held)[0]

    def close(self) -> None:
        """Give everything back. What a worker has still to tell goes with its last word to the controller."""
        try:
            with _failing_shortly():
                self._held.close()
        except pytest.fail.Exception as failure:
            self._tell(str(failure))
        if self.worker is not None and self._notes:
            self._config.workeroutput["redisq_notes"] = self.notes()  # type: ignore[attr-defined]

    def notes(self) -> list[str]:
        """What a worker has to tell since it was asked last: it has no terminal, and its controller shows it."""
        notes, self._notes = self._notes, []
        return notes

    def _tell(self, text: str) -> None:
        """A line about keys on somebody's own server, at once."""
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
            self._config.pluginmanager.register(_Reports(self), "redisq-reports")
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

        namespaces = Namespaces(server, self._tell)
        held.callback(namespaces.close)
        return namespaces


def write_note(terminal: pytest.TerminalReporter, line: str) -> None:
    """On a line of its own, wherever the progress stands."""
    terminal.ensure_newline()
    if terminal._tw.width_of_current_line:  # after an earlier note, what it writes is on a line that it does not know
        terminal.write_line("")
    terminal.write_line(line)


def _folder(config: pytest.Config) -> Path | None:
    """Where what failed is kept between runs; None where pytest is to keep nothing (`-p no:cacheprovider`)."""
    return config.rootpath / failure_store.FOLDER if hasattr(config, "cache") else None


def _teller(config: pytest.Config) -> Callable[[str], None] | None:
    """Writes over the terminal's current line, where somebody watches (`-v`, and it is a terminal)."""
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
    """An error that is written for the user is shown as it is, without a traceback through this package."""
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
    """Whether the server may know more: a contract broken, a run that failed, a server that hung up or is full."""
    import redis

    about = (redis.ConnectionError, redis.TimeoutError, redis.exceptions.OutOfMemoryError)
    return isinstance(error, (DeliveryError, RedisqError, *about))


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
    """What a run that has a server adds to the reports of its tests."""

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
        place = item.stash.get(FIXTURE_CONTEXT, None)
        about_the_server = call.excinfo is not None and _is_about_the_server(call.excinfo.value)
        if call.excinfo is not None and isinstance(call.excinfo.value, DeliveryError):
            report.sections.append(("redisq: the history", self._keep_history(item, call.excinfo.value)))
        if call.excinfo is not None and isinstance(call.excinfo.value, ScheduleError):
            report.sections.append(("redisq: the schedule", _how_to_replay(item, call.excinfo.value)))
        if about_the_server and place is not None and place.server.supervisor is not None:
            log = "\n".join(place.server.log().splitlines()[-LOG_LINES:])
            report.sections.append(("redisq: the end of the server's log", log))
        if not self._told:
            # An xdist controller has no server of its own to speak of: the first report brings it the news.
            report.redisq_header = self._session.header()  # type: ignore[attr-defined]
            self._told = True
        if notes := self._session.notes():
            report.redisq_notes = notes  # type: ignore[attr-defined]
        return report

    def _keep_history(self, item: pytest.Item, error: DeliveryError) -> str:
        """Write the history that was judged where what failed is kept between runs; where that is, in words."""
        from pytest_redisq.history import History, write_history  # a green run has no use for it

        folder = _folder(item.config)
        if folder is None or not isinstance(error.history, History):
            return "It was not kept: pytest's cache is switched off."
        path = folder / f"{failure_store.file_name(item.nodeid)}{failure_store.HISTORY}"
        try:
            failure_store.make(folder)
            write_history(error.history, path)
        except OSError as hindrance:
            return f"It was not kept: {hindrance}"
        return f"Every op, a line of JSON each: {path}\nJudge it again: redisq check {path} CONTRACT"
