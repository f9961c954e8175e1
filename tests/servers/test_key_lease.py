"""The keys of a run on the user's own server: deleted by it, by its cleaner, or by the next run; no others ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from pytest_redisq.errors import ServerError
from pytest_redisq.options import Settings
from pytest_redisq.servers import Namespaces, Server, start
from pytest_redisq.servers.key_lease import LEASE_SECONDS, REGISTRY, KeyLease
from tests.foreign_keys import contents, populate
from tests.support import eventually, local

PREFIX = "redisq:0123456789abcdef:"
OTHER = "redisq:fedcba9876543210:"
LEASE = f"{PREFIX}~lease"
GONE_SECONDS = 2.0


@pytest.fixture
def client(process: Server) -> Iterator[redis.Redis]:
    with process.client() as client:
        yield client


@pytest.fixture
def lease(process: Server) -> Iterator[KeyLease]:
    lease = KeyLease(process.url, PREFIX)
    yield lease
    lease.leave()


def kill(lease: KeyLease) -> None:
    """Its cleaner, and wait until that has ended."""
    os.kill(lease.cleaner, signal.SIGKILL)
    eventually(lambda: _ended(lease.cleaner))


def _ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def crash(server: Server, prefix: str, keys: int) -> None:
    """As a machine does: a run and its cleaner are gone at once, and leave keys; its lease has not yet run out."""
    lease = KeyLease(server.url, prefix)
    assert lease.take() == []
    kill(lease)
    lease.release()
    with server.client() as client:
        for number in range(keys):
            client.set(f"{prefix}{number}", number)


def test_a_run_in_good_order_leaves_nothing(client: redis.Redis, lease: KeyLease) -> None:
    assert lease.take() == []
    client.rpush(f"{PREFIX}jobs", "a")
    assert LEASE_SECONDS - 10 < client.ttl(LEASE) <= LEASE_SECONDS
    assert lease.close() == []
    assert client.keys() == []
    eventually(lambda: _ended(lease.cleaner), GONE_SECONDS)


def test_the_cleaner_deletes_what_a_run_leaves(client: redis.Redis, lease: KeyLease) -> None:
    lease.take()
    for number in range(2000):
        client.set(f"{PREFIX}{number}", number)
    client.set("jobs", "theirs")
    lease.leave()
    eventually(lambda: client.keys() == [b"jobs"], GONE_SECONDS)
    eventually(lambda: _ended(lease.cleaner), GONE_SECONDS)


def test_the_cleaner_deletes_what_comes_late(client: redis.Redis, lease: KeyLease) -> None:
    """A child of the run, which ends a moment after it, may be writing still."""
    lease.take()
    lease.leave()
    eventually(lambda: not client.exists(LEASE), GONE_SECONDS)
    client.rpush(f"{PREFIX}jobs", "late")
    eventually(lambda: client.keys() == [], GONE_SECONDS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_the_cleaner_does_its_work_whatever_signal_it_gets(
    client: redis.Redis, lease: KeyLease, number: signal.Signals
) -> None:
    lease.take()
    os.kill(lease.cleaner, number)
    client.rpush(f"{PREFIX}jobs", "a")
    lease.leave()
    eventually(lambda: client.keys() == [], GONE_SECONDS)


def test_a_cleaner_that_was_killed_is_replaced(client: redis.Redis, lease: KeyLease) -> None:
    lease.take()
    lease.ensure_cleaner()
    first = lease.cleaner
    kill(lease)
    lease.ensure_cleaner()
    assert lease.cleaner != first
    client.rpush(f"{PREFIX}jobs", "a")
    lease.leave()
    eventually(lambda: client.keys() == [], GONE_SECONDS)


def test_what_a_crash_has_left_goes_when_its_lease_has_run_out(
    process: Server, client: redis.Redis, lease: KeyLease
) -> None:
    crash(process, OTHER, keys=1234)
    assert lease.take() == []  # the lease lasts, as a run's on another machine does
    assert lease.close() == []
    assert client.exists(f"{OTHER}0")
    client.pexpire(f"{OTHER}~lease", 1)
    eventually(lambda: not client.exists(f"{OTHER}~lease"))
    (told,) = lease.take()
    assert told.startswith(f"Deleted 1,234 keys {OTHER}*, left by process {os.getpid()} on ")
    assert client.keys(f"{OTHER}*") == []
    assert lease.close() == []
    assert client.keys() == []


def test_a_run_beside_keeps_its_keys(process: Server, client: redis.Redis, lease: KeyLease) -> None:
    beside = KeyLease(process.url, OTHER)
    beside.take()
    client.set(f"{OTHER}jobs", "theirs")
    assert lease.take() == []
    lease.leave()
    eventually(lambda: client.keys(f"{PREFIX}*") == [], GONE_SECONDS)
    assert client.get(f"{OTHER}jobs") == b"theirs"
    assert beside.close() == []
    assert client.keys() == []


def test_renewing_keeps_a_lease(client: redis.Redis, lease: KeyLease) -> None:
    lease.take()
    client.expire(LEASE, 10)
    lease.renew()
    assert client.ttl(LEASE) > LEASE_SECONDS - 10
    assert lease.close() == []


def test_a_run_that_outlives_its_lease_takes_it_again_and_says_so(
    process: Server, client: redis.Redis, lease: KeyLease
) -> None:
    lease.take()
    client.set(f"{PREFIX}jobs", "a")
    client.delete(LEASE)
    other = KeyLease(process.url, OTHER)
    (told,) = other.take()
    assert told.startswith(f"Deleted 1 keys {PREFIX}*")
    lease.renew()
    assert client.hkeys(REGISTRY % 0) == [OTHER.encode(), PREFIX.encode()]
    assert client.ttl(LEASE) > LEASE_SECONDS - 10
    other.close()
    (said,) = lease.close()
    assert said.startswith(f"The lease on the keys {PREFIX}* had expired")
    assert client.keys() == []


def test_ten_thousand_keys_that_look_like_ours_are_as_before(process: Server, client: redis.Redis) -> None:
    populate(process)
    before = contents(process)
    assert len(before) == 10_000
    crash(process, OTHER, keys=10)
    client.delete(f"{OTHER}~lease")
    told: list[str] = []
    external = start(Settings(server=process.url))
    namespaces = Namespaces(external, told.append)
    with namespaces.namespace() as namespace:
        namespace.client.rpush("jobs", "ours")
        with namespace.new_client() as other:
            other.set("*", "ours")
    namespaces.close()
    external.stop()
    assert len(told) == 1
    lease = KeyLease(process.url, PREFIX)
    lease.take()
    client.set(f"{PREFIX}*", "ours")
    lease.leave()
    eventually(lambda: not client.keys(f"{PREFIX}*") and not client.exists(REGISTRY % 0), GONE_SECONDS)
    assert contents(process) == before


@pytest.mark.parametrize(
    "make",
    [
        lambda client: client.set(REGISTRY % 0, "theirs"),
        lambda client: client.hset(REGISTRY % 0, mapping={"*": "theirs", "jobs": "theirs", f"{OTHER}": "theirs"}),
        lambda client: client.sadd(REGISTRY % 0, "theirs"),
    ],
    ids=["string", "hash", "set"],
)
def test_a_registry_of_somebody_elses_is_left_alone(
    process: Server, client: redis.Redis, lease: KeyLease, make: Callable[[redis.Redis], object]
) -> None:
    make(client)
    client.set("jobs", "theirs")
    client.set(f"{OTHER}jobs", "theirs")
    before = contents(process)
    (told,) = lease.take()
    assert told.startswith("The key redisq:runs:{0} on this server was not written by redisq, and is not changed.")
    client.set(f"{PREFIX}jobs", "ours")
    lease.leave()
    eventually(lambda: client.keys(f"{PREFIX}*") == [], GONE_SECONDS)
    eventually(lambda: _ended(lease.cleaner), GONE_SECONDS)
    assert contents(process) == before


@pytest.mark.parametrize("right", ["scan", "unlink", "hset", "hgetall", "hdel", "get", "set"])
def test_a_user_who_may_not_is_told_what_to_allow(process: Server, client: redis.Redis, right: str) -> None:
    client.acl_setuser("bob", enabled=True, nopass=True, keys=["redisq:*"], commands=["+@all", f"-{right}"])
    lease = KeyLease(f"redis://bob:any@127.0.0.1:{urlsplit(process.url).port}/0", PREFIX)
    with pytest.raises(ServerError, match=rf"forbids commands for deleting redisq's keys: .*\n.*\+{right}\b"):
        lease.take()
    assert client.keys() == []


def test_a_user_who_may_only_what_is_said_is_enough(process: Server, client: redis.Redis) -> None:
    rights = [f"+{right}" for right in ("get", "set", "hset", "hgetall", "hdel", "scan", "unlink")]
    client.acl_setuser(
        "ann", enabled=True, passwords=["+open sesame"], keys=["redisq:*"], commands=[*rights, "+select"]
    )
    lease = KeyLease(f"redis://ann:open%20sesame@127.0.0.1:{urlsplit(process.url).port}/3", PREFIX)
    lease.take()
    lease.leave()
    with redis.Redis.from_url(process.url.replace("/0", "/3")) as there:
        eventually(lambda: there.keys() == [], GONE_SECONDS)


def test_the_password_is_in_no_command_line_or_environment(
    process: Server, lease: KeyLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", process.url)
    lease.take()
    eventually(lambda: b"key_cleaner.py" in Path(f"/proc/{lease.cleaner}/cmdline").read_bytes())
    password = str(urlsplit(process.url).password).encode()
    for what in ("cmdline", "environ"):
        assert password not in Path(f"/proc/{lease.cleaner}/{what}").read_bytes()
    lease.close()


def test_a_forked_child_neither_holds_nor_ends_the_lease(client: redis.Redis, lease: KeyLease) -> None:
    lease.take()
    program = os.fork()
    if not program:
        lease.ensure_cleaner()
        assert lease.close() == []
        signal.pause()
    assert client.exists(LEASE)
    lease.leave()
    eventually(lambda: client.keys() == [], GONE_SECONDS)
    os.kill(program, signal.SIGKILL)
    os.waitpid(program, 0)


_SCRIPTING = """
import os, signal, subprocess, sys
from pytest_redisq.servers.key_lease import KeyLease
lease = KeyLease(sys.argv[1], sys.argv[2])
lease.take()
script = "import sys, redis; sys.stdin.read(); redis.Redis.from_url(sys.argv[1]).set(sys.argv[2] + 'late', '')"
subprocess.Popen([sys.executable, "-c", script, sys.argv[1], sys.argv[2]])
print(flush=True)
signal.pause()
"""


def test_a_script_that_outlives_its_test_leaves_no_key_either(process: Server, client: redis.Redis) -> None:
    """It began before the run was killed, and ends long after; until then the cleaner stays."""
    words = [sys.executable, "-c", _SCRIPTING, process.url, PREFIX]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as run:
        assert run.stdout
        assert run.stdin
        run.stdout.readline()
        client.config_resetstat()
        run.kill()
        eventually(lambda: client.info("commandstats").get("cmdstat_scan", {}).get("calls", 0) >= 3)
        run.stdin.close()  # now the script goes on
        eventually(lambda: client.info("commandstats").get("cmdstat_set", {}).get("calls", 0) == 1)
        eventually(lambda: client.keys() == [], GONE_SECONDS)


_ORPHAN = """
import os, signal, sys
from pytest_redisq.servers.supervisor import end_when_orphaned
from pytest_redisq.servers.key_lease import KeyLease
signal.signal(signal.SIGINT, signal.SIG_IGN)
end_when_orphaned()
lease = KeyLease(sys.argv[1], sys.argv[2])
lease.take()
print(os.getpid(), flush=True)
signal.pause()
"""


def test_an_orphan_lets_go_and_its_keys_go_for_good_with_it(process: Server, client: redis.Redis) -> None:
    """As a worker of xdist, which may be busy for a while when its controller has been killed."""
    script = '"$@" & wait'
    words = ["/bin/sh", "-c", script, "sh", sys.executable, "-c", _ORPHAN, process.url, PREFIX]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        orphan = int(parent.stdout.readline())
        client.set(f"{PREFIX}first", "")
        parent.kill()
        eventually(lambda: not client.exists(f"{PREFIX}first"), GONE_SECONDS)
        client.set(f"{PREFIX}second", "")
        os.kill(orphan, signal.SIGKILL)
        eventually(lambda: client.keys() == [], GONE_SECONDS)


def test_the_cleaner_goes_by_a_unix_socket(folder: Path) -> None:
    server = start(local(server_args=("--unixsocket", str(folder / "s"))))
    lease = KeyLease(f"unix://:{server.config('requirepass')}@{folder}/s?db=2", PREFIX)
    lease.take()
    with redis.Redis.from_url(server.url.replace("/0", "/2")) as client:
        assert client.exists(LEASE)
        lease.leave()
        eventually(lambda: client.keys() == [], GONE_SECONDS)
    server.stop()


def test_a_server_that_is_gone_at_the_end_is_told(process: Server, lease: KeyLease) -> None:
    lease.take()
    process.kill()
    with pytest.raises(ServerError, match=rf"cannot be reached: (?s:.*)Some keys {PREFIX}\* may be left"):
        lease.close()
    eventually(lambda: _ended(lease.cleaner), 4.0)


def test_a_cleaner_that_cannot_be_started_is_told(client: redis.Redis, lease: KeyLease) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", "x" * 200_000)  # more than the operating system takes
        with pytest.raises(ServerError, match="cannot be started: "):
            lease.take()
    assert client.keys() == []
