"""A run, from the first worker's start to the verdict's material.

hired → all ready → go → producers end → quiet (nothing more to get) → consumers stop → drained → history.
"""

from __future__ import annotations

import random
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import redis

from pytest_redisq import interrupts
from pytest_redisq.endpoint.jobs import Bursts, ConsumerJob, Job, ProducerJob
from pytest_redisq.endpoint.shared_failure import shared_failure
from pytest_redisq.endpoint.workload import WorkerState
from pytest_redisq.errors import TrafficError
from pytest_redisq.history import History, Recorder
from pytest_redisq.logs import Logs, collect_logs
from pytest_redisq.runner.fault_injector import FaultInjector, Moment, check_faults
from pytest_redisq.runner.inspector import QueueInspector
from pytest_redisq.runner.liveness_probe import LivenessProbe
from pytest_redisq.runner.overrun import explain_leftover, explain_overrun, with_errors
from pytest_redisq.runner.process_pool import ProcessWorkerPool
from pytest_redisq.runner.run_plan import RunPlan
from pytest_redisq.runner.run_result import Run
from pytest_redisq.runner.settlement import Settlement
from pytest_redisq.runner.status_table import KillRequest, StatusTable, WorkerStatus
from pytest_redisq.runner.watched_bounds import watch_bounds
from pytest_redisq.runner.worker_pool import TaskWorkerPool, ThreadWorkerPool, WorkerPool, failures_by_message
from pytest_redisq.search import NamespaceSearch, marked_messages
from pytest_redisq.servers import Server
from pytest_redisq.servers.temporary_folder import explain_full_disk, temporary_folder

#: Between two looks at the workers, in seconds.
_TICK_SECONDS = 0.002
#: Between two questions to the queue whether it is empty, in seconds.
_ASK_SECONDS = 0.02


def conduct(plan: RunPlan) -> Run:
    """Carry out `plan`. Whatever happens, no thread, task, process or file of it is left."""
    __tracebackhide__ = True
    check_faults(plan.faults, messages=plan.messages, server=plan.server, external=plan.external)
    if plan.workers == "executor" and any(fault.target == "consumer" for fault in plan.faults):
        raise ValueError('workers="executor" breaks as a whole when one of its processes dies: use "pool" or "process"')
    with interrupts.not_replaced(), interrupts.cleared_up() as stack:
        with interrupts.deferred():
            runner = Runner(plan, stack)
        return runner.run()


class Runner:
    def __init__(self, plan: RunPlan, stack: ExitStack) -> None:
        self._plan = plan
        self._stack = stack
        self.id: str = secrets.token_hex(4)
        self._recorder = Recorder()
        self._random = random.Random(plan.seed)
        self._deadline = time.monotonic() + plan.deadline_seconds
        self._doing = "starting the workers"
        self._jobs: list[Job] = []
        self._pools: dict[str, WorkerPool] = {}
        self._doomed: dict[int, bool] = {}
        self._producers_ended_ns: int | None = None
        self._idle_ns: int | None = None
        self._of_processes: list[History] | None = None
        self._ask_ns = 0
        self._crashed = False
        with explain_full_disk():
            self._directory = self._make_directory()
            self._status_table = StatusTable(
                None if self._directory is None else self._directory / "status_table", plan.slots
            )
            stack.callback(self._status_table.close)
            self._logs = self._collect_logs()
        self._control: redis.Redis | None = None
        self._search = NamespaceSearch(plan.factory.address, marked_messages(self.id))
        self._injector = FaultInjector(plan.faults, self, external=plan.external)
        self._liveness = LivenessProbe(self, plan.live_seconds, deadline_seconds=plan.asking_seconds)
        self._inspector = self._make_inspector()
        stack.callback(self._inspector.close)

    def run(self) -> Run:
        """Carry out the run. A TrafficError tells the errors that operations ended with."""
        __tracebackhide__ = True
        try:
            return self._run()
        except TrafficError as error:
            said = self._crashes() if self._crashed else str(error)  # more workers may have crashed by now
            raise TrafficError(with_errors(said, self._history())) from error.__cause__

    def _run(self) -> Run:
        __tracebackhide__ = True
        with interrupts.cleared_up() as pools:
            pools.callback(self._end_pools)
            pools.callback(self._injector.heal)
            self._add_workers()
            self._until(self._all_ready)
            self._doing = "waiting for the producers to end"
            with interrupts.deferred():  # it connects, and redis-py leaves a socket open that is interrupted meanwhile
                self._bounds = watch_bounds(self.control(), self._search, self._plan, self._status_table, self._doomed)
            started_ns = time.monotonic_ns()
            for pool in self._pools.values():
                pool.go()
            self._until(self._producers_ended)
            self._doing = "waiting for the consumers to have received everything"
            self._until(self._quiet)
            self._injector.heal()
            self._doing = "asking the consumers that outlived a fault for a sign of life"
            self._liveness.hurry = True
            self._until(lambda: self._liveness.done)
            if self._liveness.notes:
                self._until(self._producers_ended)
                self._until(self._quiet)
            self._doing = "stopping the consumers"
            living = self._living_consumers()
            for job in living:
                self._pool_of(job).stop(job.slot)
            self._until(lambda: not self._living_consumers())
            self._doing = "draining the queue"
            self._settle(had_consumers=bool(living))
            ended_ns = time.monotonic_ns()
        return Run(
            id=self.id,
            record=self._history(),
            faults=self._injector.struck,
            workers=self._plan.workers,
            started_ns=started_ns,
            ended_ns=ended_ns,
        )

    # What the faults may do: `fault_injector.FaultTarget`.

    def received(self) -> int:
        return sum(self._status(job).messages for job in self._jobs if isinstance(job, ConsumerJob))

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def server(self) -> Server:
        assert self._plan.server is not None  # check_faults has seen to it
        return self._plan.server

    def control(self) -> redis.Redis:
        if self._control is None:
            self._control = self._plan.factory.address.client()
            self._stack.callback(self._control.close)
        return self._control

    def client_names(self) -> str:
        return self._plan.factory.client_names

    def kill_consumer(self, moment: Moment, *, replace: bool) -> str:
        candidates = [job for job in self._living_consumers() if job.slot not in self._doomed]
        if not candidates:
            return ""
        victim = self._random.choice(candidates)
        self._doomed[victim.slot] = replace
        pool = self._pool_of(victim)
        if self._plan.external:
            pool.kill(victim.slot)
            return victim.name
        if isinstance(pool, ProcessWorkerPool):
            pool.expect_death(victim.slot)
        self._status(victim).request_kill(
            KillRequest.DIE_RECEIVING if moment == "receiving" else KillRequest.DIE_HOLDING
        )
        return victim.name

    # What the probe of liveness may do: `liveness_probe.ProbedRun`.

    def asked_consumers(self) -> list[ConsumerJob]:
        return [job for job in self._living_consumers() if job.slot not in self._doomed]

    def received_by(self, job: ConsumerJob) -> int:
        return self._status(job).messages

    def at_work(self, job: ConsumerJob) -> bool:
        return self._status(job).state in (WorkerState.HANDLING, WorkerState.ACKNOWLEDGING)

    def hold(self, job: ConsumerJob, yes: bool) -> None:
        self._status(job).hold(yes)

    def offer(self, messages: int, pace: Bursts) -> str:
        number = sum(isinstance(job, ProducerJob) for job in self._jobs)
        job = self._plan.offering_job(self.id, number, messages, pace)
        self._add_worker(job)
        return job.name

    def withdraw(self) -> bool:
        job = [job for job in self._jobs if isinstance(job, ProducerJob)][-1]
        if self._status(job).state is WorkerState.ENDED:
            return True
        self._pool_of(job).stop(job.slot)
        return False

    def stop(self, job: ConsumerJob) -> None:
        self._pool_of(job).stop(job.slot)

    def kill(self, job: ConsumerJob) -> None:
        self._pool_of(job).kill(job.slot)

    def add_consumer(self) -> None:
        number = sum(isinstance(job, ConsumerJob) for job in self._jobs)
        self._add_worker(self._plan.consumer_job(self.id, number))

    # Starting

    def _make_directory(self) -> Path | None:
        """Where processes leave what survives them; threads and tasks need none."""
        if self._plan.workers in ("thread", "asyncio"):
            return None
        directory = Path(tempfile.mkdtemp(prefix="run-", dir=temporary_folder()))
        self._stack.callback(shutil.rmtree, directory, ignore_errors=True)
        return directory

    def _collect_logs(self) -> Logs | None:
        if self._directory is None or not self._plan.logs:
            return None
        # Its thread starts when the workers have been forked.
        return self._stack.enter_context(collect_logs(start=False))

    def _make_inspector(self) -> QueueInspector:
        return QueueInspector(
            self._plan.factory,
            run=self.id,
            wait_seconds=min(0.05, self._plan.wait_seconds),
            is_async=self._plan.workers == "asyncio",
        )

    def _add_workers(self) -> None:
        # Processes first: a fork is best made before there are threads.
        for job in sorted(self._plan.jobs(self.id), key=lambda job: self._plan.kind_of(job) == "thread"):
            self._add_worker(job)
        if self._logs is not None:
            self._logs.start()

    def _add_worker(self, job: Job) -> None:
        with interrupts.deferred():
            self._pool_of(job).add(job)
            self._jobs.append(job)

    def _pool_of(self, job: Job) -> WorkerPool:
        kind = self._plan.kind_of(job)
        if kind not in self._pools:
            self._pools[kind] = self._make_pool(kind)
        return self._pools[kind]

    def _make_pool(self, kind: str) -> WorkerPool:
        plan = self._plan
        match kind:
            case "thread":
                return ThreadWorkerPool(plan.factory, self._status_table, self._recorder)
            case "asyncio":
                return TaskWorkerPool(plan.factory, self._status_table, self._recorder)
        assert self._directory is not None
        config = None if self._logs is None else self._logs.config
        return ProcessWorkerPool(plan.factory, self._directory, plan.slots, config, kind)

    # Waiting

    def _until(self, done: Callable[[], bool]) -> None:
        __tracebackhide__ = True
        while True:
            for pool in self._pools.values():
                pool.poll()
            self._raise_crashes()
            if self._doing != "starting the workers":
                self._injector.step()
                self._replace_the_dead()
                self._liveness.step(fault_ns=self._injector.last_ns, healing=self._injector.healing)
            if done():
                return
            if hopeless := self._shared_failure():
                raise TrafficError(hopeless)
            if time.monotonic() > self._deadline:
                raise TrafficError(self._too_late())
            time.sleep(_TICK_SECONDS)

    def _shared_failure(self) -> str:
        if self._injector.healing or self._doing == "starting the workers":
            return ""
        living = [status for job in self._jobs if (status := self._status(job)).state is not WorkerState.ENDED]
        streaks = (status.failures for status in living)
        return shared_failure(streaks, now_ns=time.monotonic_ns(), healed_ns=self._injector.last_ns)

    def _all_ready(self) -> bool:
        return all(self._status(job).state is not WorkerState.STARTING for job in self._jobs)

    def _producers_ended(self) -> bool:
        ended = all(self._status(job).state is WorkerState.ENDED for job in self._jobs if isinstance(job, ProducerJob))
        if ended:
            self._producers_ended_ns = time.monotonic_ns()
        return ended

    def _quiet(self) -> bool:
        """Nothing more will come: every living consumer has asked in vain since the last thing happened.

        What dead consumers held may yet come back: a queue that says that something is inside is given
        `settle_seconds` more.
        """
        now_ns = time.monotonic_ns()
        if not self._all_idle() or self._finish_the_doomed():
            self._idle_ns = None
            return False
        if self._idle_ns is None:
            self._idle_ns = now_ns
        if not self._inspector.counts():
            return True
        if now_ns < self._ask_ns:
            return False
        self._ask_ns = now_ns + int(_ASK_SECONDS * 1e9)
        if self._inspector.is_empty():
            return True
        return now_ns - self._idle_ns > self._plan.settle_seconds * 1e9

    def _all_idle(self) -> bool:
        """Whether every living consumer has, since the last thing happened, asked for a message and got none."""
        assert self._producers_ended_ns is not None
        since = max(self._producers_ended_ns, self._injector.last_ns)
        return all(self._status(job).idle_ns > since for job in self._living_consumers())

    def _finish_the_doomed(self) -> bool:
        """Kill consumers that were to die with a message in their hands and got none; whether there are any."""
        late = [job for job in self._living_consumers() if job.slot in self._doomed]
        for job in late:
            self._pool_of(job).kill(job.slot)
        return bool(late)

    def _replace_the_dead(self) -> None:
        for job in list(self._jobs):
            if self._doomed.get(job.slot) and self._status(job).state is WorkerState.ENDED:
                self._doomed[job.slot] = False
                self.add_consumer()

    def _living_consumers(self) -> list[ConsumerJob]:
        consumers = (job for job in self._jobs if isinstance(job, ConsumerJob))
        return [job for job in consumers if self._status(job).state is not WorkerState.ENDED]

    def _status(self, job: Job) -> WorkerStatus:
        return self._status_table.status(job.slot)

    # Ending

    def _settle(self, *, had_consumers: bool) -> None:
        plan = self._plan
        settlement = Settlement(
            self._inspector,
            self._recorder,
            self._operations,
            self._search,
            ages_keys=plan.owns_keys,
            seen=self._status_table.seen,
            bounds=self._bounds,
            settle_seconds=plan.settle_seconds,
            deadline=self._deadline,
        )
        try:
            settlement.settle(had_consumers=had_consumers)
        except TimeoutError:
            raise TrafficError(self._too_late()) from None

    def _end_pools(self) -> None:
        left = [name for pool in self._pools.values() for name in pool.close()]
        if left:
            raise TrafficError(explain_leftover(left))

    def _history(self) -> History:
        faults = (*self._injector.struck, *self._injector.missed())
        return History.merge(self._operations(), History.of((), notes=self._liveness.notes, faults=faults))

    def _operations(self) -> History:
        """All operations of all workers, which have ended, and of the drain so far."""
        if self._of_processes is None:
            pools = (pool for pool in self._pools.values() if isinstance(pool, ProcessWorkerPool))
            self._of_processes = [part for pool in pools for part in pool.histories()]
        mine = self._recorder.history()
        return History.merge(mine, *self._of_processes) if self._of_processes else mine

    def _raise_crashes(self) -> None:
        __tracebackhide__ = True
        if crashes := self._crashes():
            self._crashed = True
            raise TrafficError(crashes)

    def _crashes(self) -> str:
        crashes = [crash for pool in self._pools.values() for crash in pool.crashes()]
        words = f"{failures_by_message(crashes)}\n{len(crashes)} of {len(self._jobs)} workers failed."
        return words if crashes else ""

    def _too_late(self) -> str:
        workers = [(job, self._status(job)) for job in self._jobs]
        return explain_overrun(self._doing, self._plan.deadline_seconds, workers)
