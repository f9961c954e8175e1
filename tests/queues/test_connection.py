"""A connection that asks once: no reply in time is an error, and no command is sent twice."""

from __future__ import annotations

import multiprocessing
import select
import subprocess
import sys
import time

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pytest_redisq.queues import connection
from pytest_redisq.queues.connection import QueueConnection
from pytest_redisq.queues.steps import RedisCommand, command
from pytest_redisq.servers import Server
from tests.interrupts import interrupted_at, lines_of
from tests.support import eventually


def test_a_blocking_command_may_take_longer_than_the_clients_socket_timeout(server: Server) -> None:
    with redis.Redis.from_url(server.url, socket_timeout=1) as hasty:
        wire = QueueConnection(hasty)
        began = time.monotonic()
        assert wire.call(RedisCommand(("BLPOP", "nothing", 1.2), 1.2)) is None
        assert time.monotonic() - began > 1.19
        wire.close()


def test_a_late_reply_is_an_error_and_the_command_is_not_sent_again(server: Server, client: redis.Redis) -> None:
    with redis.Redis.from_url(server.url, socket_timeout=1, retry=Retry(NoBackoff(), 3)) as hasty:
        wire = QueueConnection(hasty)
        wire.connect()
        server.pause()
        try:
            with pytest.raises(redis.TimeoutError, match=r"no reply to RPUSH within 1\.0 s: .* unknown"):
                wire.call(command("RPUSH", "jobs", "job"))
        finally:
            server.resume()
        eventually(lambda: client.llen("jobs"))
        assert client.lrange("jobs", 0, -1) == [b"job"]
        assert client.info("commandstats")["cmdstat_rpush"]["calls"] == 1
        wire.close()


def test_a_connection_that_was_closed_while_idle_is_replaced_before_anything_is_sent(client: redis.Redis) -> None:
    wire = QueueConnection(client)
    first = wire.connect()
    client.client_kill_filter(_id=str(first))
    # The other connection's reply may overtake the end of this one, most of all through a container's proxy.
    assert select.select([wire._connection._sock], [], [], 10)[0]
    assert wire.call(command("RPUSH", "jobs", "job")) == 1
    assert wire.connect() > first
    wire.close()


def test_an_error_reply_leaves_the_connection_as_it_is(client: redis.Redis) -> None:
    wire = QueueConnection(client)
    first = wire.connect()
    with pytest.raises(redis.ResponseError, match="unknown command"):
        wire.call(command("NOSUCH"))
    assert wire.connect() == first
    wire.close()


def test_a_text_client_gets_bytes(server: Server) -> None:
    with redis.Redis.from_url(server.url, decode_responses=True, encoding="latin-1") as texts:
        wire = QueueConnection(texts)
        assert wire.call(command("ECHO", b"\xff")) == b"\xff"
        wire.close()


def test_a_forked_copy_refuses_to_share_the_connection(client: redis.Redis) -> None:
    wire = QueueConnection(client)
    wire.connect()
    context = multiprocessing.get_context("fork")
    said = context.SimpleQueue()
    child = context.Process(target=lambda: said.put(_refusal(wire)))
    child.start()
    child.join(10)
    assert said.get() == "this queue was bound in another process. Call queue.bind(client) in this process."
    assert wire.call(command("PING")) == b"PONG"
    wire.close()


def test_what_is_no_client_is_refused() -> None:
    with pytest.raises(TypeError, match=r"needs a redis\.Redis or redis\.asyncio\.Redis, not str"):
        QueueConnection("redis://localhost")


def _refusal(wire: QueueConnection) -> str:
    try:
        wire.call(command("PING"))
    except RuntimeError as error:
        return str(error)
    return ""


_INTERRUPTED = """
import signal, time
from pytest_redisq.queues.connection import without_numbers
from redis.connection import HiredisRespSerializer

class Heard(Exception):
    pass

def hear(*_):
    raise Heard

signal.signal(signal.SIGALRM, hear)
heard, end = 0, time.monotonic() + 3
while time.monotonic() < end:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0003)
        while True:
            HiredisRespSerializer().pack(*without_numbers(("LRANGE", b"jobs", 1, -1, 0.25, 10**15)))
    except Heard:
        heard += 1
print(heard)
"""


@pytest.mark.slow
def test_a_signal_while_a_command_is_packed_is_an_exception_and_no_crash() -> None:
    """With numbers packed by hiredis 3.5 this ends within a second, by SIGSEGV."""
    done = subprocess.run([sys.executable, "-c", _INTERRUPTED], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 100


@pytest.mark.timeout(30)
def test_a_connection_that_ctrl_c_left_locked_is_used_and_closed_by_the_same_thread(client: redis.Redis) -> None:
    def ask() -> None:
        wire = wires[-1]
        wire.receive(wire.send(command("ECHO", "one")))
        wire.call(command("ECHO", "two"))

    wires = [QueueConnection(client)]
    lines = lines_of(ask, within=connection.__file__)
    assert len(lines) > 30
    for line in lines:
        wires.append(QueueConnection(client))
        assert interrupted_at(line, ask, within=connection.__file__) == "interrupted", line
        assert wires[-1].call(command("ECHO", "three")) == b"three", line
        wires[-1].close()
    wires[0].close()
