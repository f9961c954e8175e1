"""Log records as bytes, packed value by value: a value that cannot be pickled does not lose the record."""

from __future__ import annotations

import logging
import pickle
import struct
from typing import Any, NamedTuple

LENGTH = struct.Struct("!I")
#: Bytes of the secret token that a child sends first. It is needed because records are unpickled.
TOKEN_BYTES = 32
_SENT_AS_IS = (str, int, float, bool, type(None))


class PickledValue(NamedTuple):
    """A pickled value, and the text to show if it cannot be unpickled."""

    pickled: bytes
    shown: str


def length_prefixed(data: bytes) -> bytes:
    return LENGTH.pack(len(data)) + data


def message_of(record: logging.LogRecord) -> tuple[object, str]:
    """The record's message and arguments, packed, and their text. The first is None if they do not fit together."""
    try:
        return pack((record.msg, record.args)), record.getMessage()
    except Exception as error:
        return None, f"{record.msg!r} % {record.args!r} cannot be formatted: {error!r}"


def pack(value: Any) -> object:
    if type(value) in _SENT_AS_IS:
        return value
    try:
        shown = repr(value)
    except Exception as error:
        shown = f"<{type(value).__name__}, whose repr raised {error!r}>"
    try:
        return PickledValue(pickle.dumps(value), shown)
    except Exception:
        return shown


def unpack(fields: dict[str, Any]) -> logging.LogRecord:
    values = dict(fields)
    for name, value in fields.items():
        if isinstance(value, PickledValue):
            try:
                values[name] = pickle.loads(value.pickled)
            except Exception:
                values[name] = value.shown
    said = values.pop("said")
    values["msg"], values["args"] = said if isinstance(said, tuple) else (values["message"], None)
    if isinstance(values["exc_info"], str):
        values["exc_info"] = None
    return logging.makeLogRecord(values)
