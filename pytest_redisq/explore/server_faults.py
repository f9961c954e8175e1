"""What befalls the server itself: a restart, with and without its data, and a failover that loses the last write.

Nothing is restarted, which would strike everybody who shares the server. What its clients would see is brought about:
their connections are gone, and all commands that are under way or wait in the server; scripts are forgotten; and the
data are those that the server would come back with. A restarted server's other news (ids of clients that begin anew,
functions that were never saved) are left out.

Law of failover: a replica has the primary's writes in their order, up to some point. It lacks the last one here, with
all that followed from it (what a BLMOVE moved that it woke).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_redisq.explore.footprint import EVERYTHING, Footprint
from pytest_redisq.explore.resources import Resources
from pytest_redisq.explore.schedule import StepKind
from pytest_redisq.resp import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeySnapshot:
    """Some keys before a write, as DUMP and PTTL give them; `whole`: there were no others."""

    now: float
    values: dict[bytes, tuple[Value, Value]]
    whole: bool


class ServerFaults:
    """Strikes the server of one run; `remembers` what the last write has changed, where it may have to be undone."""

    def __init__(self, resources: Resources, *, remembers: bool) -> None:
        self._resources = resources
        self._control = resources.control
        #: Whether `write` is wanted.
        self.remembers = remembers
        self._writes: list[_KeySnapshot] = []

    def write(self, now: float, effects: Iterable[Footprint]) -> None:
        """The next step may have these effects: look at what it may change, as long as it is as it was."""
        written = frozenset[bytes]().union(*(effect.writes for effect in effects))
        if EVERYTHING in written and not self._resources.alone:
            self._writes.clear()  # nobody knows which keys, and not all that are there are ours to look at
        elif written:
            whole = EVERYTHING in written
            self._writes.append(
                _KeySnapshot(now=now, values=self._look(self._keys() if whole else written), whole=whole)
            )

    def strike(self, kind: StepKind, now: float) -> None:
        """It comes back as `kind` says; its connections are gone by now."""
        self._resources.proxy.scripts.forget()
        if kind is StepKind.RESTART_EMPTY:
            self._resources.clean()
        elif kind is StepKind.FAILOVER:
            self._undo(now)

    def _keys(self) -> frozenset[bytes]:
        names = self._control.ask("KEYS", "*")
        return frozenset(name for name in names if isinstance(name, bytes)) if isinstance(names, list) else frozenset()

    def _look(self, keys: Iterable[bytes]) -> dict[bytes, tuple[Value, Value]]:
        names = sorted(keys)
        found = self._control.ask_all([(ask, name) for name in names for ask in ("DUMP", "PTTL")])
        return dict(zip(names, zip(found[::2], found[1::2], strict=True), strict=True))

    def _undo(self, now: float) -> None:
        """Go back to before the last write that has changed anything: commands that did not are sent to no replica."""
        while self._writes:
            before = self._writes.pop()
            there = self._look(self._keys() | before.values.keys() if before.whole else before.values)
            changed = [name for name, (value, _) in there.items() if before.values.get(name, (None, -2))[0] != value]
            for name in changed:
                self._restore(name, *before.values.get(name, (None, -2)), elapsed=now - before.now)
            if changed:
                return

    def _restore(self, name: bytes, value: Value, life: Value, *, elapsed: float) -> None:
        if not isinstance(value, bytes):
            self._control.ask("DEL", name)
            return
        left = max(1, life - round(elapsed * 1000)) if isinstance(life, int) and life > 0 else 0
        self._control.ask("RESTORE", name, left, value, "REPLACE")
