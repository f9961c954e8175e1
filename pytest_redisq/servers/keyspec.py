"""Finds the keys in a command, from the server's own key specifications, without guessing. Without IO.

Source: the reply of COMMAND, in RESP2's shape or RESP3's, as redis.io/docs/latest/develop/reference/key-specs defines
it (7.0+).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRange:
    """Every `step`-th word from the begin to `last`. A negative `last` counts from the end of the command."""

    last: int
    step: int
    #: With `last` -1: only the first 1/limit of the words that are left (XREAD: 2, keys and then as many ids).
    limit: int

    def positions(self, begin: int, words: Sequence[bytes]) -> range:
        last = begin + self.last if self.last >= 0 else len(words) + self.last
        if self.last == -1 and self.limit > 1:
            last = begin + (len(words) - begin) // self.limit - 1
        return range(begin, min(last, len(words) - 1) + 1, max(self.step, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedKeys:
    """The number of keys is in the word at `count`; the keys start at `first`. Both are relative to the begin."""

    count: int
    first: int
    step: int

    def positions(self, begin: int, words: Sequence[bytes]) -> range:
        try:
            number = int(words[begin + self.count])
        except (IndexError, ValueError):
            return range(0)
        first = begin + self.first
        return range(first, min(first + number * self.step, len(words)), max(self.step, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySpec:
    """One rule: the keys begin at word `index`, or after `keyword`, which is searched from word `index` on.

    * `index`: negative numbers count from the end; the keyword is then searched backwards.
    * `keyword`: None if the keys begin at `index`.
    * `find`: how the keys follow.
    * `once`: the rule may be wrong if the keyword occurs more than once, such as in a key name.
    * `reads`: the command only reads these keys.
    """

    index: int
    keyword: bytes | None
    find: KeyRange | CountedKeys
    once: bool = False
    reads: bool = False

    def positions(self, words: Sequence[bytes]) -> range:
        begin = self.index if self.keyword is None else self._after_keyword(self.keyword, words)
        return range(0) if begin is None or begin >= len(words) else self.find.positions(begin, words)

    def _after_keyword(self, keyword: bytes, words: Sequence[bytes]) -> int | None:
        places = range(self.index, len(words)) if self.index >= 0 else range(len(words) + self.index, 0, -1)
        return next((place + 1 for place in places if words[place].upper() == keyword), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSpec:
    """The rules of a command.

    * `specs`: its rules for keys.
    * `known`: False if some of its keys cannot be found by a rule.
    * `flags`: the server's flags, such as b"readonly" and b"blocking".
    """

    specs: tuple[KeySpec, ...]
    known: bool
    flags: frozenset[bytes] = frozenset()

    def positions(self, words: Sequence[bytes]) -> list[int]:
        """The positions of the keys in `words`. Word 0 is the command's name."""
        return sorted({place for spec in self.specs for place in spec.positions(words)})

    def is_sure(self, words: Sequence[bytes]) -> bool:
        """Whether `positions` certainly returns all keys and nothing else."""
        keywords = [spec.keyword for spec in self.specs if spec.once and spec.keyword]
        upper = [word.upper() for word in words[1:]] if keywords else []
        return self.known and all(upper.count(keyword) <= 1 for keyword in keywords)


def parse_commands(reply: Sequence[Any]) -> dict[bytes, CommandSpec]:
    """Parse the reply of COMMAND. Returns the commands by upper-case name; subcommands as b"XGROUP|CREATE"."""
    return {name: command for entry in reply if entry for name, command in _parse(entry)}


def _parse(entry: Sequence[Any]) -> Iterator[tuple[bytes, CommandSpec]]:
    name, _arity, flags, first, last, step = entry[:6]
    if len(entry) > 8:
        raw = [_pairs(spec) for spec in entry[8]]
        keys = [spec for spec in raw if b"not_key" not in spec[b"flags"]]
        specs = [_key_spec(spec) for spec in keys]
        found = tuple(spec for spec in specs if spec)
        yield name.upper(), CommandSpec(specs=found, known=None not in specs, flags=frozenset(flags))
        for subcommand in entry[9]:
            yield from _parse(subcommand)
        return
    # Before 7.0 a command has one range, and a flag if the range does not cover all its keys.
    find = KeyRange(last=last - first if last >= 0 else last, step=step, limit=0)
    specs_before_7 = (KeySpec(index=first, keyword=None, find=find),) if first else ()
    yield name.upper(), CommandSpec(specs=specs_before_7, known=b"movablekeys" not in flags, flags=frozenset(flags))


def _key_spec(spec: Mapping[bytes, Any]) -> KeySpec | None:
    """One rule; None if the server says that it has no rule, or only a part of it."""
    begin, find = _pairs(spec[b"begin_search"]), _pairs(spec[b"find_keys"])
    begin_spec, find_spec = _pairs(begin[b"spec"]), _pairs(find[b"spec"])
    rule: KeyRange | CountedKeys
    match find[b"type"]:
        case b"range":
            rule = KeyRange(last=find_spec[b"lastkey"], step=find_spec[b"keystep"], limit=find_spec[b"limit"])
        case b"keynum":
            rule = CountedKeys(count=find_spec[b"keynumidx"], first=find_spec[b"firstkey"], step=find_spec[b"keystep"])
        case _:
            return None
    incomplete, reads = b"incomplete" in spec[b"flags"], b"RO" in spec[b"flags"]
    match begin[b"type"]:
        case b"index" if not incomplete:
            return KeySpec(index=begin_spec[b"index"], keyword=None, find=rule, reads=reads)
        case b"keyword" if not incomplete or begin_spec[b"startfrom"] > 0:
            keyword = begin_spec[b"keyword"].upper()
            return KeySpec(index=begin_spec[b"startfrom"], keyword=keyword, find=rule, once=incomplete, reads=reads)
        case _:
            return None


def _pairs(told: Sequence[Any] | Mapping[bytes, Any]) -> Mapping[bytes, Any]:
    """A map from RESP3, or from RESP2 (a list of names and values)."""
    return told if isinstance(told, Mapping) else dict(zip(told[::2], told[1::2], strict=True))
