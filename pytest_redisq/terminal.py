"""Text for terminals: without control characters, and only with characters that the terminal can show."""

from __future__ import annotations

import codecs
import contextlib
import os
import shutil
from io import TextIOWrapper
from unicodedata import category, east_asian_width

#: Replacements for characters that an ASCII terminal cannot show. They have the same width, so tables keep their shape.
_PLAIN = str.maketrans(
    "│┃║─━═╭╮╰╯✓✔✗✘●•⚡→←…⋮–—−×µ█“”‘’∩\N{NO-BREAK SPACE}",
    "|||--=++++++xx**!><~:---xu#\"\"''& ",
)
#: The Unicode categories of control characters, line ends, and characters that UTF-8 cannot encode (surrogates).
_CONTROL = frozenset({"Cc", "Cs", "Zl", "Zp"})
#: Characters that change the direction of the text after them.
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_HANDLER = "redisq-plain"
#: Columns of a text that is not written to a terminal, such as a log.
_WIDE = 160
_noted_columns = 0


def fit(text: str, columns: int) -> str:
    """`text`, shortened to at most so many columns. A shortened text ends with "…", if there is room for it."""
    if width(text) <= columns:
        return text
    while text and width(text) >= columns:
        text = text[: -max(1, (len(text) - columns) // 2)]
    return text + "…" if columns > 0 else ""


def escaped(text: str, *, allowed: str = "") -> str:
    r"""`text` with its control characters as Python escapes. Characters in `allowed` are not escaped; default: none.

    >>> escaped("\x1b[31mred\n")
    '\\x1b[31mred\\n'
    """
    if text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode()
        if (category(char) in _CONTROL or char in _DIRECTION) and char not in allowed
        else char
        for char in text
    )


def width(text: str) -> int:
    """How many columns `text` takes on a terminal: two for a wide character, none for a combining one.

    >>> width("a漢e\u0301")
    4
    """
    if text.isascii():
        return len(text)
    return sum(
        0 if category(char) in ("Mn", "Me", "Cf") else 2 if east_asian_width(char) in "WF" else 1 for char in text
    )


def note_width(stream: object) -> None:
    """Remember how wide the terminal is that `stream` writes to, if it is one."""
    global _noted_columns
    with contextlib.suppress(OSError, ValueError):
        if isinstance(stream, TextIOWrapper):
            _noted_columns = os.get_terminal_size(stream.fileno()).columns


def shown_columns() -> int:
    """How many columns a text may take: those of COLUMNS, of the terminal, or 160 if there is none."""
    return shutil.get_terminal_size((_noted_columns or _WIDE, 24)).columns


def degrade(stream: object) -> None:
    """Make `stream` replace characters that its encoding lacks by plain ones or escapes: no UnicodeEncodeError."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors=_HANDLER)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    plain = error.object[error.start : error.end].translate(_PLAIN)
    return plain.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error(_HANDLER, _plain)
