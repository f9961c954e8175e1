"""Finds the messages of a run inside a value of the server: as they are, or encoded once or several times.

Pure. A pickle is never loaded: its bytes are searched, and its text arguments are read with `pickletools`.
"""

from __future__ import annotations

import base64
import binascii
import pickletools
import re
import zlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import chain
from typing import Protocol, TypeAlias

from pytest_redisq.model import Message, body_marker

#: The message that these bytes are, and nothing else; None if they are no whole body of this run.
BodyReader: TypeAlias = Callable[[bytes], Message | None]


class FindMessages(Protocol):
    """Finds the messages of a run in values of the server."""

    def __call__(self, value: bytes) -> list[Message]:
        """The messages that stand in a value, each once."""

    def lacks(self, values: Iterable[bytes], wanted: Container[Message]) -> bool:
        """Whether none of `wanted` stands in any of these values. False, too, if that cannot be seen at a glance."""


#: So many encodings inside each other are undone, such as gzip inside base64 inside JSON.
_DEPTH = 3
#: The most bytes that one compressed value may become.
_INFLATED_BYTES = 1 << 22
#: So many places in one value are tried as the beginning of compressed data.
_INFLATE_TRIES = 8
#: At so many places in one value a body without a marker is looked for.
_READER_TRIES = 1 << 12

_COMPRESSED = re.compile(rb"\x1f\x8b\x08|x[\x01\x5e\x9c\xda]", re.DOTALL)
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}")
_URL_SAFE, _TO_URL_SAFE = bytes.maketrans(b"-_", b"+/"), bytes.maketrans(b"+/", b"-_")
#: How the base64 of compressed data begins.
_COMPRESSED_BASE64 = re.compile(rb"H4sI|eJ[w-z]|eN[o-r]|eA[E-H]|eF[4-7]")
#: How a pickle of protocol 0 to 2 names the function that makes bytes out of text.
_PICKLED_BYTES = b"_codecs"


def marked_messages(run: str) -> FindMessages:
    """Return a finder of bodies made by `model.encode_body`, by the marker of `run`."""
    return _MarkedMessages(run)


class _MarkedMessages:
    def __init__(self, run: str) -> None:
        self._marker = marker = body_marker(run)
        self._head = re.compile(re.escape(marker) + rb"(\d{1,18}) (\d{1,18}) [0-9a-f]{8}")
        once = _base64_parts([marker])
        self._parts = [*once, *_base64_parts(once), _PICKLED_BYTES]

    def __call__(self, value: bytes) -> list[Message]:
        if self._marker in value:
            return list(dict.fromkeys(self._read(value)))
        # Most values hold nothing, and to undo encodings takes ten times as long as to see that there is none.
        return _found_in(value, self._read) if self._may_be_encoded(value) else []

    def lacks(self, values: Iterable[bytes], wanted: Container[Message]) -> bool:
        joined = b"\0".join(values)
        return not (self._may_be_encoded(joined) or any(message in wanted for message in self._read(joined)))

    def _may_be_encoded(self, value: bytes) -> bool:
        if any(part in value for part in self._parts):
            return True
        return bool(_COMPRESSED.search(value) or _COMPRESSED_BASE64.search(value))

    def _read(self, value: bytes) -> Iterator[Message]:
        return (Message(int(found[1]), int(found[2])) for found in self._head.finditer(value))


def _base64_parts(texts: Sequence[bytes]) -> list[bytes]:
    """What stands in the base64 of anything that holds one of `texts`, by where that begins."""
    parts: list[bytes] = []
    for text in texts:
        for before in range(3):
            encoded = base64.b64encode(bytes(before) + text)
            # Without the characters that also depend on what is before and after.
            first, last = (0, 2, 3)[before], (before + len(text)) * 8 // 6
            parts += {encoded[first:last], encoded[first:last].translate(_TO_URL_SAFE)}
    return parts


def messages_by_reader(read: BodyReader, body_bytes: int) -> FindMessages:
    """Return a finder of bodies without a marker, all of the length `body_bytes`, by trying each place."""
    return _MessagesByReader(read, body_bytes)


class _MessagesByReader:
    def __init__(self, read: BodyReader, body_bytes: int) -> None:
        self._read_body = read
        self._body_bytes = body_bytes

    def __call__(self, value: bytes) -> list[Message]:
        return _found_in(value, self._read)

    def lacks(self, values: Iterable[bytes], wanted: Container[Message]) -> bool:  # noqa: ARG002
        return False

    def _read(self, value: bytes) -> Iterator[Message]:
        for start in range(min(len(value) - self._body_bytes + 1, _READER_TRIES)):
            message = self._read_body(value[start : start + self._body_bytes])
            if message is not None:
                yield message


def _found_in(value: bytes, read: Callable[[bytes], Iterator[Message]]) -> list[Message]:
    """What `read` finds in the value as it is; only if that is nothing, in what it decodes to."""
    return list(dict.fromkeys(read(value))) or list(dict.fromkeys(chain.from_iterable(map(read, unwrapped(value)))))


def unwrapped(value: bytes, depth: int = _DEPTH) -> Iterator[bytes]:
    """`value`, and what parts of it become if base64, gzip, zlib and old pickles are undone, up to `depth` times.

    JSON, msgpack and newer pickles need not be undone: a body stands in them as it is.
    """
    yield value
    if depth:
        for inner in chain(_inflated(value), _from_base64(value), _from_pickle(value)):
            yield from unwrapped(inner, depth - 1)


def _inflated(value: bytes) -> Iterator[bytes]:
    for number, start in enumerate(_COMPRESSED.finditer(value)):
        if number == _INFLATE_TRIES:
            return
        try:
            yield zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(value[start.start() :], _INFLATED_BYTES)
        except zlib.error:
            continue


def _from_base64(value: bytes) -> Iterator[bytes]:
    """Bytes before and after the base64 may look like a part of it, such as the length in msgpack.

    So each alignment is tried, and a single character too many is left out.
    """
    for found in _BASE64.finditer(value):
        whole = found[0].translate(_URL_SAFE)
        for start in range(4):
            text = whole[start : len(whole) - ((len(whole) - start) % 4 == 1)]
            yield binascii.a2b_base64(text + b"=" * (-len(text) % 4))


def _from_pickle(value: bytes) -> Iterator[bytes]:
    if _PICKLED_BYTES not in value:
        return
    try:
        for _, argument, _ in pickletools.genops(value):
            if isinstance(argument, str):
                yield argument.encode("latin-1", errors="replace")
    except Exception:
        return  # it only looked like a pickle
