"""Asks each consumer that outlived a fault for a sign of life, so that the contract word `live` can be judged.

A consumer can only take what is there, and can have no luck beside other consumers. So if some consumer has taken
nothing since the fault, a producer offers further messages. If that does not help, the consumers that have taken
messages hold back, so that what lies there is for the others. The judge sees all of that in the history.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from pytest_redisq.endpoint.jobs import Bursts, ConsumerJob

#: After a fault the run's own messages have so long to reach every consumer, and again the first offered ones; at most
#: a quarter of what the consumers may take.
_GRACE_NS = 1_000_000_000
#: The consumers are asked for a little longer than the judge wants, who counts only the time in which they ask.
_MARGIN_NS = 500_000_000
#: Between two offers, in seconds.
_EVERY_SECONDS = 0.05
#: A consumer has proven that it is alive by so many messages: it may have asked for the first one before the fault.
_SIGNS = 2


class ProbedRun(Protocol):
    """What a run lets its probe do."""

    def now_ns(self) -> int: ...

    def asked_consumers(self) -> Sequence[ConsumerJob]:
        """The consumers that live, and that no fault has ordered to die."""

    def received_by(self, job: ConsumerJob) -> int:
        """How many messages a consumer has received."""

    def at_work(self, job: ConsumerJob) -> bool:
        """Whether a consumer handles a message, so that it does not ask for one."""

    def hold(self, job: ConsumerJob, yes: bool) -> None:
        """Have a consumer ask for no message, or ask again."""

    def offer(self, messages: int, pace: Bursts) -> str:
        """Start one more producer; returns its name."""

    def withdraw(self) -> bool:
        """Tell that producer to end; returns whether it has. One that is only starting may not hear it at once."""

    def stop(self, job: ConsumerJob) -> None:
        """Tell a consumer to end."""

    def kill(self, job: ConsumerJob) -> None:
        """End a consumer that does not end when it is told to."""

    def add_consumer(self) -> None:
        """Start one more consumer."""


class _Phase(Enum):
    DONE = "done"
    WAITING = "waiting"
    OFFERING = "offering"
    ALONE = "alone"
    ENDING = "ending"


class LivenessProbe:
    """`step` is called every few milliseconds, from one thread.

    * `run`: the run.
    * `live_seconds`: how long a consumer may take; 0: no consumer is asked.
    * `deadline_seconds`: after this time no consumer is asked any more.
    """

    def __init__(self, run: ProbedRun, live_seconds: float, *, deadline_seconds: float) -> None:
        self._run = run
        self._live_ns = int(live_seconds * 1e9)
        self._grace_ns = min(_GRACE_NS, self._live_ns // 4)
        self._deadline_ns = run.now_ns() + int(deadline_seconds * 1e9)
        self._phase = _Phase.DONE
        self._since_ns = 0
        self._fault_ns = 0
        #: The consumers that the fault found, and how many messages each had received.
        self._found: list[tuple[ConsumerJob, int]] = []
        self._held: list[ConsumerJob] = []
        self._deaf: list[ConsumerJob] = []
        #: Each time that messages were offered, in words.
        self.notes: list[str] = []
        #: Whether the run's own messages have all been received, so that they reach no further consumer.
        self.hurry: bool = False

    def step(self, *, fault_ns: int, healing: bool) -> None:
        """Go on asking.

        * `fault_ns`: when a fault last struck or was healed; 0: never.
        * `healing`: whether a fault is under way.
        """
        now_ns = self._run.now_ns()
        if fault_ns > self._fault_ns and self._live_ns:
            if self._phase in (_Phase.OFFERING, _Phase.ALONE):
                self._rest(now_ns)
            elif self._phase is not _Phase.ENDING:
                self._fault_ns = fault_ns
                self._found = [(job, self._run.received_by(job)) for job in self._run.asked_consumers()]
                self._enter(_Phase.WAITING, now_ns)
        match self._phase:
            case _Phase.DONE:
                return
            case _Phase.ENDING:
                self._end(now_ns)
            case _ if not healing:
                self._ask(now_ns)

    def _ask(self, now_ns: int) -> None:
        silent = self._silent()
        waited_ns = now_ns - self._since_ns
        if not silent or now_ns > self._deadline_ns:
            self._rest(now_ns)
        elif self._phase is _Phase.WAITING and (self.hurry or waited_ns > self._grace_ns):
            self._offer(silent)
            self._enter(_Phase.OFFERING, now_ns)
        elif self._phase is _Phase.OFFERING and waited_ns > self._grace_ns:
            self._hold_all_but(silent)
            self._enter(_Phase.ALONE, now_ns)
        elif self._phase is _Phase.ALONE and waited_ns > self._live_ns + _MARGIN_NS:
            self._deaf = [job for job in silent if not self._run.at_work(job)]
            for job in self._deaf:
                self._run.stop(job)
            self._rest(now_ns)

    @property
    def done(self) -> bool:
        """Whether every consumer has been asked, and those that are deaf have ended."""
        return self._phase is _Phase.DONE

    def _end(self, now_ns: int) -> None:
        """Wait until deaf consumers have ended. If no consumer is left then, a new one takes what was offered."""
        living = {job.slot for job in self._run.asked_consumers()}
        deaf = [job for job in self._deaf if job.slot in living]
        if self._run.withdraw() and not deaf:
            if self._deaf and not living:
                self._run.add_consumer()
            self._deaf = []
            self._phase = _Phase.DONE
        elif now_ns - self._since_ns > _GRACE_NS:
            for job in deaf:
                if not self._run.at_work(job):
                    self._run.kill(job)

    def _silent(self) -> list[ConsumerJob]:
        asked = {job.slot for job in self._run.asked_consumers()}
        return [
            job for job, before in self._found if job.slot in asked and self._run.received_by(job) < before + _SIGNS
        ]

    def _enter(self, phase: _Phase, now_ns: int) -> None:
        self._phase, self._since_ns = phase, now_ns

    def _offer(self, silent: Sequence[ConsumerJob]) -> None:
        seconds = (2 * self._grace_ns + self._live_ns + _MARGIN_NS) / 1e9
        pace = Bursts(size=len(silent), every_seconds=_EVERY_SECONDS)
        producer = self._run.offer(int(seconds / _EVERY_SECONDS) * len(silent), pace)
        names = ", ".join(job.name for job in silent)
        self.notes.append(f"{producer} was added after a fault, to see whether {names} would take messages again")

    def _hold_all_but(self, silent: Sequence[ConsumerJob]) -> None:
        slots = {job.slot for job in silent}
        self._held = [job for job in self._run.asked_consumers() if job.slot not in slots]
        for job in self._held:
            self._run.hold(job, True)

    def _rest(self, now_ns: int) -> None:
        """Ask no longer, until the next fault."""
        self._release()
        self._enter(_Phase.DONE if self._phase is _Phase.WAITING else _Phase.ENDING, now_ns)

    def _release(self) -> None:
        for job in self._held:
            self._run.hold(job, False)
        self._held = []
