"""Decodes a whole reply into a Python value."""

from __future__ import annotations

from typing import TypeAlias

from pytest_redisq.resp.grammar import AGGREGATES, BULKS

Value: TypeAlias = "bool | int | float | bytes | ReplyError | list[Value] | dict[object, Value] | None"


class ReplyError(str):
    """An error reply as a value: its text, code first."""

    __slots__ = ()


def decode_reply(raw: bytes) -> Value:
    r"""Decode one whole reply. Attributes are left out; a map becomes a dict; sets and pushes become lists.

    Raises ValueError if `raw` is not exactly one reply.

    >>> decode_reply(b"*3\r\n:1\r\n$-1\r\n%1\r\n+a\r\n#t\r\n")
    [1, None, {b'a': True}]
    """
    value, end = _decode(raw, 0)
    if end != len(raw):
        raise ValueError(f"not one whole reply: {raw[:60]!r}")
    return value


def _decode(raw: bytes, at: int) -> tuple[Value, int]:
    end = raw.find(b"\r\n", at)
    if end < 0:
        raise ValueError(f"not one whole reply: {raw[:60]!r}")
    kind, text, after = raw[at], raw[at + 1 : end], end + 2
    if kind in BULKS:
        return _decode_bulk(raw, kind, text, after)
    if kind in AGGREGATES:
        return _decode_aggregate(raw, kind, text, after)
    match chr(kind):
        case "+" | "(":
            return (text if kind == 0x2B else int(text)), after
        case "-":
            return ReplyError(text.decode("utf-8", "replace")), after
        case ":":
            return int(text), after
        case ",":
            return float(text), after
        case "#":
            return text == b"t", after
        case "_":
            return None, after
        case _:
            raise ValueError(f"not one whole reply: {raw[:60]!r}")


def _decode_bulk(raw: bytes, kind: int, text: bytes, after: int) -> tuple[Value, int]:
    if text == b"?":
        chunks: list[bytes] = []
        while True:
            chunk, after = _decode(raw, after)
            if not isinstance(chunk, bytes) or not chunk:
                return b"".join(chunks), after
            chunks.append(chunk)
    length = int(text)
    if length == -1:
        return None, after
    if kind == 0x3B and length == 0:
        return b"", after
    body = raw[after : after + length]
    if kind == 0x21:
        return ReplyError(body.decode("utf-8", "replace")), after + length + 2
    return (body[4:] if kind == 0x3D else body), after + length + 2  # a verbatim string starts with its format, "txt:"


def _decode_aggregate(raw: bytes, kind: int, text: bytes, at: int) -> tuple[Value, int]:
    if text == b"-1":
        return None, at
    items: list[Value] = []
    left = -1 if text == b"?" else int(text) * AGGREGATES[kind]
    while left:
        if left < 0 and raw[at : at + 3] == b".\r\n":
            at += 3
            break
        item, at = _decode(raw, at)
        items.append(item)
        left -= 1
    if kind == 0x7C:
        return _decode(raw, at)
    if kind == 0x25:
        return {_hashable(key): value for key, value in zip(items[::2], items[1::2], strict=True)}, at
    return items, at


def _hashable(value: Value) -> object:
    if isinstance(value, list):
        return tuple(_hashable(item) for item in value)
    if isinstance(value, dict):
        return tuple((key, _hashable(item)) for key, item in value.items())
    return value
