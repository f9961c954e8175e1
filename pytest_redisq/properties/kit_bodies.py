"""What bodies a queue takes: any bytes, any text, JSON text, or what a strategy of the user's draws."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

from hypothesis import Phase, find, settings
from hypothesis import strategies as st

from pytest_redisq.properties.strategies import LOOK_ALIKES, bodies
from pytest_redisq.spelling import suggest

#: The kinds of bodies that have a name.
NAMED: Final = ("bytes", "text", "json")
#: Whole numbers in JSON up to which every parser is exact (RFC 8259, section 6).
_EXACT = 2**53 - 1


class JsonBody(bytes):
    """A body that stands for a JSON value: the queue may write the same value in another way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KitBodies:
    """`name`: one of `NAMED`, or "own" for a `strategy` of the user's, of bytes, of text, or of JSON values."""

    name: str
    strategy: st.SearchStrategy[Any] | None = None

    def drawn(self, *, max_size: int = 300) -> st.SearchStrategy[bytes]:
        """A strategy of bodies. `max_size`: in bytes; about that of JSON, and no bound of an own strategy."""
        match self.name:
            case "bytes":
                return bodies(max_size=max_size)
            case "text":
                return _texts(max_size)
            case "json":
                return _json_values(max_size).map(_encoded)
        assert self.strategy is not None
        return self.strategy.map(_encoded)

    def unlike(self, body: bytes, number: int) -> bytes:
        """A body made from `body` that is unlike all others of another `number`; of an own strategy `body` itself."""
        match self.name:
            case "json":
                return _encoded([number, json.loads(body)])
            case "own":
                return body
        return b"%d:%s" % (number, body)

    def is_json(self) -> bool:
        """Whether the queue takes JSON text only: draws one body of an own strategy to see."""
        return self.name == "json" if self.strategy is None else _draws_json(self.strategy)

    def key(self, body: bytes) -> bytes:
        """What is equal for a body that went in and for the same body as it came out."""
        return body if self.name in ("bytes", "text") else canonical(body)

    def last(self) -> bytes | None:
        """A body that `unlike` never makes; None of an own strategy."""
        return {"json": JsonBody(b'["the last"]'), "own": None}.get(self.name, b"the last")


@cache
def _draws_json(strategy: st.SearchStrategy[Any]) -> bool:
    once = settings(database=None, max_examples=10, phases=[Phase.generate])
    return isinstance(_encoded(find(strategy, lambda _: True, settings=once)), JsonBody)


#: The bodies of a queue that takes all.
ANY_BYTES = KitBodies(name="bytes")


def kit_bodies(given: Any) -> KitBodies:
    """Returns the kind of bodies that `bodies=` of the kit names. Raises ValueError for none of them."""
    if isinstance(given, st.SearchStrategy):
        return KitBodies(name="own", strategy=given)
    if given not in NAMED:
        meant = suggest(given, NAMED) if isinstance(given, str) else ""
        raise ValueError(f"bodies={given!r}: one of {', '.join(NAMED)}, or a strategy of Hypothesis.{meant}")
    return KitBodies(name=given)


def matches(sent: bytes, received: bytes) -> bool:
    """Whether `received` is what was sent: the same bytes, or of a JSON body the same value.

    >>> matches(JsonBody(b'{"a":1,"b":2}'), b'{"b": 2, "a": 1}'), matches(b'{"a":1}', b'{"a": 1}')
    (True, False)
    """
    return sent == received or (isinstance(sent, JsonBody) and canonical(sent) == canonical(received))


def canonical(body: bytes) -> bytes:
    """The one way to write a JSON value; `body` itself if it is no JSON text."""
    try:
        return _dumped(json.loads(body))
    except ValueError:
        return body


def _encoded(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else JsonBody(_dumped(value))


def _dumped(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _texts(max_size: int) -> st.SearchStrategy[bytes]:
    alike = [body for body in LOOK_ALIKES if len(body) <= max_size and _is_text(body)]
    return st.one_of(st.text(max_size=max_size // 4).map(str.encode), st.sampled_from(alike))


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _json_values(max_size: int) -> st.SearchStrategy[Any]:
    """JSON values but texts, which `_encoded` would take for the body itself, are in arrays and objects too."""
    text = st.text(max_size=max(max_size // 16, 1))
    floats = st.floats(allow_nan=False, allow_infinity=False)
    leaves = st.one_of(st.none(), st.booleans(), st.integers(-_EXACT, _EXACT), floats, text)
    some = partial(st.lists, max_size=3), lambda values: st.dictionaries(text, values, max_size=3)
    inner = st.recursive(leaves, lambda values: st.one_of(*(make(values) for make in some)), max_leaves=5)
    return st.one_of(*(make(inner) for make in some))
