"""Text for terminals: nothing that they would obey, and no character that they cannot show."""

from __future__ import annotations

import codecs
from io import TextIOWrapper
from unicodedata import category, east_asian_width

#: What stands for a sign that an ASCII terminal has not: one of the same width, so that tables keep their shape.
_PLAIN = str.maketrans(
    "│┃║─━═╭╮╰╯✓✔✗✘●•⚡→←…–—−×µ█“”‘’∩\N{NO-BREAK SPACE}",
    "|||--=++++++xx**!><~---xu#\"\"''& ",
)
#: The Unicode categories of what a terminal obeys, what ends a line, and what UTF-8 has no form for (surrogates).
_OBEYED = frozenset({"Cc", "Cs", "Zl", "Zp"})
#: These turn the direction of what follows them.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_HANDLER = "redisq-plain"


def fit(text: str, columns: int) -> str:
    """`text` in no more than so many columns, the last of which tells that there was more."""
    if width(text) <= columns:
        return text
    while width(text) >= columns:
        text = text[: -max(1, (len(text) - columns) // 2)]
    return text + "…"


def escaped(text: str, *, allowed: str = "") -> str:
    r"""`text` with its control characters as Python writes them, but for those `allowed`.

    >>> escaped("\x1b[31mred\n")
    '\\x1b[31mred\\n'
    """
    if text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode()
        if (category(char) in _OBEYED or char in _TURNING) and char not in allowed
        else char
        for char in text
    )


def width(text: str) -> int:
    """How many columns `text` takes on a terminal: two for a wide character, none for one that combines.

    >>> width("a漢e\u0301")
    4
    """
    if text.isascii():
        return len(text)
    return sum(
        0 if category(char) in ("Mn", "Me", "Cf") else 2 if east_asian_width(char) in "WF" else 1 for char in text
    )


def degrade(stream: object) -> None:
    """Have `stream` write what its encoding has not in plain signs or as escapes, instead of UnicodeEncodeError."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors=_HANDLER)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    plain = error.object[error.start : error.end].translate(_PLAIN)
    return plain.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error(_HANDLER, _plain)
