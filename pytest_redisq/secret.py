"""Keeps passwords out of reprs, error texts, test reports and logs.

Law: wherever this package keeps a text with a password, it is a `Url` or a `Secret`. So the password is in no repr: not
in that of the object, and not in that of a dataclass, dict or frame that contains it. `masked` is for text from other
sources.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

_MASK = "***"
#: Shorter passwords are masked only inside URLs: elsewhere the same characters are often part of ordinary words.
_LEAST_CHARACTERS = 6
#: The options that redis-py accepts after the `?` of a URL; TLS_URL_OPTIONS only for rediss://.
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
#: The options whose values are shown. All other values are masked, also those of misspelt options.
_SHOWN = frozenset([*URL_OPTIONS, *TLS_URL_OPTIONS]) - {"password", "ssl_password", "username"}
#: Settings of a server that hold a secret.
SECRET_SETTINGS = frozenset({"requirepass", "masterauth", "tls-key-file-pass", "tls-client-key-file-pass", "user"})
#: The user and the password in a URL.
_LOGIN = re.compile(r"//(?:([^:/@?#]*):)?(.*)@", re.DOTALL)
_IN_TEXT = re.compile(r"\b(?:rediss?|unix|valkeys?)://[^\s'\"<>]*", re.IGNORECASE)

#: Every password of this process, as it is and percent-encoded as in a URL.
_known: set[str] = set()


class Secret(str):
    """A password. Its `str` is the password; its repr is '***'."""

    __slots__ = ()

    def __new__(cls, text: str) -> Secret:
        remember(text)
        return super().__new__(cls, text)

    def __repr__(self) -> str:
        return repr(_MASK)

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, (str(self),)


class Url(str):
    """A URL that may contain a password. Its `str` is the URL; its repr has `***` in place of the password.

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
    """Make `masked` replace `password` from now on."""
    if len(password) >= _LEAST_CHARACTERS:
        _known.update((str(password), unquote(password), quote(password, safe="")))


def hide_words(words: Iterable[str]) -> tuple[str, ...]:
    """The words of a server's command line, with passwords as `Secret`.

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
    """Replace each password in a client's `options` by a `Secret`: redis-py keeps them, and its frames show them."""
    for name in ("password", "ssl_password"):
        if isinstance(options.get(name), str):
            options[name] = Secret(options[name])


def without_secrets(url: str) -> str:
    """`url` with `***` in place of passwords.

    >>> without_secrets("redis://ann:secret@localhost:6379/3?db=1&Password=x")
    'redis://ann:***@localhost:6379/3?db=1&Password=***'
    """
    url = _LOGIN.sub(lambda found: f"//{'' if found[1] is None else found[1] + ':'}{_MASK}@", url, count=1)
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # the text in place of the host or port may be a part of a password
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
    """`text` with `***` in place of each password of this process and of each Redis URL in the text."""
    for password in sorted(_known, key=len, reverse=True):
        text = text.replace(password, _MASK)
    return _IN_TEXT.sub(lambda found: without_secrets(found[0]), text) if "://" in text else text


def _passwords(url: str) -> list[str]:
    login = _LOGIN.search(url)
    options = parse_qsl(url.partition("?")[2])
    of_login = [login[2]] if login and login[1] is not None else []  # without a colon it is a user name
    return [*of_login, *(value for name, value in options if name not in _SHOWN)]
