"""How a drain writes elements into a file: framings, gzip members, zstd frames, and checks of a file's end.

Each chunk of a drain is one gzip member or one zstd frame. So a drain can append to a file after any chunk, and every
tool reads such a file as one. `last_byte` checks that a file ends at such a boundary.
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

#: Takes a chunk's number of elements and its bytes; returns the bytes for the file.
Compress = Callable[[int, bytes], bytes]

#: Bytes at a file's end in which the last member or frame is searched, before the file is read from its start. The
#: members of a drain have little more than 1 MiB.
TAIL_BYTES = 4 * 2**20

_READ_BYTES = 2**16

_GZIP_MAGIC, _ZSTD_MAGIC = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"


def _optional(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


#: From the extra "fast": zstd, and gzip several times as fast as zlib.
_igzip = _optional("isal.igzip_lib")
_isal = _optional("isal.isal_zlib")
_zstandard = _optional("zstandard")

checksum: Callable[[bytes, int], int] = zlib.crc32 if _isal is None else _isal.crc32


def framer(framing: Framing) -> Callable[[list[bytes]], bytes]:
    """Returns the function that turns a chunk's elements into bytes. Raises ValueError for an unknown framing."""
    match framing:
        case "lines":
            return _as_lines
        case "json":
            return _as_json
        case _:
            raise ValueError(f'framing={framing!r} must be "lines" or "json"')


def _as_lines(elements: list[bytes]) -> bytes:
    if b"\n" in b"".join(elements):  # far cheaper than to count them in what is returned
        found = next(element for element in elements if b"\n" in element)
        raise ValueError(
            f'an element contains a newline, which framing="lines" cannot represent: {found[:60]!r}. Use "json".'
        )
    return b"\n".join([*elements, b""])


def _as_json(elements: list[bytes]) -> bytes:
    """One call for the whole chunk: a JSON array with newlines as separators, without its brackets.

    JSON strings contain no newlines.
    """
    array = json.dumps([_json_value(element) for element in elements], ensure_ascii=False, separators=("\n", ": "))
    return array[1:-1].encode() + b"\n"


def _json_value(element: bytes) -> str | dict[str, str]:
    try:
        return element.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(element).decode()}


def compressor(path: Path) -> Compress:
    """Returns the function that turns a chunk into a whole member or frame, by the suffix of `path`.

    Raises RedisqError if zstandard is needed and not installed.
    """
    match path.suffix.lower():
        case ".gz" if _igzip is not None:
            return _by_isal
        case ".gz":
            return lambda _, data: zlib.compress(data, 1, 31)  # 31: a gzip member
        case ".zst" if _zstandard is not None:
            return lambda _, data: bytes(_zstandard.compress(data, 1))
        case ".zst":
            raise RedisqError(
                f"writing {path.name} needs zstandard: pip install 'pytest-redisq[fast]', or choose a name with .gz"
            )
        case _:
            return lambda _, data: data


def _by_isal(elements: int, data: bytes) -> bytes:
    """A window of about four elements, at least 1 KiB: a fifth faster, and the result is at most 2 % larger."""
    window_bits = min(15, max(10, (4 * len(data) // elements).bit_length()))
    return bytes(_igzip.compress(data, 1, _igzip.COMP_GZIP, _igzip.MEM_LEVEL_DEFAULT, window_bits))


def last_byte(descriptor: int, suffix: str, known: int) -> bytes:
    """The last byte of the file's uncompressed content; empty if the file is empty.

    * `suffix`: the file's suffix, such as ".gz".
    * `known`: the file is known to be complete up to this byte.

    Raises ValueError if the file does not end with a complete gzip member or zstd frame.
    """
    size = os.fstat(descriptor).st_size
    if size == 0:
        return b""
    match suffix.lower():
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
    """Positions where the last member may begin, the nearest to the end first."""
    first = max(known, size - TAIL_BYTES)
    data = os.pread(descriptor, size - first, first)
    at = len(data)
    while (at := data.rfind(magic, 0, at)) >= 0:
        yield first + at


def _uncompress(descriptor: int, start: int, fresh: Callable[[], Any]) -> bytes:
    """The last byte of the members from `start` to the file's end. Raises ValueError if they do not end there."""
    last, member, data = b"", None, os.pread(descriptor, _READ_BYTES, start)
    while data:
        start += len(data)
        while data:
            member = fresh() if member is None else member
            try:
                last = member.decompress(data)[-1:] or last
            except Exception as error:  # zlib.error and ZstdError have no common class
                raise ValueError(str(error)) from error
            data = member.unused_data
            if member.eof:
                member = None
        data = os.pread(descriptor, _READ_BYTES, start)
    if member is not None:
        raise ValueError("it ends within a member")
    return last
