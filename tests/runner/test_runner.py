"""A run reports every kind of end, and leaves nothing behind (see conftest)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from multiprocessing import popen_fork, popen_spawn_posix
from pathlib import Path
from typing import Any

import pytest

from pytest_redisq.errors import TrafficError
from pytest_redisq.queues import BlockingList
from pytest_redisq.runner import Command, run
from pytest_redisq.servers import Server
from tests.runner import sample_queues as queues
from tests.support import eventually

QUICK = ["thread", "fork", "pool"]

#: For runs that shall come to it: by then workers must have begun, on a busy machine too.
DEADLINE_SECONDS = 3


@pytest.mark.parametrize("workers", [*QUICK, "spawn", "executor"])
def test_a_bug_in_a_worker_is_told_with_its_own_line_and_name(server: Server, workers: Any) -> None:
    with pytest.raises(TrafficError) as told:
        run(queues.Raising, at=server, messages=5, workers=workers)
    first, frame, line, count, *_ = str(told.value).splitlines()
    assert re.fullmatch(r"ZeroDivisionError: after 0.1 s \(sample_queues.py:\d+ in get\) \[consumer-0\]", first)
    assert re.fullmatch(r'  File ".*sample_queues.py", line \d+, in get', frame)
    assert line.startswith("    raise ZeroDivisionError")
    assert count == "1 of 2 workers failed."


def test_a_bug_in_a_task(server: Server) -> None:
    with pytest.raises(TrafficError, match=r"(?s)\AZeroDivisionError: .*\[consumer-0\].*1 of 2 workers failed"):
        run(queues.AsyncRaising, at=server, messages=5, workers="asyncio")


@pytest.mark.parametrize(
    ("queue", "workers"),
    [
        *((queues.Leaving, kind) for kind in QUICK),
        (queues.AsyncLeaving, "asyncio"),
        (queues.AsyncCancelling, "asyncio"),
    ],
)
def test_a_worker_that_leaves_is_missed(server: Server, queue: Any, workers: Any) -> None:
    """SystemExit and a stray CancelledError are no Exception: without a word, the messages not sent were no loss."""
    with pytest.raises(TrafficError, match=r"(?s)no more today.*\[producer-0\].*1 of 2 workers failed"):
        run(queue, at=server, messages=5, workers=workers)


def test_a_process_that_vanishes_is_missed(server: Server) -> None:
    with pytest.raises(TrafficError, match=r"its process ended of itself, while it is in get\(\).* \[consumer-0\]"):
        run(queues.Vanishing, at=server, messages=5, workers="fork")


@pytest.mark.parametrize("workers", ["thread", *(pytest.param(kind, marks=pytest.mark.slow) for kind in QUICK[1:])])
def test_the_deadline_names_who_was_doing_what(server: Server, workers: Any) -> None:
    with pytest.raises(TrafficError) as told:
        run(queues.Hanging, at=server, messages=3, workers=workers, deadline_seconds=DEADLINE_SECONDS)
    text = str(told.value)
    assert f"did not end within deadline_seconds={DEADLINE_SECONDS}; it was waiting for the consumers" in text
    assert "producer-0 has ended" in text
    assert "it has put 3 of 3 messages" in text
    assert "consumer-0 is in get(), for " in text


def test_the_deadline_tells_of_a_get_that_takes_nothing_out(server: Server) -> None:
    with pytest.raises(TrafficError, match=r"More was received than put: get\(\) is to take out what it returns"):
        run(queues.Peeking, at=server, messages=3, deadline_seconds=DEADLINE_SECONDS)


@pytest.mark.parametrize(
    ("queue", "workers"),
    [(queues.Hanging, "thread"), (queues.Peeking, "thread"), (queues.AsyncHanging, "asyncio")],
)
def test_the_deadline_ends_the_draining(server: Server, queue: Any, workers: Any) -> None:
    """If no consumer is alive, the runner itself gets the rest, and its `get` may not return either."""
    with pytest.raises(TrafficError, match="it was draining the queue"):
        run(
            queue,
            at=server,
            messages=3,
            workers=workers,
            faults="kill:consumer@0+forever",
            deadline_seconds=DEADLINE_SECONDS,
        )


def test_the_deadline_ends_tasks(server: Server) -> None:
    with pytest.raises(TrafficError, match=r"consumer-0 is in get\(\)"):
        run(queues.AsyncHanging, at=server, messages=3, workers="asyncio", deadline_seconds=DEADLINE_SECONDS)


@pytest.mark.slow
@pytest.mark.parametrize("workers", QUICK)
def test_the_deadline_ends_workers_that_do_not_wait_for_the_server(server: Server, workers: Any) -> None:
    with pytest.raises(TrafficError, match=r"consumer-0 is in get\(\)"):
        run(queues.Spinning, at=server, messages=3, workers=workers, deadline_seconds=DEADLINE_SECONDS)


@pytest.mark.parametrize("workers", [*QUICK, "asyncio"])
def test_ctrl_c_in_the_middle_leaves_nothing(server: Server, workers: Any) -> None:
    queue = queues.AsyncHanging if workers == "asyncio" else queues.Hanging

    def interrupt() -> None:
        with server.client() as client:
            eventually(lambda: client.exists("jobs:seen"), 20)
        os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    with server.client() as client:
        client.config_set("notify-keyspace-events", "")
        try:
            with pytest.raises(KeyboardInterrupt):
                run(_Marking(queue), at=server, messages=3, workers=workers)
        finally:
            client.set("jobs:seen", "1")
            watcher.join()


@pytest.mark.parametrize("workers", ["fork", "spawn", "pool"])
def test_ctrl_c_while_a_process_is_being_made_leaves_nothing(
    server: Server, workers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there, and the library that has made it has not yet said so."""
    popen = popen_spawn_posix.Popen if workers == "spawn" else popen_fork.Popen
    launch = popen._launch  # type: ignore[attr-defined]

    def interrupted(self: Any, process: Any) -> None:
        launch(self, process)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(popen, "_launch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(queues.Hanging, at=server, messages=3, workers=workers)


class _Marking:
    """A factory whose queues leave a mark when they are made."""

    def __init__(self, factory: Any) -> None:
        self.factory = factory

    def __call__(self, client: Any) -> Any:
        connection = client.connection_pool.connection_kwargs
        with queues.redis.Redis(**{name: connection[name] for name in ("host", "port", "password")}) as marker:
            marker.set("jobs:seen", "1")
        return self.factory(client)


def test_a_command_that_fails_is_shown_with_its_standard_error(server: Server) -> None:
    consumer = Command(["sh", "-c", "echo no such queue >&2; exit 4"])
    with pytest.raises(TrafficError, match=r"(?s)consumer-0.*ended with exit status 4.*no such queue"):
        run((queues.produce, consumer), at=server, messages=3)


def test_a_command_that_is_not_there_is_named(server: Server) -> None:
    with pytest.raises(TrafficError, match=r"no-such-program --once cannot be started: .*No such file"):
        run((queues.produce, Command(["no-such-program", "--once"])), at=server, messages=3)


def test_a_command_that_does_not_keep_to_the_protocol_is_told(server: Server) -> None:
    producer = Command(["sh", "-c", "read line; echo hello; cat >/dev/null"])
    with pytest.raises(TrafficError, match=r"not of the protocol .* b'hello'"):
        run((producer, queues.consume), at=server, messages=3)


def test_a_command_that_does_not_stop_is_stopped(server: Server) -> None:
    consumer = Command(["sh", "-c", "trap '' TERM; while echo null; do sleep 0.05; done"])
    run((queues.produce, consumer), at=server, messages=1)


@pytest.mark.parametrize("workers", ["fork", "spawn", "forkserver", "pool", "executor", "commands"])
def test_workers_die_with_their_conductor(server: Server, tmp_path: Path, workers: str) -> None:
    """SIGKILL of the process that called run(): two seconds later no worker, and no folder, is there any more."""
    script = tmp_path / "runner.py"
    script.write_text(textwrap.dedent(_CONDUCTOR))
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": os.getcwd()}
    with server.client() as client:
        argv = [sys.executable, str(script), server.url, workers]
        runner = subprocess.Popen(argv, env=environment, stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: int(client.get("jobs:alive") or 0) >= 2, 20)
        finally:
            runner.kill()
            runner.wait()
        eventually(lambda: _living(tmp_path) == [], 2)
        eventually(lambda: not list(tmp_path.glob("redisq-*")), 2)


_CONDUCTOR = """
    import sys
    from pytest_redisq.runner import Command, run
    from tests.runner import sample_queues as queues

    class Alive(queues.Hanging):
        def get(self, timeout_seconds):
            self.client.incr("jobs:alive")
            return super().get(timeout_seconds)

    if __name__ == "__main__":
        url, workers = sys.argv[1:]
        if workers == "commands":
            program = "import redis, sys; client = redis.from_url(sys.argv[1]); client.incr('jobs:alive'); "
            consumer = Command([sys.executable, "-c", program + "client.blpop('nothing', 0)", "{url}"])
            run((queues.produce, consumer), at=url, consumers=2, messages=1)
        else:
            run(Alive, at=url, consumers=2, messages=1, workers=workers)
"""


def _living(place: Path) -> list[str]:
    mark, found = f"TMPDIR={place}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    # multiprocessing's own servants end by themselves when their pipe does.
    return [line for line in found if line]


@pytest.mark.parametrize("workers", ["spawn", "forkserver", "pool", "executor"])
def test_what_cannot_be_pickled_is_named_with_the_ways_out(server: Server, workers: Any) -> None:
    with pytest.raises(TypeError, match=r"sends the queue to other processes.*cannot be pickled.*Ways out: define it"):
        run(lambda client: queues.Plain(client), at=server, workers=workers)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": "threads"}, "Did you mean 'thread'"),
        ({"producers": 0}, "producers=0 is to be a whole number of at least 1"),
        ({"messages": 2.5}, "messages=2.5 is to be"),
        ({"workers": "asyncio", "queue": (queues.produce, queues.consume)}, "needs coroutine functions"),
        ({"queue": (queues.produce_async, queues.consume_async)}, 'give workers="asyncio" to run'),
        ({"queue": queues.AsyncPlain}, 'give workers="asyncio" to run'),
    ],
)
def test_misuse_is_explained(server: Server, options: dict[str, Any], words: str) -> None:
    options = {"queue": BlockingList("jobs")} | options
    with pytest.raises(ValueError, match=words):
        run(options.pop("queue"), at=server, **options)


@pytest.mark.parametrize("queue", [42, [queues.produce, queues.consume]])
def test_what_is_no_queue_is_explained(server: Server, queue: Any) -> None:
    with pytest.raises(TypeError, match=r"no queue\. Give an object with put\(body\).*or a tuple \(produce, consume\)"):
        run(queue, at=server)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"faults": 7}, "faults=7 must be a fault, the text of one, or a sequence"),
        ({"client": 7}, "client=7 is to be a function of a URL"),
    ],
)
def test_options_of_the_wrong_type_are_explained(server: Server, options: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        run(BlockingList("jobs"), at=server, **options)


def test_plain_functions_among_tasks_are_explained(server: Server) -> None:
    with pytest.raises(TrafficError, match=r'workers="asyncio" needs coroutine functions, and .*\.get of '):
        run(queues.HalfAsync, at=server, workers="asyncio")


def test_a_factory_that_makes_no_queue_is_explained(server: Server) -> None:
    with pytest.raises(TrafficError, match="was to make a queue out of a client, and returned 7"):
        run(lambda client: 7, at=server)  # noqa: ARG005
