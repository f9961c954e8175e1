"""What the runner has to say about one of its workers: when it ends, its death, and its row of the status table."""

from __future__ import annotations

import time
from collections.abc import Callable

from pytest_redisq.endpoint.jobs import ConsumerJob, Job, ProducerJob
from pytest_redisq.endpoint.operation_record import HistoryRecord
from pytest_redisq.endpoint.outcomes import WorkerKilled
from pytest_redisq.endpoint.user_code import error_words
from pytest_redisq.endpoint.workload import (
    OpenQueue,
    Steps,
    WorkerState,
    WorkloadContext,
    consume,
    produce,
)
from pytest_redisq.history import Recording
from pytest_redisq.resp import Trait
from pytest_redisq.runner.status_table import KillRequest, WorkerStatus
from pytest_redisq.search import marked_messages

_TRIMS = Trait.TRIMS | Trait.TRIMS_STREAM
#: A consumer that is held looks so often whether it still is, in seconds.
_HELD_SECONDS = 0.02


class WorkerContext(WorkloadContext):
    """The context of a worker of a run.

    * `job`: what the worker has to do.
    * `status`: its row of the status table.
    * `recording`: the recorder or journal.
    * `die`: kills it (a process: for good; a thread or task: by raising `WorkerKilled`).
    """

    def __init__(self, job: Job, status: WorkerStatus, recording: Recording, die: Callable[[], None]) -> None:
        self.stopping: bool = False
        self.dead: bool = False
        self._job = job
        self._status = status
        self._die = die
        self._invoked_ns = self._started_ns = 0
        self._queue: OpenQueue
        self._kept_back = False
        self._seen = Trait.NONE
        if isinstance(job, ProducerJob):
            super().__init__(
                HistoryRecord(recording, job.name, job.run, producer=job.producer, payload_for=job.payload_for)
            )
        else:
            super().__init__(HistoryRecord(recording, job.name, job.run), job.work)

    def steps(self, queue: OpenQueue) -> Steps:
        """The steps of the job, which begins now."""
        self._queue = queue
        self._started_ns = time.monotonic_ns()
        if isinstance(self._job, ProducerJob):
            return produce(range(self._job.messages), self, queue)
        return consume(self, queue)

    @property
    def wait_seconds(self) -> float:
        return self._job.wait_seconds if isinstance(self._job, ConsumerJob) else 0.0

    def over(self, *, idle: bool) -> bool:  # noqa: ARG002
        return self.stopping

    def seconds_until(self, sequence: int) -> float:
        job = self._job
        if not isinstance(job, ProducerJob) or job.pace is None:
            return 0.0
        return job.pace.due_seconds(sequence, job.producers) - (time.monotonic_ns() - self._started_ns) / 1e9

    def held_seconds(self) -> float:
        return _HELD_SECONDS if self._status.held and not self.stopping else 0.0

    def check_alive(self) -> None:
        if self.dead:
            raise WorkerKilled

    def enter(self, state: WorkerState) -> None:
        now_ns = self._status.enter(state)
        if state is WorkerState.GETTING:
            self._invoked_ns = now_ns
            if self._status.bound and self._queue.fence.find is None:
                self._queue.fence.find = marked_messages(self._job.run)

    def ended(self, error: Exception | None) -> None:
        super().ended(error)
        self._note_seen(self._queue.fence.seen)
        if error is None:
            self._status.succeed()
        else:
            self._status.fail(error, error_words(error))

    def _note_seen(self, seen: Trait) -> None:
        """A script that a producer calls may trim, too."""
        if seen is self._seen:
            return
        self._seen = seen
        self._status.note_seen(seen)
        if seen & (_TRIMS | Trait.TAKES if isinstance(self._job, ProducerJob) else _TRIMS):
            self._status.note_bound()

    def sent(self) -> None:
        self._status.count()

    def received(self) -> None:
        if self._status.kill_request is KillRequest.DIE_RECEIVING:
            self._die()

    def holding(self) -> None:
        self._status.count()
        self._note_kept_back()
        if self._status.kill_request is KillRequest.DIE_HOLDING:
            self._die()

    def idle(self) -> None:
        self._status.idle(self._invoked_ns)
        self._note_kept_back()

    def _note_kept_back(self) -> None:
        """What was received last is returned. Of a worker that dies in the next moment nothing is said here."""
        handed = self._queue.fence.handed
        handed.pop(self.record.message, None)
        if handed or self._kept_back:
            self._kept_back = bool(handed)
            self._status.note_kept_back(handed)
