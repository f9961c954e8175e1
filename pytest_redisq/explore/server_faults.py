"""Faults of the server itself: a restart with or without its data, and a failover that loses the last write.

Nothing is restarted, because other clients share the server. Instead the same effects are produced on the actors'
connections and keys. Their connections are closed, with all running and blocked commands. Scripts are forgotten. The
data become those that the server would have after the restart. Other effects of a restart (client ids that start again,
functions that were never saved) are left out.

Law of failover: a replica has the primary's writes in their order, up to some point. Here it lacks the last one, with
all that followed from it (such as the element that a woken BLMOVE moved).
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
    """Keys before a write, as DUMP and PTTL return them; `whole`: the database had no other keys."""

    now: float
    values: dict[bytes, tuple[Value, Value]]
    whole: bool


class ServerFaults:
    """Strikes the server of one execution. `remembers`: whether to keep the changes of writes, to undo the last one."""

    def __init__(self, resources: Resources, *, remembers: bool) -> None:
        self._resources = resources
        self._control = resources.control
        #: Whether `write` must be called.
        self.remembers = remembers
        self._writes: list[_KeySnapshot] = []

    def write(self, now: float, effects: Iterable[Footprint]) -> None:
        """Note the keys that the next step may write, with their values before it."""
        written = frozenset[bytes]().union(*(effect.writes for effect in effects))
        if EVERYTHING in written and not self._resources.alone:
            self._writes.clear()  # the keys are unknown, and the database has keys of other programs
        elif written:
            whole = EVERYTHING in written
            self._writes.append(
                _KeySnapshot(now=now, values=self._look(self._keys() if whole else written), whole=whole)
            )

    def strike(self, kind: StepKind, now: float) -> None:
        """Give the server the state after the fault. The connections are already closed."""
        self._resources.proxy.scripts.forget()
        if kind is StepKind.RESTART_EMPTY:
            self._resources.clean()
        elif kind is StepKind.FAILOVER:
            self._undo(now)

    def _keys(self) -> frozenset[bytes]:
        return frozenset(self._resources.keys())

    def _look(self, keys: Iterable[bytes]) -> dict[bytes, tuple[Value, Value]]:
        names = sorted(keys)
        found = self._control.ask_all([(ask, name) for name in names for ask in ("DUMP", "PTTL")])
        return dict(zip(names, zip(found[::2], found[1::2], strict=True), strict=True))

    def _undo(self, now: float) -> None:
        """Undo the last write that changed something; a write that changed nothing is not replicated."""
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
