"""The parts of the RESP grammar that requests and replies share: limits, header lines, numbers.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec and, for requests, `processInlineBuffer` and
`processMultibulkBuffer` of the server's networking.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

Frame = TypeVar("Frame")

#: The longest bulk string, in bytes, that a server accepts by default (`proto-max-bulk-len`).
MAX_BULK_BYTES = 512 * 1024 * 1024
#: The longest inline request or header line, in bytes (`PROTO_INLINE_MAX_SIZE`).
MAX_LINE_BYTES = 64 * 1024
#: The most elements of one aggregate.
MAX_ELEMENTS = 2**31 - 1


class UnparsedBytes(NamedTuple):
    """Bytes that do not follow the grammar. Forward them as is; nothing after them can be framed."""

    raw: bytes


class MalformedError(Exception):
    """The bytes do not follow the grammar."""


def cut_frames(
    buffer: bytearray, read: Callable[[], bool], take: Callable[[], Frame]
) -> tuple[list[Frame | UnparsedBytes], bool]:
    """Cut the frames off the beginning of `buffer`. Returns them, and whether malformed bytes follow.

    * `read`: reads one frame; returns whether it is complete. Raises MalformedError.
    * `take`: removes the frame that was read from the buffer, and returns it.

    Malformed bytes are the last frame, and leave the buffer empty.
    """
    frames: list[Frame | UnparsedBytes] = []
    try:
        while buffer and read():
            frames.append(take())
    except MalformedError:
        frames.append(UnparsedBytes(bytes(buffer)))
        buffer.clear()
        return frames, True
    return frames, False


BULKS = frozenset(b"$!=;")
#: Elements per announced unit, by type: array, set, push, map, attribute.
AGGREGATES = {0x2A: 1, 0x7E: 1, 0x3E: 1, 0x25: 2, 0x7C: 2}


def line_end(buffer: bytearray, at: int) -> int:
    """The position of the first line end from `at` on, or -1. Raises MalformedError for a line that is too long."""
    end = buffer.find(b"\r\n", at)
    if end < 0 and len(buffer) - at > MAX_LINE_BYTES:
        raise MalformedError
    return end


def parse_integer(text: bytearray, *, low: int, high: int) -> int:
    """Parse an integer as strictly as the server: no plus, no blanks, no leading zeros.

    Raises MalformedError, also for a number below `low` or above `high`.
    """
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
