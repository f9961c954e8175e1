"""One Ctrl-C is enough: it is neither lost nor replaced, wherever it meets the main thread.

SIGINTS says how many pytest runs are interrupted at random moments (200 for a thorough run), SIGINTS_SEED at which.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis

from pytest_redisq import interrupts
from pytest_redisq.endpoint import event_loop
from pytest_redisq.explore import World, explore
from pytest_redisq.facade import Redisq
from pytest_redisq.properties import check_stateful
from pytest_redisq.queues import BlockingList, ReliableList
from pytest_redisq.servers import Server, start
from pytest_redisq.servers.namespace import Namespaces
from tests.inner import InnerRuns
from tests.interrupting import KINDS, attack
from tests.interrupts import OURS, Line, interrupted_at, lines_of
from tests.runner import sample_queues as queues
from tests.support import eventually, local

#: For waiting in the main thread, which an interrupt ends.
NEVER_SECONDS = 20.0


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = start(local())
    yield server
    server.stop()


class Dying:
    def __del__(self) -> None:
        interrupt()


def die_in_a_destructor() -> None:
    Dying()


def die_in_a_weak_reference() -> None:
    thing = type("Thing", (), {})()
    mark = weakref.ref(thing, lambda _: interrupt())
    del thing
    assert mark() is None


def die_in_a_collection() -> None:
    def callback(_phase: str, _info: dict[str, int]) -> None:
        gc.callbacks.remove(callback)
        interrupt()

    gc.callbacks.append(callback)
    gc.collect()


@pytest.mark.parametrize("die", [die_in_a_destructor, die_in_a_weak_reference, die_in_a_collection])
def test_an_interrupt_that_the_interpreter_loses_is_made_again(die: Callable[[], None]) -> None:
    began = time.monotonic()

    @interrupts.repeated_where_lost()
    def act() -> None:
        die()
        threading.Event().wait(NEVER_SECONDS)

    with pytest.raises(KeyboardInterrupt):
        act()
    assert time.monotonic() - began < NEVER_SECONDS, "it took effect when the waiting was over"


def test_an_interrupt_just_before_a_wait_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a one does not end the wait: it is as if it had not been sent."""
    kill, sent = signal.pthread_kill, list[int]()

    def all_but_the_first(thread: int, number: int) -> None:
        sent.append(number)
        if len(sent) > 1:
            kill(thread, number)

    monkeypatch.setattr(signal, "pthread_kill", all_but_the_first)
    test_an_interrupt_that_the_interpreter_loses_is_made_again(die_in_a_destructor)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("fails", [False, True], ids=["ends", "fails"])
def test_an_interrupt_at_any_line_of_ours_leaves_nothing_uncleared(fails: bool) -> None:
    done: list[str] = []

    def act() -> None:
        with contextlib.suppress(ValueError), interrupts.cleared_up() as held:
            done.append("begun")
            held.callback(done.append, "cleared up")
            if fails:
                raise ValueError

    for line in lines_of(act, within=interrupts.__file__):
        done.clear()
        assert interrupted_at(line, act, within=interrupts.__file__) == "interrupted", line
        assert done in ([], ["begun", "cleared up"]), line
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, line


def test_other_exceptions_of_destructors_are_told_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_type.__name__))
    before = sys.unraisablehook

    class Failing:
        def __del__(self) -> None:
            raise ValueError

    with interrupts.repeated_where_lost():
        Failing()
    assert told == ["ValueError"]
    assert sys.unraisablehook is before


@pytest.mark.parametrize(
    "suite",
    [
        # As in redis-py's own destructors, which close connections.
        """
        class Client:
            def __del__(self):
                signal.raise_signal(signal.SIGINT)

        def test_one(redisq):
            Client()
            threading.Event().wait(60)
            pytest.fail("it was lost")
        """,
        # As where a lock that was being taken is given back.
        """
        def test_one(redisq):
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                raise RuntimeError("release unlocked lock")
        """,
        """
        @pytest.fixture
        def clears_up():
            yield
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                raise RuntimeError("release unlocked lock")

        def test_one(redisq, clears_up): pass
        """,
    ],
)
def test_an_interrupt_that_is_lost_or_replaced_ends_the_run(inner: InnerRuns, suite: str) -> None:
    lines = [line.removeprefix("        ") for line in suite.splitlines()]
    head = "import pytest, signal, threading\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    inner.file("test_it.py", head + "\n".join(lines) + "\ndef test_two():\n    print('went on')\n")
    result = inner.run("-v")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines("*!!! KeyboardInterrupt !!!*")
    result.stdout.no_fnmatch_line("*test_two*")


def test_an_interrupt_that_is_lost_in_the_controller_of_xdist_ends_the_run(inner: InnerRuns) -> None:
    inner.file(
        "conftest.py",
        """
import signal

class Lost:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def pytest_runtest_logstart(nodeid):
    if nodeid.endswith("two"):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        Lost()
""",
    )
    inner.file("test_it.py", "import threading\ndef test_two(redisq):\n    threading.Event().wait(15)\n")
    result = inner.run("-n", "1", plugins=("xdist",))
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines("*!!! *KeyboardInterrupt !!!*")


def test_a_test_that_raises_an_interrupt_itself_and_fails_is_a_failure(inner: InnerRuns) -> None:
    inner.file(
        "test_it.py",
        """
def test_one(redisq):
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert 0

def test_two(): pass
""",
    )
    inner.run().assert_outcomes(failed=1, passed=1)


LINELESS = """
import dis, pytest, sys, types

def clears_up():
    try:
        return sys._getframe()
    except ValueError:
        pass

def test_one(redisq):
    frame = clears_up()
    at = next(each.offset for each in dis.get_instructions(frame.f_code) if each.positions.lineno is None)
    traceback = types.TracebackType(None, frame, at, -1)
    assert traceback.tb_lineno is None
    raise KeyboardInterrupt().with_traceback(traceback)
"""


def test_pytest_tells_of_an_interrupt_between_the_lines(inner: InnerRuns) -> None:
    """As at a loop's jump back, which belongs to no line: pytest itself stumbles over that."""
    inner.file("test_it.py", LINELESS)
    result = inner.run()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*!!! KeyboardInterrupt !!!*", "*test_it.py:*: KeyboardInterrupt"])


def test_an_error_in_clearing_up_has_the_interrupt_behind_it() -> None:
    def clear_up() -> None:
        raise RuntimeError("release unlocked lock")

    def act() -> None:
        with interrupts.not_replaced(), interrupts.cleared_up() as held:
            held.callback(clear_up)
            interrupt()

    with pytest.raises(KeyboardInterrupt):
        act()


def test_an_interrupt_is_put_off_to_the_end_of_the_block() -> None:
    done = []

    @interrupts.deferred()
    def act() -> None:
        interrupt()
        done.append("more")

    with pytest.raises(KeyboardInterrupt):
        act()
    assert done == ["more"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_whoever_does_not_want_to_wait_presses_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_PATIENCE_SECONDS", -1.0)

    @interrupts.deferred()
    def act() -> None:
        interrupt()
        pytest.fail("it was put off again")

    with pytest.raises(KeyboardInterrupt):
        act()


def test_everything_is_cleared_up_before_an_interrupt_takes_effect() -> None:
    done: list[int] = []

    def act() -> None:
        with interrupts.cleared_up() as held:
            held.callback(done.append, 1)
            held.callback(interrupt)
            held.callback(done.append, 2)

    with pytest.raises(KeyboardInterrupt):
        act()
    assert done == [2, 1]


def test_an_interrupted_schedule_is_none_that_fails(server: Server) -> None:
    """Also where what clears up after it raises an error of its own; it would be shrunk, and told as a bug."""
    runs: list[World] = []

    def scenario(world: World) -> None:
        runs.append(world)
        world.actor(redis.Redis.ping)
        try:
            interrupt()
        finally:
            raise RuntimeError("release unlocked lock")

    with pytest.raises(KeyboardInterrupt):
        explore(scenario, url=server.url)
    assert len(runs) == 1


def test_an_interrupted_example_is_none_that_fails(server: Server) -> None:
    """The interrupted operation is missing at the end. It must not be reported as a bug of the queue."""

    broken: list[bytes] = []

    class BreaksOff(queues.Plain):
        def put(self, body: bytes) -> None:
            if self.client.llen(queues.KEY) and not broken:
                broken.append(body)
                interrupt()
            super().put(body)

        def get(self, timeout_seconds: float) -> bytes | None:
            return None if broken else super().get(timeout_seconds)

    namespaces = Namespaces(server)
    with (
        namespaces.namespace() as namespace,
        Redisq(server=server, namespace=namespace) as redisq,
        pytest.raises(KeyboardInterrupt),
    ):
        check_stateful(BreaksOff, redisq, contract="at-most-once", settle_seconds=0.01)
    namespaces.close()
    assert len(broken) == 1


def test_a_cancellation_is_not_lost_in_stop(server: Server) -> None:
    """asyncio.Runner makes a cancellation of Ctrl-C. It may come at the very moment when the blocked get has left."""

    async def cancelled_as_it_leaves() -> bool:
        async with server.async_client() as client, BlockingList("jobs").bind(client) as queue:

            class Left(asyncio.Event):
                def set(self) -> None:
                    super().set()
                    stopping.cancel()

            queue._left = Left()
            getting = asyncio.create_task(queue.get())
            while queue._blocked_id is None:
                await asyncio.sleep(0)
            stopping = asyncio.create_task(queue.stop())
            await asyncio.wait([stopping, getting])
            return stopping.cancelled()

    assert asyncio.run(cancelled_as_it_leaves())


def test_what_takes_no_cancellation_does_not_keep_a_run_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a run clears up, Ctrl-C is put off."""

    async def stubborn() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    async def begin() -> asyncio.Task[None]:
        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        return task

    monkeypatch.setattr(event_loop, "_GRACE_SECONDS", 0.05)
    threads = set(threading.enumerate())
    beside = event_loop.LoopThread("stubborn")
    task = beside.do(begin)
    beside.close()
    assert not task.done()
    assert set(threading.enumerate()) <= threads


def _run(workers: str) -> Callable[[Redisq], object]:
    def act(redisq: Redisq) -> None:
        redisq.run(ReliableList("jobs", lease_seconds=1), messages=3, workers=workers, wait_seconds=0.01).verdict(
            "at-least-once"
        )

    return act


def _explore(**options: Any) -> Callable[[Redisq], object]:
    def act(redisq: Redisq) -> None:
        options.setdefault("schedules", 5)
        redisq.explore(redisq.reliable_list("jobs"), contract="at-least-once", messages=2, faults="kill", **options)

    return act


def _bind(redisq: Redisq) -> None:
    for make in (redisq.list, redisq.reliable_list, redisq.stream, lambda name: redisq.stream(name, "workers")):
        with make(f"jobs-{make}").bind(redisq.client) as queue:
            queue.subscribe()
            queue.put(b"a")
            queue.get(1)
            queue.get(0.001)


ACTS = {
    "run-thread": _run("thread"),
    "run-asyncio": _run("asyncio"),
    "run-process": _run("process"),
    "run-pool": _run("pool"),
    "explore": _explore(),
    "explore-async": _explore(is_async=True),
    "queues": _bind,
}


class Interrupted:
    """An act that works on a namespace, interrupted at one line after the other."""

    def __init__(self, server: Server, act: Callable[[Redisq], object]) -> None:
        self._server, self._namespaces = server, Namespaces(server)
        self._act = act
        self.whole()  # what is done but once in a process is done

    def whole(self) -> None:
        with (
            self._namespaces.namespace() as namespace,
            Redisq(server=self._server, namespace=namespace) as redisq,
        ):
            self._act(redisq)

    def at(self, lines: Sequence[Line], **where: Any) -> None:
        threads = set(threading.enumerate())
        wrong: dict[Line, str] = {}
        reached = 0
        for line in lines:
            with interrupts.repeated_where_lost():
                told = interrupted_at(line, self.whole, **where)
            reached += told != "not reached"
            if told not in ("interrupted", "not reached"):
                wrong[line] = told
        self._namespaces.close()
        assert not wrong, "\n".join(f"{line}: {told}" for line, told in wrong.items())
        assert reached
        eventually(lambda: set(threading.enumerate()) <= threads)


@pytest.mark.parametrize("kind", ACTS)
def test_an_interrupt_comes_out_at_lines_of_ours(server: Server, kind: str) -> None:
    interrupted = Interrupted(server, ACTS[kind])
    lines = lines_of(interrupted.whole)
    interrupted.at(lines[3 :: max(1, len(lines) // 10)])


#: The lines of the method that takes a lock for `with`, which does not know yet that it must release it.
LOCKED = {number for _, _, number in threading.Condition.__enter__.__code__.co_lines()}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ACTS)
def test_an_interrupt_that_leaves_a_lock_locked_stops_nobody_for_good(server: Server, kind: str) -> None:
    interrupted = Interrupted(server, ACTS[kind])
    within_a_lock = {"within": threading.__file__, "event": "return"}
    returns = lines_of(interrupted.whole, times=20, **within_a_lock)
    interrupted.at([line for line in returns if line.number in LOCKED], **within_a_lock)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ACTS)
@pytest.mark.parametrize("within", [OURS, "/"], ids=["ours", "all"])
def test_an_interrupt_comes_out_at_every_line(server: Server, kind: str, within: str) -> None:
    interrupted = Interrupted(server, ACTS[kind])
    interrupted.at(lines_of(interrupted.whole, within=within), within=within)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_one_ctrl_c_ends_a_run_of_each_kind() -> None:
    """At random moments, sent to pytest alone or as a terminal does, to the whole group."""
    times = int(os.environ.get("SIGINTS", len(KINDS)))
    wrong = [
        outcome for outcome in attack(times, int(os.environ.get("SIGINTS_SEED", "1")), list(KINDS)) if outcome.wrong
    ]
    assert not wrong, "\n".join(f"{each.kind}: {each.wrong}\n{each.output}" for each in wrong)
