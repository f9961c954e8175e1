"""The parts of the RESP grammar that requests and replies share: limits, header lines, numbers.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec and, for requests, `processInlineBuffer` and
`processMultibulkBuffer` of the server's networking.c.
"""

from __future__ import annotations

from typing import NamedTuple

#: The longest bulk string, in bytes, that a stock server takes (`proto-max-bulk-len`); a longer one is an error there.
MAX_BULK_BYTES = 512 * 1024 * 1024
#: The longest inline request or header line, in bytes (`PROTO_INLINE_MAX_SIZE`).
MAX_LINE_BYTES = 64 * 1024
#: The most elements of one aggregate.
MAX_ELEMENTS = 2**31 - 1


class UnparsedBytes(NamedTuple):
    """Bytes that follow no grammar, to be passed on untouched; nothing after them can be framed."""

    raw: bytes


class MalformedError(Exception):
    pass


BULKS = frozenset(b"$!=;")
#: Elements per announced unit, by type: array, set, push, map, attribute.
AGGREGATES = {0x2A: 1, 0x7E: 1, 0x3E: 1, 0x25: 2, 0x7C: 2}


def line_end(buffer: bytearray, at: int) -> int:
    end = buffer.find(b"\r\n", at)
    if end < 0 and len(buffer) - at > MAX_LINE_BYTES:
        raise MalformedError
    return end


def parse_integer(text: bytearray, *, low: int, high: int) -> int:
    """The number that `text` is, read as strictly as the server does: no plus, no blanks, no leading zeros."""
    small = _SMALL.get(bytes(text))
    if small is not None and low <= small <= high:
        return small
    if not text or len(text) > 20 or (text[0] == 0x30 and len(text) > 1):
        raise MalformedError
    if not text.isdigit() and not (text[0] == 0x2D and text[1:].isdigit() and text[1] != 0x30):
        raise MalformedError
    number = int(text)
    if not low <= number <= high:
        raise MalformedError
    return number


#: The numbers that nearly every header holds, for speed.
_SMALL = {b"%d" % number: number for number in range(256)}
