"""What was asked for: the options' values, from wherever they came, checked and made one.

Precedence: flag, then `-o name=value`, then environment, then ini file, then default. What is typed for this one run
speaks first; the environment speaks for a machine or a CI job, which know what they can offer (Docker or not, which
image of the matrix); the ini file speaks for the project on every machine, so it must give way to both.

Laws, where two options are at odds (`near` means: of a source that comes earlier in that order):

* `image` asks for Docker and `binary` for a process, unless the server is chosen as near or nearer.
* An option that the chosen server has no use for is an error if it is as near as that choice or nearer: somebody meant
  it. Set farther away it is merely a default for another occasion, and unused.
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

#: What an option's value looks like before it is parsed: one string, or several where it is repeatable.
Raw = str | Sequence[str]

SCHEMES = ("redis", "rediss", "unix")
_ENCODE = (
    "Write redis://USER:PASSWORD@HOST:PORT/DB, special characters of the password percent-encoded "
    "(# is %23, / is %2F, ? is %3F, @ is %40)."
)


class OptionError(ValueError):
    """An option that cannot be obeyed; the text says which, where it was set, and what would do."""


def one_of(word: str, known: Sequence[str], noun: str, more: str = "") -> str:
    """`word`, if it is known; else a ValueError that lists what is."""
    if word in known:
        return word
    raise ValueError(f"{word!r} is not {noun}.{suggest(word, known)} Valid: {', '.join(known)}{more}.")


def check_url(url: str) -> None:
    """Raises ValueError, in words that hold no part of a password, where `url` is none that redis-py can obey."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # whose own words quote what may be a part of the password
        raise ValueError(f"its host or port cannot be read. {_ENCODE}") from None
    if parts.fragment or port == 0:
        raise ValueError(f"{'it has a # in it' if parts.fragment else 'its port is 0'}. {_ENCODE}")
    if parts.scheme.lower() == "unix":
        if not parts.path:
            raise ValueError("it has no path. Write unix:///PATH/OF/SOCKET?db=0.")
    elif not re.fullmatch(r"(/[0-9]*)?", parts.path):
        raise ValueError(f"what follows the host is no number of a database. {_ENCODE}")
    known = [*URL_OPTIONS, *(TLS_URL_OPTIONS if parts.scheme.lower() == "rediss" else ())]
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if name not in known:
            guess = suggest(name, known)
            # A name that is like none of ours may be a part of a password with a & in it.
            called = f" {name!r}" if guess else ""
            raise ValueError(f"it has an unknown option{called}.{guess} Valid: {', '.join(known)}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What was asked for. `origin` tells where each field's value came from ("--redisq-image", "default", …)."""

    #: "auto", "docker", "process", "embedded", or the URL of the user's own server.
    server: str = "auto"
    #: The image for Docker; None for the project's default image.
    image: str | None = None
    #: The server binary for a process; None for the first one on PATH.
    binary: str | None = None
    #: Words for the server's command line, such as ("--maxmemory", "10mb").
    server_args: tuple[str, ...] = ()
    persistence: Persistence = "none"
    #: How long a server may take to answer its first PING. A server that dies is reported at once.
    startup_seconds: float = 30.0
    #: The one schedule to run scenarios under, as it is written; None to search.
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
        """The URL of the user's own server, if that is what was chosen."""
        return self.server if "://" in self.server else None

    @property
    def kind(self) -> str:
        """One of KINDS, or "url"."""
        return "url" if self.url else self.server


def _parse_server(raw: str) -> str:
    scheme, colon, _ = raw.partition("://")
    if colon and re.fullmatch(r"[\w.+-]*", scheme):
        # The rest of a URL may hold a password, so it is never quoted.
        one_of(scheme.lower(), SCHEMES, "a scheme of a Redis URL")
        try:
            check_url(raw)
        except ValueError as error:
            raise ValueError(f"{without_secrets(raw)}: {error}") from None
        return Url(raw)
    if "@" in raw:
        raise ValueError("it looks like a URL without its scheme. Write redis://USER:PASSWORD@HOST:PORT/DB.")
    if "/" in raw:
        raise ValueError(f"{raw!r} looks like a path. For a binary, say --redisq-binary={shlex.quote(raw)}.")
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
    """Only its letters are checked here: what they mean, `explore` knows."""
    if re.fullmatch(r"([A-Z][0-9]*[a-z]?[ ,.]*)+", raw):
        return raw
    raise ValueError(f"{raw!r} is no schedule: a capital letter for each step is expected, as in BBAAAB or AB2BrA.")


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
    """The words of all lines, each line as in redis.conf or as on the server's command line.

    >>> _parse_lines(["maxmemory 10mb", "--save ''", "--timeout=1"])
    ('--maxmemory', '10mb', '--save', '', '--timeout', '1')
    """
    words: list[str] = []
    for line in lines:
        try:
            first, *rest = shlex.split(line)
        except ValueError:
            raise ValueError(f"{line!r} is empty or has an open quote; give it as a line of redis.conf.") from None
        name, equals, value = first.removeprefix("--").partition("=")
        words += [f"--{name}", *([value] if equals else []), *rest]
    return hide_words(words)


_BY_NAME = {option.name: option for option in OPTIONS}
_DEFAULTS = Settings()


class OptionSource(NamedTuple):
    """Values by option name, as one place gives them, and how an error message or the header calls that place."""

    values: Mapping[str, Raw]
    origin: Callable[[Option], str]


def flags(values: Mapping[str, Any]) -> OptionSource:
    """The source that a parsed command line is; options not given there are None."""
    given = {option.name: values.get(option.ini) for option in OPTIONS}
    return OptionSource(values={name: raw for name, raw in given.items() if raw is not None}, origin=lambda o: o.flag)


def environment(environ: Mapping[str, str]) -> OptionSource:
    """The source that the environment is; an empty variable counts as unset, as CI matrices leave them so."""
    given = {option.name: environ.get(option.env, "").strip() for option in OPTIONS}
    return OptionSource(values={name: raw for name, raw in given.items() if raw}, origin=lambda o: o.env)


def keywords(values: Mapping[str, object], where: str) -> OptionSource:
    """The source that the keyword arguments of `where`, a function, are; an unknown one is an OptionError."""
    raw: dict[str, Raw] = {}
    for name, value in values.items():
        if name not in _BY_NAME:
            known = ", ".join(_BY_NAME)
            raise OptionError(f"{where}() knows no {name!r}.{suggest(name, _BY_NAME)} Valid: {known}.")
        several = _BY_NAME[name].repeatable and isinstance(value, Sequence) and not isinstance(value, str)
        raw[name] = [str(line) for line in value] if several and isinstance(value, Sequence) else str(value)
    return OptionSource(values=raw, origin=lambda o: f"{where}({o.name}=…)")


def unknown_variables(environ: Iterable[str]) -> list[str]:
    """One warning for each environment variable that looks like an option and is none."""
    known = [option.env for option in OPTIONS]
    strange = sorted(name for name in environ if name.startswith("REDISQ_") and name not in known)
    return [f"{name} is no variable of pytest-redisq.{suggest(name, known)}" for name in strange]


def unknown_flag(argument: str) -> str:
    """What to say of a command line argument that looks like one of our flags and is none."""
    name = argument.partition("=")[0]
    known = [option.flag for option in OPTIONS]
    return f"{name} is no option of pytest-redisq.{suggest(name, known)} Valid: {', '.join(known)}."


class _Given(NamedTuple):
    value: Any
    origin: str
    #: The place of its source in the order of precedence, 0 the nearest; `len(sources)` for a default.
    distance: int


def resolve(sources: Sequence[OptionSource]) -> Settings:
    """The settings that `sources`, the nearest first, amount to; OptionError if they cannot be obeyed."""
    given = {option.name: _nearest(option, sources) for option in OPTIONS}
    for option in OPTIONS:
        asked, server = given[option.name], given["server"]
        if option.asks_for and asked.distance < server.distance:
            given["server"] = _Given(value=option.asks_for, origin=asked.origin, distance=asked.distance)
    server = given["server"]
    kind = Settings(server=server.value).kind
    for option in OPTIONS:
        asked = given[option.name]
        if kind in option.serves or asked.distance == len(sources):
            continue
        if asked.distance <= server.distance:
            raise OptionError(_at_odds(option, asked.origin, kind, server.origin))
        given[option.name] = _Given(value=getattr(_DEFAULTS, option.name), origin="default", distance=len(sources))
    return Settings(
        **{name: found.value for name, found in given.items()},
        origin={name: found.origin for name, found in given.items()},
    )


def _nearest(option: Option, sources: Sequence[OptionSource]) -> _Given:
    for distance, source in enumerate(sources):
        if option.name not in source.values:
            continue
        raw, origin = source.values[option.name], source.origin(option)
        if option.repeatable and isinstance(raw, str):
            raw = [line for line in raw.splitlines() if line.strip()]
        texts = raw if option.repeatable and isinstance(raw, (list, tuple)) else [raw]
        try:
            if not all(isinstance(text, str) for text in texts):  # an ini file of TOML may hold anything
                raise ValueError(f"{raw!r} is to be {'a list of texts' if option.repeatable else 'text'}.")
            return _Given(value=_parse(option, raw), origin=origin, distance=distance)
        except ValueError as error:
            raise OptionError(f"{origin}: {error}") from None
    return _Given(value=getattr(_DEFAULTS, option.name), origin="default", distance=len(sources))


def _at_odds(option: Option, origin: str, kind: str, server_origin: str) -> str:
    servers = " or ".join(kind for kind in KINDS[1:] if kind in option.serves)
    chosen = "your own server (a URL)" if kind == "url" else f"a {kind} server"
    return f"{origin} is for {servers}, but {server_origin} asks for {chosen}. Leave one of the two out."


def markdown_table() -> str:
    """The options as README shows them."""
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
