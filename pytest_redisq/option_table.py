"""The option table: each is declared once, and flag, ini setting, environment variable, help and README follow.

All that the plugin imports besides pytest, and so paid for by every pytest run of everybody who has this package
installed: hence named tuples (a dataclass takes seven times as long to make), and no more than is needed to tell
whether an option was given. `options` makes sense of it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

KINDS = ("auto", "docker", "process", "embedded")

#: The kinds of server that have a use for an option: those we start ourselves, or also somebody's own, by its URL.
OWN = frozenset(KINDS)
ANY = OWN | {"url"}


class Option(NamedTuple):
    """One row. `name` is the field of `options.Settings`, and what all other names derive from."""

    name: str
    metavar: str
    help: str
    #: How it is parsed.
    value: Literal["server", "word", "path", "persistence", "seconds", "lines", "schedule"]
    #: The kinds of server that have a use for it.
    serves: frozenset[str] = ANY
    #: The kind of server that it asks for.
    asks_for: str = ""
    #: Whether it says which server, and how; the `redisq` command takes those, and leaves out what is for tests alone.
    of_server: bool = True

    @property
    def repeatable(self) -> bool:
        return self.value == "lines"

    @property
    def flag(self) -> str:
        name = self.name.removesuffix("s") if self.repeatable else self.name
        return f"--redisq-{name.replace('_', '-')}"

    @property
    def ini(self) -> str:
        return f"redisq_{self.name}"

    @property
    def env(self) -> str:
        return f"REDISQ_{self.name.upper()}"


OPTIONS = (
    Option(
        name="server",
        metavar="KIND|URL",
        help="which server: auto, docker, process, embedded, or the URL of your own (never flushed)",
        value="server",
    ),
    Option(
        name="image",
        metavar="IMAGE",
        help="Docker image of a Redis or Valkey, such as redis:8 or valkey/valkey:9.1",
        value="word",
        serves=frozenset({"auto", "docker"}),
        asks_for="docker",
    ),
    Option(
        name="binary",
        metavar="PATH",
        help="the redis-server or valkey-server to run as a process, instead of the first on PATH; with =, since "
        "pytest takes a path after a space for one of tests when it looks for its ini file",
        value="path",
        serves=frozenset({"auto", "process"}),
        asks_for="process",
    ),
    Option(
        name="server_args",
        metavar="LINE",
        help="a line of server configuration, such as 'maxmemory 10mb'; repeatable",
        value="lines",
        serves=OWN,
    ),
    Option(
        name="persistence",
        metavar="KIND",
        help="what survives a restart of the server: none, aof or rdb",
        value="persistence",
        serves=OWN,
    ),
    Option(
        name="startup_seconds",
        metavar="SECONDS",
        help="how long the server may take to answer its first PING",
        value="seconds",
    ),
    Option(
        name="replay",
        metavar="SCHEDULE",
        help="explore nothing, but run each scenario under this schedule, such as BBAAAB",
        value="schedule",
        of_server=False,
    ),
)
