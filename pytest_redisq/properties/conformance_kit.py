"""The conformance kit: every property that a contract implies, as tests of their own, for a queue of yours.

    from pytest_redisq import conformance

    class Orders:
        def __init__(self, client): ...
        def put(self, body): ...
        def get(self, timeout_seconds): ...

    TestOrders = conformance(Orders, contract="at-most-once")

pytest collects a test for each property, kind of worker and fault, and at the end a table says how each went.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack, assert_never

import pytest

from pytest_redisq import interrupts
from pytest_redisq.check import AnyContract, Contract, Guarantee, contract_of
from pytest_redisq.endpoint.forms import Gets
from pytest_redisq.endpoint.jobs import WORKERS, ClientFactory, Work
from pytest_redisq.errors import DeliveryError
from pytest_redisq.facade import Redisq
from pytest_redisq.faults import KIT_FAULTS, Fault
from pytest_redisq.keywords import ConformanceKeywords, checked
from pytest_redisq.properties.kit_bodies import KitBodies, kit_bodies
from pytest_redisq.properties.kit_properties import KIT_PROPERTIES, Property
from pytest_redisq.properties.located_test import located
from pytest_redisq.properties.trial import Trial
from pytest_redisq.report.conformance_table import PROPERTY, conformance_table
from pytest_redisq.spelling import suggest


@dataclass(frozen=True, slots=True, kw_only=True)
class KitCase:
    """One test of the kit: a property, tried with this kind of workers under this fault ("" for none).

    `left_out`: why the user leaves the property out; "" if it is tried.
    """

    kit_property: Property
    workers: str = ""
    fault: str = ""
    left_out: str = ""

    def __str__(self) -> str:
        return "-".join(part.replace(" ", "-") for part in (self.kit_property.name, self.workers, self.fault) if part)


def _fault(name: str, after: int) -> Fault | None:
    """The fault that the table calls `name`, after so many messages received; None for ""."""
    return replace(Fault.parse(name), after_messages=after) if name else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _ConformanceKit:
    """A queue, and all that is to be tried of it."""

    queue: Any
    contract: Contract
    cases: list[KitCase]
    messages: int
    wait_seconds: float
    settle_seconds: float
    schedules: int
    work: Work
    bodies: KitBodies
    client: ClientFactory | None
    gets: Gets

    @property
    def name(self) -> str:
        return _name(self.queue)

    def row(self, case: KitCase) -> dict[str, object]:
        """What the table is made of; a property that fails has no count."""
        kit_property = {
            "property": case.kit_property.name,
            "words": case.kit_property.words,
            "at": self.cases.index(case),
            "count": 0,
        }
        of = {"queue": self.name, "contract": str(self.contract), "workers": case.workers, "fault": case.fault}
        return {**of, **kit_property, "left_out": case.left_out}

    def test(self, redisq: Redisq, case: KitCase, record_property: Any) -> None:
        """One test of `conformance`. A failure shows the user's line and no frame of the kit."""
        __tracebackhide__ = True
        row = self.row(case)
        record_property(PROPERTY, row)
        if case.left_out:
            pytest.skip(case.left_out)
        try:
            row["count"] = self.hold(case, redisq)
        except AssertionError as error:
            raise error.with_traceback(None)  # noqa: B904 - it is the same error

    def hold(self, case: KitCase, redisq: Redisq) -> int:
        """How much was tried. Raises AssertionError where the queue does not hold."""
        __tracebackhide__ = True
        trial = Trial(
            queue=self.queue,
            redisq=redisq,
            contract=self.contract,
            workers=case.workers,
            fault=_fault(case.fault, self.messages // 3),
            messages=self.messages,
            wait_seconds=self.wait_seconds,
            settle_seconds=self.settle_seconds,
            schedules=self.schedules,
            work=self.work,
            bodies=self.bodies,
            client=self.client,
            gets=self.gets,
        )
        with interrupts.not_replaced():
            try:
                return case.kit_property.holds(trial)
            except (UnicodeError, json.JSONDecodeError) as error:
                if self.bodies.name != "bytes":
                    raise
                raise AssertionError(f"{type(error).__name__}: {error}\n{_BODIES_HINT}") from error


_BODIES_HINT = (
    "The kit puts any bytes. What to do: if the queue carries text or JSON only, say so by "
    'bodies="text", bodies="json" or a strategy of Hypothesis.'
)


def conformance(queue: Any, *, contract: AnyContract, **options: Unpack[ConformanceKeywords]) -> type:
    """A class of tests that hold `queue` to `contract`; call it `Test…` in a test module, and pytest collects it.

    `queue` as for `redisq.run`, and `contract` as for `verify`. Options:

    * `workers=("thread", "process")`: of which kinds; for coroutine functions ("asyncio",).
    * `faults`: which strike while messages are on their way, of "kill:consumer", "kill-holding:consumer" and
      "drop:connections"; by default all that the contract has a say about.
    * `messages=300`: in a run.
    * `wait_seconds=0.1`: what `get` is given.
    * `settle_seconds=2.0`: how long a dead worker's messages may take to come back.
    * `schedules=25`: how many are explored for each fault; 0 where a library has locks of its own, which a schedule
      cannot see.
    * `work=0`: what a consumer does with each message before it acknowledges it, in "order", "sharing" and "explored":
      seconds, or a function of the `Message` that may raise; see `redisq.run`.
    * `bodies="bytes"`: what the queue carries: any "bytes", any "text" (as UTF-8), "json" (text of JSON values), or a
      strategy of Hypothesis of bytes, of texts or of JSON values. Of JSON, the value has to come out, not the bytes.
    * `client=None`, `gets="client"`: what the queue's class or functions are called with; see `redisq.run`.
    * `leave_out={"stopping": "it has no stop"}`: properties that are not tried, by name, each with the reason, which
      the table shows.

    pytest locates the tests at the line that calls this function.
    """
    checked("conformance", options, ConformanceKeywords)
    kit = _kit(queue, contract, **options)

    # One line, see `located`; `self` is for pytest, which calls it as a method.
    test = located(lambda self, redisq, case, record_property: kit.test(redisq, case, record_property))  # noqa: ARG005
    body = {
        "test_property": pytest.mark.parametrize("case", kit.cases, ids=str)(test),
        "__doc__": f"{kit.name} is held to {kit.contract}.",
        "__module__": test.__module__,
    }
    return type("Conformance", (), body)


def check_conformance(
    queue: Any, redisq: Redisq, *, contract: AnyContract, **options: Unpack[ConformanceKeywords]
) -> str:
    """All of it within one test, each property on an empty namespace: the table, if all hold. As for `conformance`.

    Raises DeliveryError, with the table and what each broken property has to say, from the first of them.
    """
    __tracebackhide__ = True
    checked("redisq.conformance", options, ConformanceKeywords)
    kit = _kit(queue, contract, **options)
    rows: list[tuple[dict[str, object], str]] = []
    broken: list[tuple[KitCase, AssertionError]] = []
    for case in kit.cases:
        row = kit.row(case)
        if case.left_out:
            rows.append((row, "skipped"))
            continue
        try:
            with redisq.example():
                row["count"] = kit.hold(case, redisq)
            rows.append((row, "passed"))
        except AssertionError as error:
            broken.append((case, error))
            rows.append((row, "failed"))
    table = "\n".join(conformance_table(rows))
    if broken:
        said = "".join(f"\n\n{case}: {case.kit_property.words}\n{error}" for case, error in broken)
        raise DeliveryError(f"{table}{said}") from broken[0][1]
    return table


def _kit(
    queue: Any,
    contract: AnyContract,
    *,
    workers: Sequence[str] = ("thread", "process"),
    faults: Sequence[str] | None = None,
    messages: int = 300,
    wait_seconds: float = 0.1,
    settle_seconds: float = 2.0,
    schedules: int = 25,
    work: Work = 0.0,
    bodies: Any = "bytes",
    client: ClientFactory | None = None,
    gets: Gets = "client",
    leave_out: Mapping[str, str] | None = None,
) -> _ConformanceKit:
    promised = contract_of(contract)
    for kind in workers:
        if kind not in WORKERS:
            raise ValueError(f"workers={kind!r}: some of {', '.join(WORKERS)}")
    chosen = _faults_of(promised) if faults is None else tuple(faults)
    for name in chosen:
        if name not in KIT_FAULTS:
            raise ValueError(
                f"conformance cannot do {name}.{suggest(name, KIT_FAULTS)} conformance can do {', '.join(KIT_FAULTS)}."
            )
    cases = _without(_cases(promised, workers, chosen), leave_out or {})
    return _ConformanceKit(
        queue=queue,
        contract=promised,
        cases=[case for case in cases if schedules or case.kit_property.by != "schedule"],
        messages=messages,
        wait_seconds=wait_seconds,
        settle_seconds=settle_seconds,
        schedules=schedules,
        work=work,
        bodies=kit_bodies(bodies),
        client=client,
        gets=gets,
    )


def _without(cases: list[KitCase], leave_out: Mapping[str, str]) -> list[KitCase]:
    """Returns the cases, with one for each property left out instead of its own. Raises ValueError for no property."""
    known = dict.fromkeys(case.kit_property.name for case in cases)
    for name, reason in leave_out.items():
        if name not in known:
            raise ValueError(
                f"leave_out: there is no property {name!r}.{suggest(name, known)} There are {', '.join(known)}."
            )
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(f"leave_out[{name!r}]={reason!r}: a reason, such as 'it has no stop'")
    kept: dict[KitCase, None] = {}
    for case in cases:
        reason = leave_out.get(case.kit_property.name, "")
        kept.setdefault(KitCase(kit_property=case.kit_property, left_out=reason) if reason else case)
    return list(kept)


def _faults_of(contract: Contract) -> tuple[str, ...]:
    """A reader that is killed has no other in its place that would be owed the same."""
    return ("drop:connections",) if contract.guarantee is Guarantee.FAN_OUT else KIT_FAULTS


def _cases(contract: Contract, workers: Sequence[str], faults: Sequence[str]) -> list[KitCase]:
    return [
        KitCase(kit_property=kit_property, workers=kind, fault=fault)
        for kit_property in KIT_PROPERTIES
        if kit_property.applies(contract)
        for kind in _kinds(kit_property, workers)
        for fault in ("", *(_faults_by(kit_property, faults) if kit_property.faulty else ()))
    ]


def _kinds(kit_property: Property, workers: Sequence[str]) -> Sequence[str]:
    match kit_property.by:
        case "run":
            return workers
        case "hand":
            by_hand = ["thread"] if set(workers) != {"asyncio"} else []
            return by_hand + (["asyncio"] if "asyncio" in workers else [])
        case "schedule":
            by_schedule = ["schedule"] if set(workers) != {"asyncio"} else []
            return by_schedule + (["asyncio"] if "asyncio" in workers else [])
        case _:
            assert_never(kit_property.by)


def _faults_by(kit_property: Property, faults: Sequence[str]) -> Sequence[str]:
    """A schedule kills at each moment there is, which is one fault and not two."""
    if kit_property.by != "schedule":
        return faults
    return [*(["kill"] if any(map(_kills, faults)) else []), *(fault for fault in faults if not _kills(fault))]


def _kills(fault: str) -> bool:
    return fault.startswith("kill")


def _name(queue: Any) -> str:
    if isinstance(queue, tuple):
        return " and ".join(_name(half) for half in queue)
    return str(getattr(queue, "__name__", None) or type(queue).__name__)
