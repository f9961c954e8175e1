"""Collects the values of the options from all sources, checks them, and resolves conflicts.

Precedence: flag, `-o name=value`, environment, ini file, default. Flags are for one run. The environment is for a
machine or a CI job, which knows whether Docker is available and which image of the matrix to use. The ini file is for
the project on every machine, so the other two override it.

Rules for conflicts between options:

* `image` selects Docker, and `binary` a process, unless a source of equal or higher precedence selects the server.
* An option that does not apply to the selected server is an error if its source has equal or higher precedence than
  that selection: it is probably a mistake. With lower precedence it is a default for other runs, and is ignored.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, assert_never, get_args
from urllib.parse import parse_qsl, urlsplit

from pytest_redisq.option_table import KINDS, Option
from pytest_redisq.option_table import OPTIONS as OPTIONS
from pytest_redisq.secret import TLS_URL_OPTIONS, URL_OPTIONS, Url, hide_words, without_secrets
from pytest_redisq.spelling import suggest

Persistence = Literal["none", "aof", "rdb"]

#: An option's value before it is parsed: a string, or several strings for a repeatable option.
Raw = str | Sequence[str]

SCHEMES = ("redis", "rediss", "unix")
_ENCODE = (
    "Write redis://USER:PASSWORD@HOST:PORT/DB, special characters of the password percent-encoded "
    "(# is %23, / is %2F, ? is %3F, @ is %40)."
)


class OptionError(ValueError):
    """An option with an invalid value, or a conflict of options. The text says where it was set and what is valid."""


def one_of(word: str, known: Sequence[str], noun: str, more: str = "") -> str:
    """Returns `word` if it is one of `known`. Raises ValueError with the valid words if not.

    * `noun`: describes the valid words, such as "a server".
    * `more`: describes further valid values; default: none.
    """
    if word in known:
        return word
    raise ValueError(f"{word!r} is not {noun}.{suggest(word, known)} Valid: {', '.join(known)}{more}.")


def check_url(url: str) -> None:
    """Raises ValueError if `url` is not a valid URL for redis-py. The message contains no part of a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its message quotes text that may be a part of the password
        raise ValueError(f"its host or port cannot be read. {_ENCODE}") from None
    if parts.fragment or port == 0:
        raise ValueError(f"{'it has a # in it' if parts.fragment else 'its port is 0'}. {_ENCODE}")
    if parts.scheme.lower() == "unix":
        if not parts.path:
            raise ValueError("it has no path. Write unix:///PATH/OF/SOCKET?db=0.")
    elif not re.fullmatch(r"(/[0-9]*)?", parts.path):
        raise ValueError(f"the text after the host is not a database number. {_ENCODE}")
    known = [*URL_OPTIONS, *(TLS_URL_OPTIONS if parts.scheme.lower() == "rediss" else ())]
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if name not in known:
            guess = suggest(name, known)
            # A name that resembles no option may be a part of a password that contains "&".
            called = f" {name!r}" if guess else ""
            raise ValueError(f"it has an unknown option{called}.{guess} Valid: {', '.join(known)}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The values of the options. `origin`: by field, where its value came from ("--redisq-image", "default", …)."""

    #: "auto", "docker", "process", "embedded", or the URL of the user's own server.
    server: str = "auto"
    #: The image for Docker; None for the project's default image.
    image: str | None = None
    #: The server binary for a process; None for the first one on PATH.
    binary: str | None = None
    #: Words for the server's command line, such as ("--maxmemory", "10mb").
    server_args: tuple[str, ...] = ()
    persistence: Persistence = "none"
    #: Seconds that a server may take to answer its first PING. A server that dies is reported at once.
    startup_seconds: float = 30.0
    #: The schedule to replay, as text; None to search.
    replay: str | None = None
    #: Whether what proves less than it was asked for fails.
    strict: bool = False
    origin: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if self.url:
            object.__setattr__(self, "server", Url(self.server))
        object.__setattr__(self, "server_args", hide_words(self.server_args))

    @property
    def url(self) -> str | None:
        """The URL of the user's own server; None if redisq starts a server."""
        return self.server if "://" in self.server else None

    @property
    def kind(self) -> str:
        """One of KINDS, or "url"."""
        return "url" if self.url else self.server


def _parse_server(raw: str) -> str:
    scheme, colon, _ = raw.partition("://")
    if colon and re.fullmatch(r"[\w.+-]*", scheme):
        # The rest of a URL may contain a password, so messages never quote it.
        one_of(scheme, SCHEMES, "a scheme of a Redis URL")
        try:
            check_url(raw)
        except ValueError as error:
            raise ValueError(f"{without_secrets(raw)}: {error}") from None
        return Url(raw)
    if "@" in raw:
        raise ValueError("it looks like a URL without its scheme. Write redis://USER:PASSWORD@HOST:PORT/DB.")
    if "/" in raw:
        raise ValueError(f"{raw!r} looks like a path. For a binary, write --redisq-binary={shlex.quote(raw)}.")
    return one_of(raw.lower(), KINDS, "a server", ", or a URL such as redis://localhost:6379/0")


def _parse_word(raw: str) -> str:
    if not raw or re.search(r"\s", raw):
        raise ValueError(f"{raw!r} is empty or has spaces in it.")
    return raw


def _parse_path(raw: str) -> str:
    if not raw.strip():
        raise ValueError("it is empty; give the path of a redis-server or valkey-server.")
    return raw


def _parse_persistence(raw: str) -> str:
    return one_of(raw.lower(), get_args(Persistence), "a kind of persistence")


def _parse_seconds(raw: str) -> float:
    try:
        seconds = float(raw)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{raw!r} is not a number of seconds above 0.")
    return seconds


def _parse_schedule(raw: str) -> str:
    """Checks only the form of a schedule. `explore` parses it."""
    if re.fullmatch(r"([A-Z][0-9]*[a-z]?[ ,.]*)+", raw):
        return raw
    raise ValueError(f"{raw!r} is not a schedule: write a capital letter for each step, as in BBAAAB or AB2BrA.")


def _parse(option: Option, raw: Any) -> Any:
    match option.value:
        case "server":
            return _parse_server(raw)
        case "word":
            return _parse_word(raw)
        case "path":
            return _parse_path(raw)
        case "persistence":
            return _parse_persistence(raw)
        case "seconds":
            return _parse_seconds(raw)
        case "lines":
            return _parse_lines(raw)
        case "yes_no":
            return one_of(raw.lower(), ("yes", "no"), "an answer") == "yes"
        case "schedule":
            return _parse_schedule(raw)
        case never:
            assert_never(never)


def _parse_lines(lines: Sequence[str]) -> tuple[str, ...]:
    """Split lines into words for the server's command line. A line is written as in redis.conf or as a flag.

    >>> _parse_lines(["maxmemory 10mb", "--save ''", "--timeout=1"])
    ('--maxmemory', '10mb', '--save', '', '--timeout', '1')
    """
    words: list[str] = []
    for line in lines:
        try:
            first, *rest = shlex.split(line)
        except ValueError:
            raise ValueError(f"{line!r} is empty or has an open quote. Write it as a line of redis.conf.") from None
        name, equals, value = first.removeprefix("--").partition("=")
        words += [f"--{name}", *([value] if equals else []), *rest]
    return hide_words(words)


_BY_NAME = {option.name: option for option in OPTIONS}
_DEFAULTS = Settings()


class OptionSource(NamedTuple):
    """The options that one source sets.

    * `values`: by option name.
    * `origin`: returns the name of the source for messages, such as "--redisq-image".
    """

    values: Mapping[str, Raw]
    origin: Callable[[Option], str]


def flags(values: Mapping[str, Any]) -> OptionSource:
    """A parsed command line as a source. Options that are not given are None in `values`."""
    given = {option.name: values.get(option.ini) for option in OPTIONS}
    return OptionSource(values={name: raw for name, raw in given.items() if raw is not None}, origin=lambda o: o.flag)


def environment(environ: Mapping[str, str]) -> OptionSource:
    """The environment as a source. An empty variable counts as unset: CI matrices leave variables empty."""
    given = {option.name: environ.get(option.env, "").strip() for option in OPTIONS}
    return OptionSource(values={name: raw for name, raw in given.items() if raw}, origin=lambda o: o.env)


def keywords(values: Mapping[str, object], where: str) -> OptionSource:
    """The keyword arguments of the function `where` as a source. Raises OptionError for an unknown name."""
    raw: dict[str, Raw] = {}
    for name, value in values.items():
        if name not in _BY_NAME:
            known = ", ".join(_BY_NAME)
            raise OptionError(f"{where}() has no argument {name!r}.{suggest(name, _BY_NAME)} Valid: {known}.")
        several = _BY_NAME[name].repeatable and isinstance(value, Sequence) and not isinstance(value, str)
        raw[name] = [str(line) for line in value] if several and isinstance(value, Sequence) else str(value)
    return OptionSource(values=raw, origin=lambda o: f"{where}({o.name}=…)")


def unknown_variables(environ: Iterable[str]) -> list[str]:
    """A warning for each environment variable whose name starts with REDISQ_ but is not an option."""
    known = [option.env for option in OPTIONS]
    strange = sorted(name for name in environ if name.startswith("REDISQ_") and name not in known)
    return [f"{name} is not a variable of pytest-redisq.{suggest(name, known)}" for name in strange]


def unknown_flag(argument: str) -> str:
    """The message for a command line argument that starts like a flag of pytest-redisq but is not one."""
    name = argument.partition("=")[0]
    known = [option.flag for option in OPTIONS]
    return f"{name} is not an option of pytest-redisq.{suggest(name, known)} Valid: {', '.join(known)}."


class _Given(NamedTuple):
    value: Any
    origin: str
    #: The rank of its source: 0 has the highest precedence; `len(sources)` is a default.
    rank: int


def resolve(sources: Sequence[OptionSource]) -> Settings:
    """Combine `sources`, the highest precedence first. Raises OptionError for invalid values and conflicts."""
    given = {option.name: _first(option, sources) for option in OPTIONS}
    for option in OPTIONS:
        asked, server = given[option.name], given["server"]
        if option.asks_for and asked.rank < server.rank:
            given["server"] = _Given(value=option.asks_for, origin=asked.origin, rank=asked.rank)
    server = given["server"]
    kind = Settings(server=server.value).kind
    for option in OPTIONS:
        asked = given[option.name]
        if kind in option.serves or asked.rank == len(sources):
            continue
        if asked.rank <= server.rank:
            raise OptionError(_at_odds(option, asked.origin, kind, server.origin))
        given[option.name] = _Given(value=getattr(_DEFAULTS, option.name), origin="default", rank=len(sources))
    return Settings(
        **{name: found.value for name, found in given.items()},
        origin={name: found.origin for name, found in given.items()},
    )


def _first(option: Option, sources: Sequence[OptionSource]) -> _Given:
    for rank, source in enumerate(sources):
        if option.name not in source.values:
            continue
        raw, origin = source.values[option.name], source.origin(option)
        if option.repeatable and isinstance(raw, str):
            raw = [line for line in raw.splitlines() if line.strip()]
        texts = raw if option.repeatable and isinstance(raw, (list, tuple)) else [raw]
        try:
            if not all(isinstance(text, str) for text in texts):  # a TOML file may contain other types
                raise ValueError(f"{raw!r} must be {'a list of strings' if option.repeatable else 'a string'}.")
            return _Given(value=_parse(option, raw), origin=origin, rank=rank)
        except ValueError as error:
            raise OptionError(f"{origin}: {error}") from None
    return _Given(value=getattr(_DEFAULTS, option.name), origin="default", rank=len(sources))


def _at_odds(option: Option, origin: str, kind: str, server_origin: str) -> str:
    servers = " or ".join(kind for kind in KINDS[1:] if kind in option.serves)
    chosen = "your own server (a URL)" if kind == "url" else f"a {kind} server"
    return f"{origin} applies to {servers}, but {server_origin} selects {chosen}. Remove one of the two."


def markdown_table() -> str:
    """The table of options in README, as Markdown."""
    head = ["| flag | ini | environment | default | what |", "|---|---|---|---|---|"]
    rows = [f"| `{o.flag}` | `{o.ini}` | `{o.env}` | {_shown_default(o)} | {o.help} |" for o in OPTIONS]
    return "\n".join([*head, *rows])


def _shown_default(option: Option) -> str:
    default = getattr(_DEFAULTS, option.name)
    if default in (None, ()):
        return ""
    if isinstance(default, bool):
        return "`yes`" if default else "`no`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"
