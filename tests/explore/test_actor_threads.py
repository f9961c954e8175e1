"""actor_threads.py: how the thread of a killed actor ends."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable

import pytest

from pytest_redisq.explore.actor_threads import ActorThread, silent_kills
from tests.support import eventually


def dies(while_inside: Callable[[], object]) -> None:
    class Thing:
        def __del__(self) -> None:
            while_inside()

    Thing()


def collects(while_inside: Callable[[], None]) -> None:
    def callback(phase: str, _: object) -> None:
        if phase == "stop":
            while_inside()

    gc.callbacks.append(callback)
    gc.collect()
    gc.callbacks.remove(callback)


@pytest.mark.parametrize("clear_up", [dies, collects])
def test_a_thread_in_a_destructor_is_not_interrupted(clear_up: Callable[[Callable[[], None]], None]) -> None:
    """The interpreter would swallow what is raised there, and complain."""
    inside, go_on, done = threading.Event(), threading.Event(), threading.Event()
    worker = ActorThread()

    def while_inside() -> None:
        inside.set()
        go_on.wait(5)

    def job() -> None:
        clear_up(while_inside)
        done.set()

    worker.run(job)
    assert inside.wait(5)
    worker.interrupt()
    go_on.set()
    assert done.wait(5)
    worker.stop()


def test_a_swallowed_interruption_causes_no_warning() -> None:
    """As in what a weak reference calls, which may begin just when the thread is to be interrupted."""
    inside, swallowed = threading.Event(), threading.Event()
    worker = ActorThread()

    def called_back(_: object) -> None:
        inside.set()
        while True:
            pass

    class Thing:
        pass

    def job() -> None:
        thing = Thing()
        reference = weakref.ref(thing, called_back)
        del thing
        swallowed.set()
        assert reference() is None
        while True:
            pass

    with silent_kills():
        worker.run(job)
        assert inside.wait(5)
        worker.interrupt()
        assert swallowed.wait(5)
        worker.interrupt()
        eventually(lambda: not worker.thread.is_alive())


def test_what_else_is_swallowed_is_complained_of(monkeypatch: pytest.MonkeyPatch) -> None:
    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: complaints.append(unraisable.exc_type))
    with silent_kills():
        dies(lambda: 1 / 0)
    assert complaints == [ZeroDivisionError]
    dies(lambda: 1 / 0)
    assert complaints == [ZeroDivisionError] * 2


def test_a_computing_thread_is_interrupted() -> None:
    begun = threading.Event()
    worker = ActorThread()

    def job() -> None:
        begun.set()
        while True:
            pass

    worker.run(job)
    assert begun.wait(5)
    worker.interrupt()
    eventually(lambda: not worker.thread.is_alive())
