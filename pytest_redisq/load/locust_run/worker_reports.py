"""What the Locust workers of a run have reported to the master so far."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from functools import reduce
from operator import or_
from typing import Any

from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner

from pytest_redisq.endpoint.jobs import fairness
from pytest_redisq.endpoint.shared_failure import FailureStreak, shared_failure
from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.locust_run.locust_worker import LocustWorker
from pytest_redisq.load.queue_errors import QueueErrorCount, merged
from pytest_redisq.load.results.histogram import Timings
from pytest_redisq.resp import Trait

#: What a worker's progress says of failures: its streak, when an operation succeeded, and whose operations they are.
_STREAKS = (("failing", "succeeded_ns", "workers"), ("starving", "received_ns", "consumers"))


class WorkerReports:
    """Collects the messages of the workers that have `assignments`, by the number of the worker.

    `local` is the worker in this process, if there are no others.
    """

    def __init__(self, environment: Environment, local: LocustWorker) -> None:
        runner: Any = environment.runner
        self._runner = runner
        self._local = local
        self._progress: dict[str, Mapping[str, Any]] = {}
        #: By the worker's id in Locust.
        self.assignments: Mapping[str, Assignment] = {}
        #: Seconds that each worker took to connect.
        self.begun: dict[int, float] = {}
        #: Producers of each worker that did not end.
        self.produced: dict[int, int] = {}
        #: Each worker's ledger, timings and figures.
        self.results: dict[int, Mapping[str, Any]] = {}
        runner.register_message("redisq-begun", self._on_begun)
        runner.register_message("redisq-produced", self._on_produced)
        runner.register_message("redisq-results", self._on_results)
        events: Any = environment.events
        events.worker_report.add_listener(self._on_report)

    def clear(self) -> None:
        """Forget what was reported of the run before."""
        for reports in (self.begun, self.produced, self.results, self._progress):
            reports.clear()

    def all_begun(self) -> bool:
        """Whether all workers are connected, except those that have died."""
        return bool(self.begun) and self._present() <= self.begun.keys()

    def all_produced(self) -> bool:
        """Whether the producers of all workers have stopped, except in workers that have died."""
        return self._present() <= self.produced.keys()

    def all_results(self) -> bool:
        """Whether all workers have sent their results, except those that have died."""
        return self._present() <= self.results.keys()

    def absent(self) -> dict[int, str]:
        """The workers that have sent no results: number → id in Locust."""
        return {each.worker: worker for worker, each in self.assignments.items() if each.worker not in self.results}

    def progress(self) -> Collection[Mapping[str, Any]]:
        """What each worker has done so far (see `LocustWorker.progress`)."""
        if not isinstance(self._runner, MasterRunner):
            self._progress["local"] = self._local.progress()
        return self._progress.values()

    def shared_failure(self, healed_ns: int) -> str:
        """What to say if all operations of all workers fail in the same way long enough, or all consumers; else empty.

        `healed_ns`: when a fault last struck or was healed, by the wall clock; 0: never.
        """
        self.progress()
        present = [worker for worker, each in self.assignments.items() if each.worker in self._present()]
        if not all(worker in self._progress for worker in present):
            return ""
        told = [self._progress[worker] for worker in present]
        for streak, success, workers in _STREAKS:
            streaks = [FailureStreak(*each[streak]) for each in told if each[streak] is not None]
            since_ns = max([healed_ns, *(each[success] for each in told)])
            if said := shared_failure(streaks, now_ns=time.time_ns(), healed_ns=since_ns, workers=workers):
                return said
        return ""

    def distinct(self) -> int:
        """How many different messages consumers have received so far, each reader by itself."""
        return sum(told["distinct"] for told in self.progress())

    def outstanding(self) -> int:
        """How many of the messages that consumers share were enqueued and have not been received so far."""
        return sum(told["sent"] - told["refused"] - told["taken"] for told in self.progress())

    def merge_into(self, ledger: Ledger) -> dict[str, Timings]:
        """Add all workers' ledgers to `ledger`. Returns their timings, added up by the name of the request."""
        timings: dict[str, Timings] = {}
        for results in self.results.values():
            ledger.merge(Ledger.load(results["ledger"]))
            for name, dumped in results["timings"].items():
                timings.setdefault(name, Timings.empty()).merge(Timings.load(dumped))
        return dict(sorted(timings.items()))

    def most(self, name: str) -> float:
        """The highest of that figure among the workers; 0.0 if there is none."""
        return max((results[name] for results in self.results.values()), default=0.0)

    def raised(self) -> tuple[QueueErrorCount, ...]:
        """The exceptions that the user's own queue raised, added up over all workers."""
        return merged(results["raised"] for results in self.results.values())

    def seen(self) -> Trait:
        """What the commands of the user's own queue have done, in any worker."""
        return reduce(or_, (Trait(results["seen"]) for results in self.results.values()), Trait.NONE)

    def figures(self) -> dict[str, float]:
        """The figures of the processes.

        `connect`: seconds until all were connected. `client.memory`: the most bytes that one process had.
        `requests_per_cpu_second`. `fairness`: how evenly consumers were served. The unknown ones are left out.
        """
        results = self.results.values()
        connect_seconds = self.most("connect_seconds")
        cpu_seconds, requests = (sum(each["cost"][which] for each in results) for which in (0, 1))
        served = [times for each in results for times in each["served"]]
        return {
            **({"connect": connect_seconds} if connect_seconds else {}),
            "client.memory": self.most("memory"),
            **({"requests_per_cpu_second": requests / cpu_seconds} if requests > 0 < cpu_seconds else {}),
            **({"fairness": fairness(served)} if sum(served) else {}),
        }

    def _present(self) -> set[int]:
        """The workers that have an assignment and have not gone."""
        if not isinstance(self._runner, MasterRunner):
            return {assignment.worker for assignment in self.assignments.values()}
        clients = self._runner.clients
        return {
            assignment.worker
            for worker, assignment in self.assignments.items()
            if worker in clients and clients[worker].state != STATE_MISSING
        }

    def _on_begun(self, msg: Any, **_: Any) -> None:
        self.begun[msg.data["worker"]] = msg.data["seconds"]

    def _on_produced(self, msg: Any, **_: Any) -> None:
        self.produced[msg.data["worker"]] = msg.data["unended"]

    def _on_results(self, msg: Any, **_: Any) -> None:
        self.results[msg.data["worker"]] = msg.data

    def _on_report(self, client_id: str, data: Mapping[str, Any], **_: Any) -> None:
        if "redisq" in data:
            self._progress[client_id] = data["redisq"]
