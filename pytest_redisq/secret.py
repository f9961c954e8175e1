"""Passwords, kept out of whatever people and log files get to see: reprs, error texts, test reports.

Law: a text that holds a password is a `Url` or a `Secret` wherever this package keeps it, so that no repr shows it: not
that of the object, nor of a dataclass, dict or frame that has it. `masked` is for text that others have made.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

_MASK = "***"
#: Shorter passwords are masked inside of URLs alone: elsewhere they would take words of everyday with them.
_LEAST_CHARACTERS = 6
#: What a URL may say after its `?`, as redis-py has it; the second for rediss:// alone.
URL_OPTIONS = (
    *("client_name", "db", "decode_responses", "encoding", "encoding_errors"),
    *("health_check_interval", "lib_name", "lib_version", "max_connections", "password"),
    *("protocol", "retry_on_timeout", "socket_connect_timeout", "socket_keepalive", "socket_read_size"),
    *("socket_timeout", "username"),
)
TLS_URL_OPTIONS = (
    *("ssl_ca_certs", "ssl_ca_data", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile"),
    *("ssl_check_hostname", "ssl_ciphers", "ssl_keyfile", "ssl_min_version", "ssl_password"),
    *("ssl_validate_ocsp", "ssl_validate_ocsp_stapled"),
)
#: Of all others, be they mistyped, the values are masked.
_SHOWN = frozenset([*URL_OPTIONS, *TLS_URL_OPTIONS]) - {"password", "ssl_password", "username"}
#: Settings of a server that hold a secret.
SECRET_SETTINGS = frozenset({"requirepass", "masterauth", "tls-key-file-pass", "tls-client-key-file-pass", "user"})
#: User, password and what is before the end of a URL's text.
_LOGIN = re.compile(r"//(?:([^:/@?#]*):)?(.*)@", re.DOTALL)
_IN_TEXT = re.compile(r"\b(?:rediss?|unix|valkeys?)://[^\s'\"<>]*", re.IGNORECASE)

#: Every password of this process, as it is and as a URL has it.
_known: set[str] = set()


class Secret(str):
    """A password. As text it is the password; its repr is '***'."""

    __slots__ = ()

    def __new__(cls, text: str) -> Secret:
        remember(text)
        return super().__new__(cls, text)

    def __repr__(self) -> str:
        return repr(_MASK)

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, (str(self),)


class Url(str):
    """A URL that may hold a password. As text it is the URL; its repr has `***` for the password.

    >>> Url("redis://:secret@127.0.0.1:6379/0")
    'redis://:***@127.0.0.1:6379/0'
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Url:
        for password in _passwords(text):
            remember(password)
        return super().__new__(cls, text)

    def __repr__(self) -> str:
        return repr(without_secrets(str(self)))

    def __reduce__(self) -> tuple[type[Url], tuple[str]]:
        return Url, (str(self),)


def remember(password: str) -> None:
    """From now on `masked` knows it."""
    if len(password) >= _LEAST_CHARACTERS:
        _known.update((str(password), unquote(password), quote(password, safe="")))


def hide_words(words: Iterable[str]) -> tuple[str, ...]:
    """The `words` of a server's command line, those that hold a secret as a `Secret`.

    >>> hide_words(["--requirepass", "secret", "--port", "7000"])
    ('--requirepass', '***', '--port', '7000')
    """
    hidden: list[str] = []
    setting = ""
    for word in words:
        if word.startswith("--"):
            setting = word.removeprefix("--").lower()
            hidden.append(word)
        else:
            hidden.append(Secret(word) if setting in SECRET_SETTINGS else word)
    return tuple(hidden)


def hide(options: dict[str, Any]) -> None:
    """Make a `Secret` of each password among a client's `options`, which redis-py keeps and its frames show."""
    for name in ("password", "ssl_password"):
        if isinstance(options.get(name), str):
            options[name] = Secret(options[name])


def without_secrets(url: str) -> str:
    """`url` as it may be shown.

    >>> without_secrets("redis://ann:secret@localhost:6379/3?db=1&Password=x")
    'redis://ann:***@localhost:6379/3?db=1&Password=***'
    """
    url = _LOGIN.sub(lambda found: f"//{'' if found[1] is None else found[1] + ':'}{_MASK}@", url, count=1)
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # what stands for host or port may be a part of a password
        return f"{url.partition('://')[0]}://{_MASK}"
    path = parts.path if parts.scheme == "unix" or not parts.path.strip("/0123456789") else f"/{_MASK}"
    query = "&".join(map(_without_value, filter(None, parts.query.split("&"))))
    shown = f"{url.partition('://')[0]}://{parts.netloc}{path}"
    return shown + (f"?{query}" if query else "") + (f"#{_MASK}" if parts.fragment else "")


def _without_value(option: str) -> str:
    name, equals, _ = option.partition("=")
    if name in _SHOWN:
        return option
    is_like_one = equals and difflib.get_close_matches(name.lower(), [*URL_OPTIONS, *TLS_URL_OPTIONS], n=1)
    return f"{name}={_MASK}" if is_like_one else _MASK


def masked(text: str) -> str:
    """`text` without any password that this process knows, and without those of Redis URLs in it."""
    for password in sorted(_known, key=len, reverse=True):
        text = text.replace(password, _MASK)
    return _IN_TEXT.sub(lambda found: without_secrets(found[0]), text) if "://" in text else text


def _passwords(url: str) -> list[str]:
    login = _LOGIN.search(url)
    options = parse_qsl(url.partition("?")[2])
    of_login = [login[2]] if login and login[1] is not None else []  # else it is a user's name, by the rules
    return [*of_login, *(value for name, value in options if name not in _SHOWN)]
