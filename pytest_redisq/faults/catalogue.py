"""The catalogue of faults: what each fault strikes, when, for how long, and which drivers can do it.

The help, error messages, documentation and the conformance kit take the names from here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from pytest_redisq.faults.fault import AnyFaults, Fault, FaultName, parse_faults
from pytest_redisq.spelling import suggest

Driver = Literal["run", "explore", "load"]
DRIVERS: tuple[Driver, ...] = get_args(Driver)

#: The target of a fault that strikes any actor, or one actor given by its name or letter.
ACTOR = "ACTOR"
#: Targets with the same meaning in each driver. No actor may have such a name.
RESERVED_TARGETS = ("server", "connections", "consumers", "process")

#: The faults of `explore` without an actor's name.
ExploreFault = Literal[
    "lost-request",
    "lost-reply",
    "cut-reply",
    "drop",
    "kill",
    "kill-before",
    "kill-after",
    "term",
    "cancel",
    "pause",
    "delay",
    "timeout",
    "oom",
    "readonly",
    "loading",
    "noscript",
    "moved",
    "evict",
    "group-gone",
    "restart:server",
    "restart-empty:server",
    "failover:server",
    "script-flush:server",
]
EXPLORE_FAULTS: tuple[ExploreFault, ...] = get_args(ExploreFault)
#: The faults that `explore` takes: a name, a fault, or a sequence of these. It also takes one text with several names,
#: which a type checker cannot check.
ExploreFaults: TypeAlias = ExploreFault | Fault | Iterable[ExploreFault | Fault]
#: The faults of the conformance kit, as its table shows them.
KitFault = Literal["kill:consumer", "kill-holding:consumer", "drop:connections"]
KIT_FAULTS: tuple[KitFault, ...] = get_args(KitFault)


Strikes = Literal["connection", "worker", "server"]
#: Whether a fault takes a duration. "forever": only `+forever`.
Duration = Literal["none", "optional", "required", "forever"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSpec:
    """A row of the catalogue.

    * `name`, `target`: the fault's spelling.
    * `strikes`: what the fault strikes.
    * `drivers`: the drivers that can do it.
    * `meaning`: what happens, in one sentence.
    * `duration`: whether it takes a duration; default: no.
    """

    name: FaultName
    target: str
    strikes: Strikes
    drivers: tuple[Driver, ...]
    meaning: str
    duration: Duration = "none"

    @property
    def where(self) -> str:
        """The spelling without time and duration: `kill:consumer`."""
        return self.name if self.target == ACTOR else f"{self.name}:{self.target}"

    def covers(self, fault: Fault) -> bool:
        """Whether `fault` has this name and this target."""
        if self.target == ACTOR:
            return self.name == fault.name and fault.target not in RESERVED_TARGETS
        return (self.name, self.target) == (fault.name, fault.target)

    def example(self, driver: Driver) -> Fault:
        """This fault as `driver` takes it."""
        return Fault(
            self.name,
            target="" if self.target == ACTOR else self.target,
            after_messages=500 if driver == "run" else None,
            at_seconds=5 if driver == "load" else None,
            for_seconds=2 if self.duration == "required" else 0,
        )


_EXPLORE: tuple[Driver, ...] = ("explore",)
_RUN: tuple[Driver, ...] = ("run",)
_LOAD: tuple[Driver, ...] = ("load",)
_TIMED: tuple[Driver, ...] = ("run", "load")


def _row(
    where: str, strikes: Strikes, drivers: tuple[Driver, ...], meaning: str, duration: Duration = "none"
) -> FaultSpec:
    fault = Fault.parse(where)
    return FaultSpec(
        name=fault.name,
        target=fault.target or ACTOR,
        strikes=strikes,
        drivers=drivers,
        meaning=meaning,
        duration=duration,
    )


CATALOGUE: tuple[FaultSpec, ...] = (
    _row("lost-request", "connection", _EXPLORE, "the connection is cut before the command reaches the server"),
    _row(
        "lost-reply",
        "connection",
        _EXPLORE,
        "the command takes effect; the connection is cut before its reply comes back",
    ),
    _row(
        "cut-reply",
        "connection",
        _EXPLORE,
        "the command takes effect; the connection is cut in the middle of its reply",
    ),
    _row(
        "drop",
        "connection",
        _EXPLORE,
        "the server closes all connections of the actor (CLIENT KILL) before its command",
    ),
    _row(
        "drop:connections",
        "connection",
        _TIMED,
        "the server closes every connection of the workers (CLIENT KILL), and no other",
    ),
    _row("kill", "worker", _EXPLORE, "the actor dies: kill-before or kill-after"),
    _row("kill-before", "worker", _EXPLORE, "the actor dies before its command reaches the server"),
    _row("kill-after", "worker", _EXPLORE, "the command takes effect; the actor dies without the reply"),
    _row(
        "kill:consumer",
        "worker",
        _RUN,
        "a consumer dies as its next message leaves the queue; a new one replaces it, except with +forever",
        "forever",
    ),
    _row(
        "kill-holding:consumer",
        "worker",
        _RUN,
        "a consumer dies with its next message, before it acknowledges it; a new one replaces it, except with +forever",
        "forever",
    ),
    _row(
        "kill:consumers",
        "worker",
        _LOAD,
        "each consumer is cut off before it reads its next reply; another takes its place",
    ),
    _row(
        "kill:process",
        "worker",
        _LOAD,
        "a worker process dies (SIGKILL) with its ledger, so that the run cannot be judged",
    ),
    _row(
        "kill:server",
        "server",
        _TIMED,
        "the server dies (SIGKILL) and starts again after the duration; without persistence it is then empty",
        "optional",
    ),
    _row(
        "term",
        "worker",
        _EXPLORE,
        "the actor is asked to end: SIGTERM, cancellation, or its `stop`; after 30 s of the schedule it is killed",
    ),
    _row("cancel", "worker", _EXPLORE, "the actor, a coroutine, is cancelled before its command, or while it waits"),
    _row("pause", "worker", _EXPLORE, "the actor stands still before its command until every lease has expired"),
    _row(
        "delay",
        "connection",
        _EXPLORE,
        "the command reaches the server only when every lease has expired; the actor's timers, and its other commands, "
        "go on",
    ),
    _row("pause:server", "server", _TIMED, "the server stands still (SIGSTOP) for the duration", "required"),
    _row("timeout", "worker", _EXPLORE, "the timeout of a blocking command, or a sleep, ends early"),
    _row("oom", "connection", _EXPLORE, "the command is refused, as if the server's memory were full (OOM)"),
    _row("readonly", "connection", _EXPLORE, "the command is refused, as by a replica (READONLY)"),
    _row("loading", "connection", _EXPLORE, "the command is refused, as while the server loads its data (LOADING)"),
    _row("noscript", "connection", _EXPLORE, "an EVALSHA is refused, as if the script were unknown (NOSCRIPT)"),
    _row("moved", "connection", _EXPLORE, "the command is refused, as if another node had its key (MOVED)"),
    _row("evict", "server", _EXPLORE, "a key of the command is evicted just before it"),
    _row("group-gone", "server", _EXPLORE, "the consumer group of the command is destroyed just before it"),
    _row(
        "restart:server",
        "server",
        DRIVERS,
        "the server shuts down in good order and starts again; connections and cached scripts are gone",
    ),
    _row("restart-empty:server", "server", _EXPLORE, "the server restarts without persistence: its data are gone too"),
    _row("failover:server", "server", _EXPLORE, "the server restarts as a replica that lacks the last write"),
    _row("script-flush:server", "server", _EXPLORE, "the server forgets all cached scripts just before the command"),
)

#: Why a driver cannot do a fault with such a time, or with none.
_REFUSED_TIMES: dict[Driver, dict[str, str]] = {
    "run": {
        "seconds": "a run counts messages, not seconds. Write @500 for: after 500 messages",
        "none": "it does not say when. Add @500 for: after 500 messages",
    },
    "explore": {"messages": "a schedule has no message count", "seconds": "a schedule has no seconds"},
    "load": {
        "messages": "a load run counts seconds, not messages. Write @5s for: after 5 seconds",
        "none": "it does not say when. Add @5s for: after 5 seconds",
    },
}


def faults_for(driver: Driver, faults: AnyFaults) -> tuple[Fault, ...]:
    """Parse `faults`, and check that `driver` can do each of them.

    Raises ValueError for a fault that `driver` cannot do, with the reason and what each driver can do. Also raises the
    errors of `parse_faults`.
    """
    parsed = parse_faults(faults)
    for fault in parsed:
        if reason := _refusal(driver, fault):
            raise ValueError(f"{driver} cannot do {fault}: {reason} {'; '.join(_abilities(driver, fault))}.")
    return parsed


def strikes_server(fault: Fault) -> bool:
    """Whether the fault strikes the server itself, and so all its clients."""
    return fault.target == "server"


def examples(driver: Driver) -> tuple[str, ...]:
    """The spelling of each fault that `driver` can do, with a time and a duration if it needs them.

    >>> examples("load")[-1]
    'restart:server@5s'
    """
    return tuple(str(spec.example(driver)) for spec in CATALOGUE if driver in spec.drivers)


def _refusal(driver: Driver, fault: Fault) -> str:
    """Why `driver` cannot do `fault`, as a sentence, or "" if it can."""
    named = [spec for spec in CATALOGUE if spec.name == fault.name and driver in spec.drivers]
    if named and not fault.target and driver != "explore":
        return f"it does not say what it strikes. Write {' or '.join(spec.where for spec in named)}."
    if reason := _refused_time(driver, fault):
        return f"{reason}."
    spec = next((spec for spec in named if spec.covers(fault)), None)
    if spec is None:
        known = [each.where for each in CATALOGUE if driver in each.drivers]
        return f"it has no fault {fault.where}.{suggest(fault.where, known)}"
    return _refused_duration(spec, fault)


def _refused_time(driver: Driver, fault: Fault) -> str:
    time = "messages" if fault.after_messages is not None else "none" if fault.at_seconds is None else "seconds"
    return _REFUSED_TIMES[driver].get(time, "")


def _refused_duration(spec: FaultSpec, fault: Fault) -> str:
    match spec.duration:
        case "none" if fault.for_seconds:
            return f"{spec.where} takes no duration."
        case "required" if not 0 < fault.for_seconds < math.inf:
            return f"{spec.where} needs a duration. Add +2s for: 2 seconds long."
        case "optional" if fault.for_seconds == math.inf:
            return f"{spec.where} has to end before the run does. Write its seconds, as in +2s."
        case "forever" if fault.for_seconds not in (0, math.inf):
            return f"the only duration of {spec.where} is +forever."
    return ""


def _abilities(driver: Driver, fault: Fault) -> Iterator[str]:
    """The faults that `driver` can do, and the other drivers that can do a fault of this name."""
    also = ". A fault without a target can also name one actor, as in kill:one" if driver == "explore" else ""
    yield f"{driver} can do {', '.join(examples(driver))}{also}"
    for other in DRIVERS:
        others = [str(spec.example(other)) for spec in CATALOGUE if spec.name == fault.name and other in spec.drivers]
        if other != driver and others:
            yield f"{other} can do {', '.join(others)}"
