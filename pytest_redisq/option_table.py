"""The option table: each option once. Its flag, ini setting, environment variable, help and README row derive from it.

The plugin imports only this module in every pytest run. So it uses named tuples (a dataclass takes seven times as long
to create), and contains only the data needed to find out whether an option is given. `options` parses the values.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

KINDS = ("auto", "docker", "process", "embedded")

#: The kinds of server that an option applies to: servers that redisq starts, or also the user's own, given by URL.
OWN = frozenset(KINDS)
ANY = OWN | {"url"}


class Option(NamedTuple):
    """One option. `name` is the field of `options.Settings`; all other names derive from it."""

    name: str
    metavar: str
    help: str
    #: How the value is parsed.
    value: Literal["server", "word", "path", "persistence", "seconds", "lines", "schedule", "yes_no"]
    #: The kinds of server that it applies to.
    serves: frozenset[str] = ANY
    #: The kind of server that it selects.
    asks_for: str = ""
    #: Whether it selects or configures the server. The `redisq` command takes only these options.
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
        help="the server: auto, docker, process, embedded, or the URL of your own server (never flushed)",
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
        help="path of the redis-server or valkey-server to run, instead of the first on PATH; write it with =, since "
        "pytest takes a path after a space for a test path when it looks for its ini file",
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
        help="persistence of the server: none, aof or rdb",
        value="persistence",
        serves=OWN,
    ),
    Option(
        name="startup_seconds",
        metavar="SECONDS",
        help="seconds that the server may take to answer its first PING",
        value="seconds",
    ),
    Option(
        name="replay",
        metavar="SCHEDULE",
        help="do not explore; run each scenario once under this schedule, such as BBAAAB",
        value="schedule",
        of_server=False,
    ),
    Option(
        name="strict",
        metavar="YES|NO",
        help="yes: an exhaustive exploration that its budget cuts short fails, and so does a run that is never judged",
        value="yes_no",
        of_server=False,
    ),
)
