"""The whole description of a run, and what follows from it for each worker."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from pytest_redisq.endpoint.forms import EndpointFactory, Form, form_of
from pytest_redisq.endpoint.jobs import ConsumerJob, Job, Pace, Payload, ProducerJob, Work, share_out
from pytest_redisq.faults import Fault
from pytest_redisq.servers import Server


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """A run's whole description, checked."""

    factory: EndpointFactory
    server: Server | None
    producers: int
    consumers: int
    messages: int
    workers: str
    faults: tuple[Fault, ...]
    deadline_seconds: float
    settle_seconds: float
    wait_seconds: float
    live_seconds: float
    payload: Payload
    work: Work
    pace: Pace | None
    seed: int
    logs: bool

    @property
    def slots(self) -> int:
        """Each fault may add a consumer for a dead one, one for deaf ones, and a producer that offers messages."""
        return self.producers + self.consumers + 3 * len(self.faults)

    @property
    def asking_seconds(self) -> float:
        """The time after which no consumer is asked any more for a sign of life: a part of the deadline."""
        return 0.8 * self.deadline_seconds

    @property
    def external(self) -> bool:
        """Whether the consumers are external commands."""
        return form_of(self.factory.queue, is_producer=False) is Form.COMMAND

    @property
    def owns_keys(self) -> bool:
        """Whether all keys there belong to the run: on a server of its own, or below a prefix of its own."""
        return bool(self.factory.address.prefix) or self._own_server is not None

    @property
    def shares_server(self) -> bool:
        """Whether clients of other processes may use the server."""
        return self._own_server is None or self._own_server.shared

    @property
    def _own_server(self) -> Server | None:
        """The server that the queue is on, if redisq started it."""
        server, url = self.server, self.factory.address.url
        if server is None or server.kind == "url" or urlsplit(server.url).netloc != urlsplit(url).netloc:
            return None
        return server

    def kind_of(self, job: Job) -> str:
        """How this job's worker runs: as the plan says, but commands in a thread that talks to them."""
        form = form_of(self.factory.queue, is_producer=isinstance(job, ProducerJob))
        return "thread" if form is Form.COMMAND else self.workers

    def jobs(self, run: str) -> list[Job]:
        """What the workers have to do that the run begins with."""
        shares = enumerate(share_out(self.messages, self.producers))
        producers = [self._producer_job(run, index, index, messages, self.pace) for index, messages in shares]
        return [*producers, *(self.consumer_job(run, index) for index in range(self.consumers))]

    def consumer_job(self, run: str, index: int) -> ConsumerJob:
        slot = self.producers + index
        return ConsumerJob(name=f"consumer-{index}", slot=slot, run=run, wait_seconds=self.wait_seconds, work=self.work)

    def offering_job(self, run: str, index: int, messages: int, pace: Pace) -> ProducerJob:
        """What a producer does that is added during the run. Its slot is counted from the end."""
        return self._producer_job(run, index, self.slots - 1 - (index - self.producers), messages, pace)

    def _producer_job(self, run: str, index: int, slot: int, messages: int, pace: Pace | None) -> ProducerJob:
        return ProducerJob(
            name=f"producer-{index}",
            slot=slot,
            run=run,
            producer=index,
            producers=self.producers,
            messages=messages,
            payload=self.payload,
            pace=pace,
        )
