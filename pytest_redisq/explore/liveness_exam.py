"""Asks the consumers of an execution that outlived a fault for a sign of life, one after the other.

A schedule need not be fair, and a consumer can only take what is there. So when all producers have ended, one more
producer puts a message for one consumer at a time, while the others hold back. At the end no fault strikes any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from pytest_redisq.check import Contract, Guarantee
from pytest_redisq.check.column_evidence import ColumnEvidence
from pytest_redisq.endpoint.operation_record import HistoryRecord
from pytest_redisq.endpoint.workload import WorkloadContext
from pytest_redisq.explore.actor import Actor
from pytest_redisq.explore.execution_loop import ExecutionLoop, StruckStep
from pytest_redisq.explore.schedule import ENDS_ACTOR, letter
from pytest_redisq.explore.trace import WORDS
from pytest_redisq.history import FaultRecord, History

#: Seconds of virtual time between two looks at the consumer that is asked, and at whether a held one may go on.
LOOK_SECONDS = 1.0
#: A consumer is asked for so much longer than the contract wants, since the calls that it is in begin and end between.
_MARGIN_SECONDS = 2.0
#: A message is put so often at most, where that fails.
_TRIES = 3


class ExaminedConsumer:
    """What the exam knows of one consumer, and has it do.

    `sign`: how many faults had struck when the consumer asked for the message that it took last, or, until it has taken
    one, when it asked first. `messages`: how many it has taken. `held`: it is to ask for nothing now.
    """

    def __init__(self, exam: LivenessExam, actor: Actor[None]) -> None:
        self._exam = exam
        self._asked = -1
        self.actor = actor
        self.sign: int = -1
        self.messages: int = 0

    @property
    def held(self) -> bool:
        return self._exam.asked is not None and self._exam.asked is not self

    def asks(self) -> None:
        """It invokes a get."""
        self._asked = self._exam.strikes
        if self.sign < 0:
            self.sign = self._asked
        self.messages += 1

    def took(self) -> None:
        """That get has brought a message."""
        self.sign = self._asked
        self.messages += 1


class LivenessExam(WorkloadContext):
    """The context of the producer that asks the consumers.

    * `record`: where its messages are recorded.
    * `loop`: the execution.
    * `live_seconds`: how long a consumer may take, in virtual time.
    * `producing`: whether messages may still be put by others, or an actor is paused.
    """

    backoff_seconds: tuple[float, float] = (0.0, 0.0)
    slice_seconds = LOOK_SECONDS

    def __init__(
        self, record: HistoryRecord, loop: ExecutionLoop, live_seconds: float, producing: Callable[[], bool]
    ) -> None:
        super().__init__(record)
        self._loop = loop
        self._patience_seconds = live_seconds + _MARGIN_SECONDS
        self._producing = producing
        self._until = 0.0
        self._tries = 0
        self._offered = False
        self._messages = 0
        #: How many faults had struck when a consumer turned out to be deaf.
        self._deaf: dict[ExaminedConsumer, int] = {}
        self._consumers: list[ExaminedConsumer] = []
        self.asked: ExaminedConsumer | None = None
        self.finished: bool = False

    def examine(self, actor: Actor[None]) -> ExaminedConsumer:
        """Have this actor, a consumer, take part."""
        consumer = ExaminedConsumer(self, actor)
        self._consumers.append(consumer)
        return consumer

    @property
    def strikes(self) -> int:
        """How often a fault has struck, or has ended."""
        return len(self._loop.struck)

    def over(self, *, idle: bool) -> bool:  # noqa: ARG002
        return self.finished

    def seconds_until(self, sequence: int) -> float:  # noqa: ARG002
        """0 when a message is to be put. What consumers did is read only after a wait, when no other actor runs."""
        if self._producing() or self._offered:
            self._offered = False
            return LOOK_SECONDS
        if self.asked is None or not self._waits_for(self.asked):
            self._ask_next()
            if self.finished:
                return LOOK_SECONDS
        if self.asked is not None and self.asked.messages > self._messages:
            # It had asked for this message before the fault struck.
            self._messages, self._tries = self.asked.messages, _TRIES
        if not self._tries:
            return LOOK_SECONDS
        self._tries -= 1
        self._offered = True
        return 0.0

    def sent(self) -> None:
        self._tries = 0

    def _waits_for(self, consumer: ExaminedConsumer) -> bool:
        if not self._is_silent(consumer):
            return False
        if self._loop.now < self._until:
            return True
        self._deaf[consumer] = self.strikes
        return False

    def _is_silent(self, consumer: ExaminedConsumer) -> bool:
        deaf = self._deaf.get(consumer) == self.strikes
        return 0 <= consumer.sign < self.strikes and not deaf and not consumer.actor.leaves

    def _ask_next(self) -> None:
        consumers = sorted(self._consumers, key=lambda consumer: consumer.actor.index)
        self.asked = next(filter(self._is_silent, consumers), None)
        self._until, self._tries = self._loop.now + self._patience_seconds, _TRIES
        if self.asked is None:
            self.finished = True
            self._loop.end_faults()
        else:
            self._messages = self.asked.messages

    def graded(self, history: History, contract: Contract, step_ns: int) -> tuple[History, Contract]:
        """The history with the faults that struck, and the contract by which it is judged.

        If the faults of this schedule left no consumer that has to take messages again, the contract is without `live`.
        `step_ns`: how many nanoseconds of the history a step takes.
        """
        graded = History.merge(history, History.of((), faults=self._faults(step_ns)))
        fan_out = contract.guarantee is Guarantee.FAN_OUT
        if next(ColumnEvidence(graded).recoveries(fan_out=fan_out), None) is None:
            contract = replace(contract, live_seconds=None)
        return graded, contract

    def _faults(self, step_ns: int) -> Iterator[FaultRecord]:
        first: dict[int, StruckStep] = {}
        for struck in self._loop.struck:
            origin = first.setdefault(struck.number, struck)
            actor = self._loop.actors[origin.step.actor]
            name = f"{letter(actor.index)} {actor.name}"
            yield FaultRecord(
                fault=f"step {struck.number}: {WORDS[origin.step.kind]}, {name}",
                words="struck" if struck is origin else "ended",
                at_ns=round(struck.now * 1e9) + struck.steps * step_ns - 1,
                struck=1,
                killed=(name,) if origin.step.kind in ENDS_ACTOR else (),
            )
