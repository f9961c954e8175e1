"""From elements to bytes of a file and back to its last boundary: framings, gzip members, zstd frames.

Each chunk of a drain is one gzip member or one zstd frame, so that a file can be appended to at every chunk's end;
every tool reads such files as one. `last_byte` tells whether a file ends at such a boundary.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from pytest_redisq.errors import RedisqError

Framing = Literal["lines", "json"]

#: From a chunk's number of elements and its bytes, what is to be in the file.
Compress = Callable[[int, bytes], bytes]

#: The last member or frame is looked for so far from a file's end, in bytes, before the file is read from its start. A
#: drain's own have little more than 1 MiB.
TAIL_BYTES = 4 * 2**20

_READ_BYTES = 2**16

_GZIP_MAGIC, _ZSTD_MAGIC = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"


def _optional(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


#: The extra "fast": gzip several times as fast as zlib's, and zstd.
_igzip = _optional("isal.igzip_lib")
_isal = _optional("isal.isal_zlib")
_zstandard = _optional("zstandard")

checksum: Callable[[bytes, int], int] = zlib.crc32 if _isal is None else _isal.crc32


def framer(framing: Framing) -> Callable[[list[bytes]], bytes]:
    """Return the function that makes a chunk's bytes of its elements. ValueError for an unknown framing."""
    match framing:
        case "lines":
            return _as_lines
        case "json":
            return _as_json
        case _:
            raise ValueError(f'framing={framing!r}: "lines" or "json"')


def _as_lines(elements: list[bytes]) -> bytes:
    if b"\n" in b"".join(elements):  # far cheaper than to count them in what is returned
        found = next(element for element in elements if b"\n" in element)
        raise ValueError(
            f'an element has a newline in it, which framing="lines" cannot keep: {found[:60]!r}; use "json"'
        )
    return b"\n".join([*elements, b""])


def _as_json(elements: list[bytes]) -> bytes:
    """All in one go: a JSON array with newlines for commas and no brackets; JSON strings hold no newlines."""
    array = json.dumps([_json_value(element) for element in elements], ensure_ascii=False, separators=("\n", ": "))
    return array[1:-1].encode() + b"\n"


def _json_value(element: bytes) -> str | dict[str, str]:
    try:
        return element.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(element).decode()}


def compressor(path: Path) -> Compress:
    """Return the function that makes of a chunk, of so many elements, a whole member or frame, by the file's suffix."""
    match path.suffix:
        case ".gz" if _igzip is not None:
            return _by_isal
        case ".gz":
            return lambda _, data: zlib.compress(data, 1, 31)  # 31: a gzip member
        case ".zst" if _zstandard is not None:
            return lambda _, data: bytes(_zstandard.compress(data, 1))
        case ".zst":
            raise RedisqError(
                f"to write {path.name} takes zstandard: pip install 'pytest-redisq[fast]', or name it .gz"
            )
        case _:
            return lambda _, data: data


def _by_isal(elements: int, data: bytes) -> bytes:
    """It looks back no further than some elements, 1 KiB at least: a fifth faster, and as small to two hundredths."""
    window_bits = min(15, max(10, (4 * len(data) // elements).bit_length()))
    return bytes(_igzip.compress(data, 1, _igzip.COMP_GZIP, _igzip.MEM_LEVEL_DEFAULT, window_bits))


def last_byte(descriptor: int, suffix: str, known: int) -> bytes:
    """The last byte of what the file holds, uncompressed; empty if it holds nothing.

    `known`: the file is known to be whole up to there, in bytes. ValueError: it ends within a gzip member or a zstd
    frame, or what it ends with is neither.
    """
    size = os.fstat(descriptor).st_size
    if size == 0:
        return b""
    match suffix:
        case ".gz":
            return _last_byte(descriptor, size, known, _GZIP_MAGIC, lambda: zlib.decompressobj(31))
        case ".zst":
            decompressor = _zstandard.ZstdDecompressor
            return _last_byte(descriptor, size, known, _ZSTD_MAGIC, lambda: decompressor().decompressobj())
        case _:
            return os.pread(descriptor, 1, size - 1)


def _last_byte(descriptor: int, size: int, known: int, magic: bytes, fresh: Callable[[], Any]) -> bytes:
    for start in (*_candidates(descriptor, size, known, magic), known):
        try:
            return _uncompress(descriptor, start, fresh)
        except ValueError:
            continue
    raise ValueError(f"it does not end with a whole {'gzip member' if magic == _GZIP_MAGIC else 'zstd frame'}")


def _candidates(descriptor: int, size: int, known: int, magic: bytes) -> Iterator[int]:
    """Where the last member may begin, the nearest to the end first."""
    first = max(known, size - TAIL_BYTES)
    data = os.pread(descriptor, size - first, first)
    at = len(data)
    while (at := data.rfind(magic, 0, at)) >= 0:
        yield first + at


def _uncompress(descriptor: int, start: int, fresh: Callable[[], Any]) -> bytes:
    """The last byte of the members from `start` to the file's end. ValueError if they do not end there."""
    last, member, data = b"", None, os.pread(descriptor, _READ_BYTES, start)
    while data:
        start += len(data)
        while data:
            member = fresh() if member is None else member
            try:
                last = member.decompress(data)[-1:] or last
            except Exception as error:  # zlib.error, ZstdError: two that have no class in common
                raise ValueError(str(error)) from error
            data = member.unused_data
            if member.eof:
                member = None
        data = os.pread(descriptor, _READ_BYTES, start)
    if member is not None:
        raise ValueError("it ends within a member")
    return last
