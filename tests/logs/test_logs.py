from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing.synchronize import Event

import pytest

from pytest_redisq.errors import RedisqError
from pytest_redisq.logs import LogConfig, collect_logs

METHODS = ["fork", "spawn", "forkserver"]
ALL_SECONDS = 60


class Unpicklable:
    def __repr__(self) -> str:
        return "<Unpicklable thing>"

    def __reduce__(self) -> str:
        raise TypeError("not me")


def say(logs: LogConfig, name: str, count: int) -> None:
    logs.attach(worker=name)
    for number in range(count):
        logging.getLogger("jobs").info("%s did %d", name, number)


def say_in_pool(number: int) -> int:
    logging.getLogger("jobs.pool").info("task %d", number)
    return os.getpid()


def say_attaching(logs: LogConfig, number: int) -> None:
    logs.attach()
    logging.getLogger("jobs.pool").info("task %d", number)


def say_everything(logs: LogConfig) -> None:
    logs.attach(worker="consumer 1")
    try:
        raise KeyError("orders")
    except KeyError:
        logging.getLogger("jobs").exception("could not %s", "work", extra={"job": {"id": 7}})
    logging.getLogger("jobs").info("a %s", Unpicklable(), extra={"thing": Unpicklable()})
    logging.getLogger("jobs").info("too many %s", 1, 2)
    logging.getLogger("jobs").info("x" * 3_000_000)


def say_filtered(logs: LogConfig) -> None:
    logging.getLogger("jobs").setLevel(logging.ERROR)
    logging.getLogger("jobs.loud").addFilter(lambda record: "secret" not in record.getMessage())
    logs.attach()
    logging.getLogger("jobs").warning("below the child's level")
    logging.getLogger("jobs").error("kept")
    logging.getLogger("jobs.loud").error("a secret")


def say_until_killed(logs: LogConfig, begun: Event) -> None:
    logs.attach()
    while True:
        logging.getLogger("doomed").info("x" * 5_000)
        begun.set()


def fork_a_child_that_says(logs: LogConfig) -> None:
    logs.attach()
    log = logging.getLogger("family")
    log.info("before")
    child = multiprocessing.get_context("fork").Process(target=log.info, args=("grandchild",))
    child.start()
    for number in range(200):
        log.info("parent %d", number)
    child.join()


@pytest.fixture(autouse=True)
def _everything_is_captured(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.INFO)
    yield
    assert not multiprocessing.active_children()
    assert [it.name for it in threading.enumerate() if "_monitor" in it.name] == []


def run_processes(method: str, *calls: tuple[Callable[..., None], tuple[object, ...]]) -> None:
    context = multiprocessing.get_context(method)
    processes = [context.Process(target=target, args=args, name=f"P{n}") for n, (target, args) in enumerate(calls)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(ALL_SECONDS)
        assert process.exitcode == 0


@pytest.mark.parametrize("method", METHODS)
def test_every_record_of_every_process_arrives_once_in_order_and_attributed(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    with collect_logs() as logs:
        run_processes(method, *((say, (logs.config, f"worker {n}", 300)) for n in range(3)))
    assert len(caplog.records) == 900
    for n in range(3):
        mine = [record for record in caplog.records if record.processName == f"P{n}"]
        assert [record.getMessage() for record in mine] == [f"worker {n} did {number}" for number in range(300)]
        assert {getattr(record, "worker") for record in mine} == {f"worker {n}"}  # noqa: B009 - no such attribute in typeshed
        assert all(record.process != os.getpid() for record in mine)


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_logs_through_its_initializer(method: str, caplog: pytest.LogCaptureFixture) -> None:
    context = multiprocessing.get_context(method)
    with collect_logs() as logs, context.Pool(2, initializer=logs.config.attach) as pool:
        pids = pool.map(say_in_pool, range(50))
        pool.close()
        pool.join()
    assert Counter(record.getMessage() for record in caplog.records) == Counter(f"task {n}" for n in range(50))
    assert {record.process for record in caplog.records} == set(pids)


@pytest.mark.parametrize("method", METHODS)
def test_an_executor_logs_when_its_tasks_attach(method: str, caplog: pytest.LogCaptureFixture) -> None:
    with collect_logs() as logs, ProcessPoolExecutor(2, multiprocessing.get_context(method)) as executor:
        for future in [executor.submit(say_attaching, logs.config, n) for n in range(50)]:
            future.result(ALL_SECONDS)
    assert Counter(record.getMessage() for record in caplog.records) == Counter(f"task {n}" for n in range(50))


@pytest.mark.parametrize("method", METHODS)
def test_records_arrive_whole(method: str, caplog: pytest.LogCaptureFixture) -> None:
    with collect_logs() as logs:
        run_processes(method, (say_everything, (logs.config,)))
    failed, shown, broken, long = caplog.records
    assert (failed.msg, failed.args, failed.getMessage()) == ("could not %s", ("work",), "could not work")
    assert failed.exc_info is not None
    assert failed.exc_info[0] is KeyError
    assert failed.exc_text is not None
    assert 'raise KeyError("orders")' in failed.exc_text
    assert vars(failed)["job"] == {"id": 7}
    assert vars(failed)["worker"] == "consumer 1"
    assert failed.funcName == "say_everything"
    assert (shown.getMessage(), vars(shown)["thing"]) == ("a <Unpicklable thing>", "<Unpicklable thing>")
    assert "cannot be formatted: TypeError" in broken.getMessage()
    assert len(long.getMessage()) == 3_000_000
    assert 'raise KeyError("orders")' in caplog.text


@pytest.mark.parametrize("method", METHODS)
def test_the_childs_levels_and_filters_hold(method: str, caplog: pytest.LogCaptureFixture) -> None:
    with collect_logs() as logs:
        run_processes(method, (say_filtered, (logs.config,)))
    assert caplog.messages == ["kept"]


@pytest.mark.parametrize("method", METHODS)
def test_a_level_set_in_the_parent_holds_in_the_child(method: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="jobs")
    with collect_logs() as logs:
        run_processes(method, (say, (logs.config, "quiet", 3)))
    assert caplog.messages == []


@pytest.mark.parametrize("method", METHODS)
def test_children_killed_while_they_log_block_nobody_and_lose_no_record_of_the_living(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    context = multiprocessing.get_context(method)
    with collect_logs() as logs:
        for _ in range(10 if method == "fork" else 2):
            begun = context.Event()
            doomed = context.Process(target=say_until_killed, args=(logs.config, begun))
            doomed.start()
            assert begun.wait(ALL_SECONDS)
            assert doomed.pid is not None
            os.kill(doomed.pid, signal.SIGKILL)
            doomed.join(ALL_SECONDS)
        run_processes(method, (say, (logs.config, "survivor", 500)))
    mine = [record.getMessage() for record in caplog.records if record.name == "jobs"]
    assert mine == [f"survivor did {number}" for number in range(500)]
    assert {len(record.getMessage()) for record in caplog.records if record.name == "doomed"} == {5_000}


def test_a_grandchild_does_not_garble_its_parents_records(caplog: pytest.LogCaptureFixture) -> None:
    with collect_logs() as logs:
        run_processes("fork", (fork_a_child_that_says, (logs.config,)))
    assert Counter(caplog.messages) == Counter(["before", "grandchild", *(f"parent {n}" for n in range(200))])


def test_a_logger_that_does_not_propagate_reaches_its_own_handlers_in_the_parent() -> None:
    seen: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = seen.append  # type: ignore[method-assign]
    private = logging.getLogger("jobs.private")
    private.addHandler(handler)
    private.propagate = False
    try:
        with collect_logs() as logs:
            run_processes("fork", (say_privately, (logs.config,)))
    finally:
        private.removeHandler(handler)
        private.propagate = True
    assert [record.getMessage() for record in seen] == ["between us"]


def say_privately(logs: LogConfig) -> None:
    logs.attach()
    logging.getLogger("jobs.private").warning("between us")


def test_attaching_where_records_are_collected_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    before = list(logging.root.handlers)
    with collect_logs() as logs:
        say(logs.config, "here", 1)
        assert logging.root.handlers == before
    assert caplog.messages == ["here did 0"]


def test_attaching_after_the_end_says_so() -> None:
    with collect_logs() as logs:
        config = logs.config
    stranger = LogConfig(address=config.address, token=config.token, process=0, levels=())
    with pytest.raises(RedisqError, match="The collecting process has stopped collecting log records"):
        stranger.attach()


def test_a_connection_without_the_token_is_closed_unheard(caplog: pytest.LogCaptureFixture) -> None:
    with collect_logs() as logs, socket.socket(socket.AF_UNIX) as intruder:
        intruder.connect(logs.config.address)
        intruder.sendall(b"\0\0\0\x20" + b"?" * 32 + b"\0\0\0\x05hello")
        intruder.settimeout(ALL_SECONDS)
        # A reset is the same as an end, said by a kernel that still held our bytes.
        with suppress(ConnectionResetError):
            assert intruder.recv(1) == b""
    assert caplog.messages == []


def test_an_error_in_a_handler_is_raised_at_the_end_and_stops_no_other_record(caplog: pytest.LogCaptureFixture) -> None:
    class Touchy(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().endswith("did 1"):
                raise RuntimeError("I cannot bear ones")

    touchy = Touchy()
    logging.getLogger("jobs").addHandler(touchy)
    try:
        with pytest.raises(RuntimeError, match="I cannot bear ones"), collect_logs() as logs:
            run_processes("fork", (say, (logs.config, "w", 3)))
    finally:
        logging.getLogger("jobs").removeHandler(touchy)
    assert [m for m in caplog.messages if m != "w did 1"] == ["w did 0", "w did 2"]
