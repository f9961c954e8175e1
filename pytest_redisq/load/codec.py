"""The bodies of messages under load: what says which message it is, when it was sent, and that it is whole.

A body is filler, then 20 bytes: the moment it was sent (ns), its key, and the CRC-32 of all before, each little-endian.
Law: the CRC-32 of a whole body, its own checksum included, is the same number whatever the body (the polynomial's
residue), so that one call checks it; begun with the run's salt, bodies of other runs do not have it.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Callable
from typing import NamedTuple

from pytest_redisq.model import Message

#: The shortest body, in bytes; and the shortest that does not say when it was sent.
TRAILER_BYTES, SHORT_TRAILER_BYTES = 20, 10
#: Bits of a key that hold the sequence; the producer is above them.
SEQUENCE_BITS = 32
#: Sequences, and producers of one process, are below these.
MAX_SEQUENCE = 2**SEQUENCE_BITS
PRODUCERS_OF_A_PROCESS = 2**16

#: The CRC-32 of every whole body, its own checksum included.
RESIDUE = 0x2144DF1C
_HEAD = struct.Struct("<QQ")
#: How the moment of sending stands in a body.
STAMP = struct.Struct("<Q")

#: By the lowest byte of a key: what it changes in the checksum, and in each byte of that. (Bytearrays, since anything
#: else that goes into one by columns is copied into a bytearray first.)
_LOW = [zlib.crc32(_HEAD.pack(0, low)) ^ zlib.crc32(_HEAD.pack(0, 0)) for low in range(256)]
_LOW_COLUMNS = [bytearray(low >> 8 * at & 255 for low in _LOW) for at in range(4)]
#: By a byte: the table that `bytes.translate` wants in order to XOR with it.
_XOR = [bytes(each ^ value for each in range(256)) for value in range(256)]
_COUNTING = bytearray(range(256))

#: Added to the monotonic clock it gives the time of day, once for this process and its forked children: moments of
#: several processes are then comparable, and none goes backwards.
_EPOCH_NS = time.time_ns() - time.monotonic_ns()


def now_ns() -> int:
    """The present moment, in nanoseconds: monotonic in a process, near the time of day between processes."""
    return time.monotonic_ns() + _EPOCH_NS


def key_of(producer: int, sequence: int) -> int:
    """The message as one number.

    >>> key_of(3, 17) == 3 * 2**32 + 17
    True
    """
    return producer << SEQUENCE_BITS | sequence


def message_of(key: int) -> Message:
    """The inverse of `key_of`."""
    return Message(key >> SEQUENCE_BITS, key & (MAX_SEQUENCE - 1))


class DecodedBody(NamedTuple):
    key: int
    sent_ns: int


class BodyCodec:
    """Writes and reads the bodies of one run. `payload_bytes` is their size; ValueError below the trailer's."""

    def __init__(self, salt: int, payload_bytes: int = 100) -> None:
        if payload_bytes < TRAILER_BYTES:
            raise ValueError(
                f"a payload of {payload_bytes} bytes is too small: a message holds its producer, its time and its "
                f"checksum, in {TRAILER_BYTES} bytes; give at least as many"
            )
        self.salt = salt
        self.payload_bytes = payload_bytes
        self.filler: bytes = os.urandom((payload_bytes - TRAILER_BYTES + 1) // 2).hex().encode()[: payload_bytes - 20]

    def writer(self, prefix: bytes = b"", suffix: bytes = b"") -> Callable[[int, int], bytes]:
        """A function of key and moment that gives `prefix`, the body, and `suffix`: made for speed, hence a closure."""
        start, checked = prefix + self.filler, zlib.crc32(self.filler, self.salt)
        pack, crc32 = _HEAD.pack, zlib.crc32
        enclose = struct.Struct(f"<{len(start)}sQQI{len(suffix)}s").pack

        def write(key: int, sent_ns: int) -> bytes:
            return enclose(start, sent_ns, key, crc32(pack(sent_ns, key), checked), suffix)

        return write

    def batch_writer(self, prefix: bytes, suffix: bytes, number: int) -> Callable[[int, int], bytearray]:
        """A function of the first of `number` consecutive keys, and a moment; it gives what `writer`'s gives for each,
        joined, in a buffer in which its next call changes what is different (to change more, copy it).

        Laws: a CRC is linear, so that those of two bodies that differ in one byte differ by what this byte alone makes
        of it (`_LOW`); so all that differs between the bodies of a batch is written by columns, a byte of each at once.
        """
        each = prefix + self.filler + bytes(TRAILER_BYTES) + suffix
        # From `start` on: the moment in 8 bytes, the key in 8 (its lowest first), the checksum in 4.
        buffer, stride, start = bytearray(each * number), len(each), len(prefix + self.filler)
        checked, pack, crc32 = zlib.crc32(self.filler, self.salt), _HEAD.pack, zlib.crc32
        if number == 1:
            head = memoryview(buffer)[start : start + 16].cast("Q")
            checksum = memoryview(buffer)[start + 16 : start + 20].cast("I")

            def write_one(key: int, sent_ns: int) -> bytearray:
                head[0] = sent_ns
                head[1] = key
                checksum[0] = crc32(head, checked)
                return buffer

            return write_one

        stamp = range(start, start + 8)

        def write(first: int, sent_ns: int) -> bytearray:
            for at, byte in zip(stamp, sent_ns.to_bytes(8, "little"), strict=True):
                if buffer[at] != byte:  # all have the same, so most of them stay
                    buffer[at::stride] = bytearray((byte,)) * number
            key, end = first, first + number
            while key < end:
                low = key & 255
                some = min(256 - low, end - key)
                here, there = (key - first) * stride, (key - first + some) * stride
                buffer[here + start + 8 : there : stride] = _COUNTING[low : low + some]
                head = pack(sent_ns, key - low)
                # In up to 256 messages of the batch before, a byte changed once at most: the ends tell.
                one, other = here + start + 9, there - stride + start + 9
                if not buffer[one : one + 7] == buffer[other : other + 7] == head[9:]:
                    for at, byte in enumerate(head[9:], one):
                        buffer[at:there:stride] = bytearray((byte,)) * some
                at = here + start + 16
                for column, byte in zip(_LOW_COLUMNS, crc32(head, checked).to_bytes(4, "little"), strict=True):
                    buffer[at:there:stride] = column[low : low + some].translate(_XOR[byte])
                    at += 1
                key += some
            return buffer

        return write

    def whole(self, body: bytes) -> bool:
        """Whether `body` is one of this run's, unchanged."""
        return zlib.crc32(body, self.salt) == RESIDUE and len(body) >= TRAILER_BYTES

    def read(self, body: bytes) -> DecodedBody | None:
        """What a body says; None where it is not whole."""
        if not self.whole(body):
            return None
        sent_ns, key = _HEAD.unpack_from(body, len(body) - TRAILER_BYTES)
        return DecodedBody(key, sent_ns)


class ShortBodyCodec:
    """Writes and reads bodies of fewer bytes, which do not say when they were sent: filler, then 10 bytes, the lowest 6
    of the key (the producers of one process) and the CRC-32 of all before. The law is `BodyCodec`'s.
    """

    def __init__(self, salt: int, payload_bytes: int) -> None:
        if payload_bytes < SHORT_TRAILER_BYTES:
            raise ValueError(
                f"a payload of {payload_bytes} bytes is too small: a message holds its number and its checksum in "
                f"{SHORT_TRAILER_BYTES} bytes; give at least as many"
            )
        self.salt = salt
        self.payload_bytes = payload_bytes
        self.filler: bytes = b"x" * (payload_bytes - SHORT_TRAILER_BYTES)

    def writer(self) -> Callable[[int, int], bytes]:
        """A function of key and moment, which it does not use, that gives the body."""

        def write(key: int, _sent_ns: int) -> bytes:
            checked = self.filler + key.to_bytes(6, "little")
            return checked + zlib.crc32(checked, self.salt).to_bytes(4, "little")

        return write

    def read(self, body: bytes) -> DecodedBody | None:
        """What a body says, with 0 for when it was sent; None where it is not whole."""
        if zlib.crc32(body, self.salt) != RESIDUE or len(body) < SHORT_TRAILER_BYTES:
            return None
        return DecodedBody(int.from_bytes(body[-10:-4], "little"), 0)


def key_bytes(body: bytes) -> bytes:
    """The key of a whole body, as it stands there: to be collected cheaply, and read by the thousand."""
    return body[-12:-4]


def sent_ns(body: bytes) -> int:
    """When a whole body was sent."""
    moment: int = STAMP.unpack_from(body, len(body) - TRAILER_BYTES)[0]
    return moment
