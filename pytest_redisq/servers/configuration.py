"""The configuration of a server of our own: what we need of it, and what the user's server arguments say."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_redisq.options import Persistence, Settings
from pytest_redisq.servers.backend import DATABASES

_PERSIST: dict[Persistence, tuple[str, ...]] = {
    "none": ("--save", "", "--appendonly", "no"),
    "aof": ("--save", "", "--appendonly", "yes"),
    "rdb": ("--save", "3600 1", "--appendonly", "no"),
}


def given(server_args: Sequence[str]) -> dict[str, str]:
    """The settings that the user's own server arguments make, by lower-case name.

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


def configuration(settings: Settings, *, bind: str, port: int, password: str, directory: str) -> str:
    """The text of a redis.conf. The password belongs there, since every user of a machine can read command lines."""
    words = [
        *("--bind", bind, "--port", str(port), "--requirepass", password, "--dir", directory),
        *("--databases", str(DATABASES), "--daemonize", "no", "--logfile", ""),
        *_PERSIST[settings.persistence],
    ]
    pairs = zip(words[::2], words[1::2], strict=True)
    return "".join(f"{name.removeprefix('--')} {_quoted(value)}\n" for name, value in pairs)


def _quoted(value: str) -> str:
    return value if value.replace(" ", "").isalnum() else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
