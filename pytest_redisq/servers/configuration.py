"""The configuration of a server that redisq starts, from the settings and the user's server arguments."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_redisq.options import Persistence, Settings
from pytest_redisq.secret import SECRET_SETTINGS
from pytest_redisq.servers.backend import DATABASES

_PERSIST: dict[Persistence, tuple[str, ...]] = {
    "none": ("--save", "", "--appendonly", "no"),
    "aof": ("--save", "", "--appendonly", "yes"),
    "rdb": ("--save", "3600 1", "--appendonly", "no"),
}


def given(server_args: Sequence[str]) -> dict[str, str]:
    """The settings in the user's server arguments, by lower-case name.

    >>> given(("--port", "7000", "--save", "60", "1"))
    {'port': '7000', 'save': '60 1'}
    """
    found: dict[str, list[str]] = {}
    words: list[str] = []
    for arg in server_args:
        if arg.startswith("--"):
            words = found.setdefault(arg.removeprefix("--").lower(), [])
            words.clear()
        else:
            words.append(arg)
    return {name: " ".join(values) for name, values in found.items()}


def on_command_line(server_args: Sequence[str]) -> list[str]:
    """The words of `server_args` for a command line, without secrets: every user of a machine can read command lines.

    >>> on_command_line(("--masterauth", "secret", "--port", "7000"))
    ['--port', '7000']
    """
    return [word for name, words in _settings(server_args) if name not in SECRET_SETTINGS for word in words]


def shown(server_args: Sequence[str]) -> str:
    """`server_args` for messages, with secrets masked.

    >>> shown(("--requirepass", "secret", "--port", "7000"))
    '--requirepass *** --port 7000'
    """
    known = _settings(server_args)
    return " ".join(f"{words[0]} ***" if name in SECRET_SETTINGS else " ".join(words) for name, words in known)


def _settings(server_args: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Each setting's lower-case name, and its words, starting with `--name`."""
    found: list[tuple[str, list[str]]] = []
    for arg in server_args:
        if arg.startswith("--") or not found:
            found.append((arg.removeprefix("--").lower(), []))
        found[-1][1].append(arg)
    return found


def configuration(settings: Settings, *, bind: str, port: int, password: str, directory: str) -> str:
    """The text of a redis.conf. It contains the passwords, since every user of a machine can read command lines."""
    words = [
        *("--bind", bind, "--port", str(port), "--requirepass", password, "--dir", directory),
        *("--databases", str(DATABASES), "--daemonize", "no", "--logfile", ""),
        *_PERSIST[settings.persistence],
    ]
    pairs = zip(words[::2], words[1::2], strict=True)
    lines = [[name, value] for name, value in pairs]
    lines += [own for name, own in _settings(settings.server_args) if name in SECRET_SETTINGS - {"requirepass"}]
    return "".join(f"{name.removeprefix('--')} {' '.join(map(_quoted, values))}\n" for name, *values in lines)


def _quoted(value: str) -> str:
    return value if value.replace(" ", "").isalnum() else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
