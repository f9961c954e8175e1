"""One `Server`, whichever way it was had: every test runs on each kind that this machine has."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time

import pytest
import redis

from pytest_redisq.errors import ServerError
from pytest_redisq.options import Settings
from pytest_redisq.servers import Server, start
from tests.support import eventually


def test_header_tells_flavour_version_way_and_reason(server: Server) -> None:
    assert re.fullmatch(rf"(redis|valkey) \d+\.\d+\.\d+, {server.kind}, \S.* \(asked for\)", server.header()), (
        server.header()
    )


def test_flavour_and_version_are_the_servers_own(server: Server) -> None:
    """Valkey says `redis_version:7.2.4` for its clients' sake; that is not its version."""
    identity = server.info("server")
    if "valkey_version" in identity:
        assert (server.flavour, server.version) == ("valkey", identity["valkey_version"])
    else:
        assert (server.flavour, server.version) == ("redis", identity["redis_version"])


def test_capabilities_are_asked_for(server: Server) -> None:
    assert server.can("BLPOP")
    assert server.can("client unblock")
    assert not server.can("NOSUCHCOMMAND")
    assert not server.can("CLIENT NOSUCH")


def test_only_the_password_opens_it_and_only_on_the_loopback_interface(server: Server) -> None:
    with redis.Redis(host="127.0.0.1", port=_port(server)) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    if server.kind != "docker":
        assert server.config("bind") == "127.0.0.1"


def test_clients_send_each_command_once_and_wait_for_the_answer(server: Server) -> None:
    """By default redis-py stops waiting after 5 s, and sends again what was not answered: both lose or double."""
    with server.client(socket_timeout=1) as impatient, server.client() as patient:
        assert patient.connection_pool.connection_kwargs["socket_timeout"] is None
        impatient.ping()
        server.pause()
        with pytest.raises(redis.TimeoutError):
            impatient.rpush("jobs", "once")
        server.resume()
        eventually(lambda: patient.llen("jobs"))
        assert patient.lrange("jobs", 0, -1) == [b"once"]


def test_asyncio_clients_answer(server: Server) -> None:
    async def use() -> bytes | None:
        async with server.async_client() as client:
            await client.set("key", "value")
            answer: bytes | None = await client.get("key")
            return answer

    assert asyncio.run(use()) == b"value"


def test_client_options_override(server: Server) -> None:
    with server.client(decode_responses=True, socket_timeout=3) as client:
        assert client.echo("text") == "text"
        assert client.connection_pool.connection_kwargs["socket_timeout"] == 3


def test_settings_are_read_and_changed(server: Server) -> None:
    server.config("maxmemory-policy", "allkeys-lru")
    assert server.config("maxmemory-policy") == "allkeys-lru"


def test_a_mistyped_setting_gets_a_suggestion(server: Server) -> None:
    with pytest.raises(ServerError, match=r"has no setting 'maxmemori'\. Did you mean 'maxmemory'\?"):
        server.config("maxmemori")


def test_the_log_can_be_read(server: Server) -> None:
    eventually(lambda: "eady to accept connections" in server.log())  # a container's arrives late


def test_kill_is_over_when_it_returns(server: Server) -> None:
    with server.client() as client:
        client.ping()
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()


def test_restart_answers_at_the_same_url(server: Server) -> None:
    url, before = server.url, server.info("server")["run_id"]
    server.restart()
    assert server.url == url
    assert server.info("server")["run_id"] != before


def test_restart_revives_a_killed_and_a_paused_server(server: Server) -> None:
    server.kill()
    server.restart()
    server.pause()
    server.restart()
    assert server.info("server")


def test_nothing_survives_a_restart_unless_asked(server: Server) -> None:
    with server.client() as client:
        client.set("key", "value")
        server.restart()
        assert client.get("key") is None


def test_a_paused_server_keeps_connections_and_answers_later(server: Server) -> None:
    with server.client(socket_timeout=1) as client:
        client.ping()
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        assert client.ping()


def test_revive_makes_a_paused_or_dead_server_answer(server: Server) -> None:
    server.pause()
    server.revive()
    assert server.info("server")
    server.kill()
    server.revive()
    assert server.info("server")


def test_stop_can_be_said_twice_and_leaves_nothing(server: Server) -> None:
    port, directory = _port(server), server.supervisor and server.supervisor.directory
    server.stop()
    server.stop()
    eventually(lambda: not (directory and directory.exists()))
    with redis.Redis(port=port) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_threads_may_restart_it_at_once(process: Server) -> None:
    """Each restart ends with a server that answers, and no two servers ever run at a time."""
    failures: list[Exception] = []

    def restart() -> None:
        try:
            for _ in range(3):
                process.restart()
                process.info("server")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=restart) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert process.info("server")
    assert [str(failure) for failure in failures if "Connection" not in str(failure)] == []


def test_a_forked_child_does_not_hold_the_server_but_may_use_it(process: Server) -> None:
    """Otherwise a forgotten child process would keep the server running."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            process.config("maxmemory-policy", "allkeys-lfu")
            process.pause()
            process.resume()
            os.write(write_end, b"used")
            time.sleep(60)
        finally:
            os._exit(1)
    try:
        assert os.read(read_end, 10) == b"used"
        assert process.config("maxmemory-policy") == "allkeys-lfu"
        directory = process.supervisor and process.supervisor.directory
        process.stop()
        eventually(lambda: not (directory and directory.exists()))
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(read_end)
        os.close(write_end)


def test_somebody_elses_server_is_left_alone(process: Server) -> None:
    external = start(Settings(server=process.url))
    assert external.header().endswith(f"url, redis://:***@127.0.0.1:{_port(process)}/0 (asked for)")
    for forbidden in (
        external.restart,
        external.kill,
        external.pause,
        external.resume,
        external.log,
        lambda: external.config("maxmemory", 1),
    ):
        with pytest.raises(
            ServerError, match=r"was not started by redisq: it cannot be [^\n]+\nWhat to do: let redisq"
        ):
            forbidden()
    assert external.config("maxmemory") == "0"
    external.stop()
    assert process.info("server")


def _port(server: Server) -> int:
    return int(re.findall(r":(\d+)/", server.url)[-1])
