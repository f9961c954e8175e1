"""The master of a run inside Locust: it assigns work to the workers, ends the run safely, and gives the verdict.

A run ends in this order:
1. All producers stop, after they have received their replies.
2. Consumers go on until the queue is drained.
3. Consumers are unblocked and end by themselves. The workers send their results.
4. Locust stops its users, which do nothing any more. (Locust's own stop kills users inside BLPOP, and so loses the
   message that the server is sending them.)
"""

from __future__ import annotations

import secrets
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gevent
import gevent.event
import redis
from locust.env import Environment
from locust.runners import WORKER_REPORT_INTERVAL, MasterRunner

from pytest_redisq.check import AnomalyKind, Contract, Guarantee, Verdict, check
from pytest_redisq.errors import ServerError
from pytest_redisq.load.bitmap_evidence import KEPT_RANGES, BitmapEvidence
from pytest_redisq.load.codec import BodyCodec
from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.engine.target import Target
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.locust_process import ENDED_TOO_SOON, fault_state, read_strikes
from pytest_redisq.load.locust_run.cluster_slots import run_for
from pytest_redisq.load.locust_run.connection_limits import connection_obstacle
from pytest_redisq.load.locust_run.load_options import LoadOptions
from pytest_redisq.load.locust_run.locust_stats import timings_of
from pytest_redisq.load.locust_run.locust_worker import POLL_SECONDS, STOP_SECONDS, LocustWorker
from pytest_redisq.load.locust_run.result_publisher import ResultPublisher
from pytest_redisq.load.locust_run.run_keys import RunKeys
from pytest_redisq.load.locust_run.run_progress import TELL_SECONDS, RunProgress
from pytest_redisq.load.locust_run.server_queries import ServerQueries, control
from pytest_redisq.load.locust_run.worker_reports import WorkerReports
from pytest_redisq.load.results.exit_status import EXIT_NOT_RUN, EXIT_UNKNOWN
from pytest_redisq.load.results.histogram import Timings
from pytest_redisq.load.results.load_result import LoadResult, error_counts, not_a_pass
from pytest_redisq.load.scenarios import LrangePayload, OwnQueue, Scenario
from pytest_redisq.load.scenarios.scenario_settings import with_settings
from pytest_redisq.servers import Address
from pytest_redisq.servers.external import explained
from pytest_redisq.terminal import degrade

#: Seconds that workers may take to send their results after they were stopped.
RESULTS_SECONDS = 30.0
#: Seconds that the server may take to answer a PING before the run.
PING_SECONDS = 5.0
#: Where the supplied scenarios are.
_SUPPLIED = "pytest_redisq."
#: Seconds between two looks at whether all operations fail.
_WATCH_SECONDS = 0.25
#: Seconds that consumers have to end, once they have received all they can, where all operations fail.
_HOPELESS_SECONDS = 2.0
#: The innermost frames of a traceback that are shown: the code of the user's scenario.
_SHOWN_FRAMES = -4


class LocustMaster:
    """Leads the runs of `scenario`, called `name`. `local`: the worker in this process, used if there are no others."""

    def __init__(self, scenario: Scenario, name: str, local: LocustWorker) -> None:
        self._scenario = scenario
        self._name = name
        self._local = local
        self._environment: Environment
        self._runner: Any
        self._options: LoadOptions
        self._client: redis.Redis
        self._progress_client: redis.Redis
        self._assignments: dict[str, Assignment] = {}
        self._prepared = Ledger()
        self._keys = RunKeys()
        self._reports: WorkerReports
        self._over = gevent.event.Event()
        self._run_progress: RunProgress
        self._greenlets: list[gevent.Greenlet[..., None]] = []  # of a run that has begun
        self._ending = False
        self._time_over = False
        self._signalled = False  # whether a signal ended the run
        self._hopeless = ""  # why the run ended by itself before its time
        self._began = 0.0
        self._queries: ServerQueries
        self._publisher: ResultPublisher
        self._users_beside = 0

    def join(self, environment: Environment, load_options: LoadOptions, users_beside: int) -> None:
        """Lead the runs of `environment`. `users_beside`: the users of the locustfile that are not of the scenario.

        Ends the process if an option or a limit does not allow a run."""
        degrade(sys.stderr)
        self._environment, self._options, self._users_beside = environment, load_options, users_beside
        self._runner = environment.runner
        try:
            self._scenario = with_settings(self._scenario, load_options.settings)
            if isinstance(self._scenario, OwnQueue) or type(self._scenario).__module__.startswith(_SUPPLIED):
                load_options.check_figures()  # other scenarios may have figures of their own
            if not isinstance(self._scenario, LrangePayload):
                BodyCodec(0, load_options.payload_bytes)  # an error here and not in each worker
            if load_options.engine == "epoll":
                Target.of(load_options.url, "")  # an error here, too
            with explained(load_options.url):
                with Address(url=load_options.url).client(socket_timeout=PING_SECONDS) as hasty:
                    hasty.ping()
                # The progress client does not retry: it reports that the server is gone.
                self._client, self._progress_client = control(load_options.url, patient=True), control(load_options.url)
                run_for(self._client, lambda: secrets.token_hex(4))  # an error here and not in the middle of a run
                connections = self.producers + self.consumers + users_beside
                obstacle = connection_obstacle(connections, self._processes(), self._client)
        except (ServerError, ValueError) as error:
            obstacle = str(error)
        if obstacle:
            print(obstacle, file=sys.stderr)
            sys.exit(EXIT_NOT_RUN)
        self._reports = WorkerReports(environment, self._local)
        events: Any = environment.events
        events.test_start.add_listener(self._begin)
        events.test_stopping.add_listener(self._end)
        events.quitting.add_listener(self._quit)
        self._publisher = ResultPublisher(environment, load_options)

    @property
    def producers(self) -> int:
        return self._options.producers or self._scenario.producers

    @property
    def consumers(self) -> int:
        return self._scenario.consumers if self._options.consumers is None else self._options.consumers

    def _processes(self) -> int:
        if not isinstance(self._runner, MasterRunner):
            return 1
        options = self._environment.parsed_options
        return max(len(self._runner.clients), getattr(options, "expect_workers", 1) or 1)

    # The beginning

    def _begin(self, **_: Any) -> None:
        self._over.clear()
        self._ending = self._time_over = False
        self._signalled, self._hopeless = False, ""
        self._reports.clear()
        self._greenlets = []
        try:
            self._set_out()
        except KeyboardInterrupt:
            self._give_up(ENDED_TOO_SOON)
            raise
        except ServerError as error:
            self._give_up(str(error), EXIT_NOT_RUN)
        except redis.ResponseError as error:
            self._give_up(f"The scenario could not be prepared, as the server refuses a command: {error}")
        except redis.RedisError as error:
            self._give_up(f"The scenario could not be prepared, as the server does not answer: {error}")
        except Exception:
            # Locust would log the error, and wait for the end of a run that has not begun.
            self._give_up(f"The run could not begin:\n{traceback.format_exc(limit=_SHOWN_FRAMES)}")

    def _set_out(self) -> None:
        workers = self._workers()
        run = run_for(self._client, lambda: secrets.token_hex(4))
        shares = self._options.assignments(run, self.producers, self.consumers, len(workers))
        self._assignments = self._reports.assignments = dict(zip(workers, shares, strict=True))
        self._keys.take(self._client, self._assignments[workers[0]])
        self._queries = ServerQueries(
            self._scenario,
            self._assignments[workers[0]],
            self._client,
            self._publisher.note_headway,
            shared=self._options.shared_server,
        )
        self._prepared = self._scenario.prepare(self._client, self._assignments[workers[0]])
        self._began = time.monotonic()
        for worker, assignment in self._assignments.items():
            self._runner.send_message("redisq-assignment", assignment.as_message(), worker)
        self._run_progress = RunProgress(
            self._scenario,
            next(iter(self._assignments.values())),
            self._progress_client,
            stats=self._environment.stats,
            progress=self._reports.progress,
            late=WORKER_REPORT_INTERVAL if isinstance(self._runner, MasterRunner) else 0.0,
            tell=lambda line: print(line, file=sys.stderr, flush=True),
        )
        self._greenlets = [*map(gevent.spawn, (self._run_progress.go_on, self._wait_for_all, self._watch_failures))]

    def _workers(self) -> list[str]:
        return sorted(self._runner.clients) if isinstance(self._runner, MasterRunner) else ["local"]

    def _give_up(self, why: str, code: int = EXIT_UNKNOWN) -> None:
        """End the run before any worker has begun."""
        print(why, file=sys.stderr, flush=True)
        for worker in self._workers():
            self._runner.send_message("redisq-off", None, worker)
        self._keys.leave()
        self._assignments = {}
        self._over.set()
        self._environment.process_exit_code = code
        gevent.spawn(self._runner.quit)

    # The end

    def _quit(self, **_: Any) -> None:
        """End the run, if it goes on: a signal makes Locust exit, and it is about to read the exit status."""
        if self._assignments and not self._greenlets:
            self._give_up(ENDED_TOO_SOON)
        self._signalled = not self._ending
        self._end()

    def _end(self, **_: Any) -> None:
        if not self._greenlets:  # no worker has begun, or the run was given up
            return
        if self._ending:
            self._over.wait()
            return
        self._ending = True
        gevent.killall(self._greenlets)
        try:
            result = self._settle()
            self._environment.process_exit_code = result.exit_code
            self._publisher.publish(result)
        except redis.RedisError as error:
            self._environment.process_exit_code = EXIT_UNKNOWN
            print(f"The run could not be judged, as the server does not answer: {error}", file=sys.stderr)
        except Exception:
            self._environment.process_exit_code = EXIT_UNKNOWN
            print(f"The run could not be judged:\n{traceback.format_exc()}", file=sys.stderr)
        finally:
            self._keys.leave()
            self._over.set()

    def _settle(self) -> LoadResult:
        assignment, queries = next(iter(self._assignments.values())), self._queries
        contract = Contract.parse(self._scenario.contract)
        unsettled: list[str] = []
        notes: list[str] = []
        seconds = time.monotonic() - self._began
        queries.answered(self._run_progress.answered)
        self._runner.send_message("redisq-stop-producing")
        if not self._until(self._reports.all_produced, RESULTS_SECONDS) or any(self._reports.produced.values()):
            unsettled.append("the producers had not ended")
        if not queries.drained(self._options.drain_seconds, self.consumers) and not queries.silent:
            # What consumers have left in a shared queue is found there. What a reader has not read is unknown.
            told = unsettled if contract.guarantee is Guarantee.FAN_OUT else notes
            told.append(f"consumers made no progress for {self._options.drain_seconds:g} s, and were stopped")
        if self._may_come_late(contract) and not queries.silent:
            self._await_all()
        patience = _HOPELESS_SECONDS if self._hopeless else STOP_SECONDS
        self._runner.send_message("redisq-stop-consuming", {"seconds": 0.0 if queries.silent else patience})
        self._await_headway(self._reports.all_results, RESULTS_SECONDS)
        unended = sum(results["unended"] for results in self._reports.results.values())
        if unended and not (queries.silent or self._hopeless):
            unsettled.append(f"{unended} consumers did not end when they were told to")
        ledger, timings = self._prepared, self._reports.merge_into(self._prepared)
        verdict, interrupted = self._verdict(ledger, timings, unsettled), self._interrupted(seconds)
        self._until(lambda: (queries.clients_after() or 0) <= queries.clients_before + self._users_beside, 2.0)
        return LoadResult(
            scenario=self._name,
            engine=assignment.engine,
            server=queries.server,
            verdict=not_a_pass(verdict, interrupted) if interrupted else verdict,
            interrupted=bool(interrupted),
            raised=self._reports.raised(),
            timings=timings | timings_of(self._environment.stats, but_for=timings),
            seconds=seconds,
            stop_seconds=self._reports.most("stop_seconds"),
            clients=(queries.clients_before, queries.clients_after()),
            seen=self._run_progress.figures() | self._reports.figures(),
            notes=tuple(
                filter(
                    None,
                    [
                        *notes,
                        queries.bounds.note if queries.bounds else "",
                        *queries.events(),
                        _refused(verdict),
                        queries.clear(self._keys),
                    ],
                )
            ),
        )

    def _verdict(self, ledger: Ledger, timings: Mapping[str, Timings], unsettled: Sequence[str]) -> Verdict:
        """Look for what is left and what is missing, add it to the ledger, and judge."""
        queries, contract = self._queries, Contract.parse(self._scenario.contract)
        fan_out = contract.guarantee is Guarantee.FAN_OUT
        queries.check_writable()
        queries.look_inside(ledger)
        search = queries.look_for_missing(ledger, self._reports.seen())
        search = queries.look_for_finished(ledger, search)
        evidence = BitmapEvidence(
            ledger,
            unsettled=[*unsettled, *queries.failures],
            absent=self._reports.absent(),
            errors=error_counts(timings),
            strikes=read_strikes(self._options.report),
            search=search,
            trim_doubt=queries.bounds.doubt(ledger, fan_out=fan_out) if queries.bounds else "",
        )
        return check(evidence, contract, keep=KEPT_RANGES)

    # Waiting

    def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            gevent.sleep(POLL_SECONDS)
        return True

    def _may_come_late(self, contract: Contract) -> bool:
        """Whether a queue, of which only the user knows how much it holds, may still owe messages to its consumers."""
        owes = contract.forbids(AnomalyKind.LOST) and contract.guarantee is not Guarantee.FAN_OUT
        return owes and isinstance(self._scenario, OwnQueue) and self.consumers > 0

    def _await_all(self) -> None:
        """Wait until consumers have received all messages, or nothing new for `--drain-seconds`.

        Consumers end when a `get` comes back empty. Before, a backlog behind slow consumers, or messages that the queue
        delays, would be called lost.
        """
        self._await_headway(lambda: self._reports.outstanding() <= 0, self._options.drain_seconds)

    def _await_headway(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait for `condition` until consumers have received nothing new for `seconds`. Prints how much is to come."""
        most, deadline, tell_at = -1, time.monotonic() + seconds, time.monotonic() + TELL_SECONDS
        while not condition() and time.monotonic() < deadline:
            if (distinct := self._reports.distinct()) > most:
                most, deadline = distinct, time.monotonic() + seconds
                self._publisher.note_headway()
            if time.monotonic() > tell_at:
                tell_at += TELL_SECONDS
                print(f"draining: {self._reports.outstanding():,} to go", file=sys.stderr, flush=True)
            gevent.sleep(POLL_SECONDS)

    def _wait_for_all(self) -> None:
        """Begin to count the time when all workers are connected, except those that have died."""
        while not self._reports.all_begun():
            gevent.sleep(POLL_SECONDS)
        # For rates: some workers have sent requests since then.
        self._began = time.monotonic() - max(self._reports.begun.values())
        self._publisher.note_headway()
        if self._options.produce_seconds is not None:
            gevent.spawn_later(self._options.produce_seconds, self._time_is_over)

    def _time_is_over(self) -> None:
        self._time_over = True
        self._runner.quit()

    def _watch_failures(self) -> None:
        """End the run if all operations of all workers fail in the same way, and no fault of the run is the reason."""
        while not self._hopeless:
            gevent.sleep(_WATCH_SECONDS)
            if self._reports.shared_failure(healed_ns=0):
                healing, healed_ns = fault_state(read_strikes(self._options.report))
                self._hopeless = "" if healing else self._reports.shared_failure(healed_ns)
        gevent.spawn(self._runner.quit)

    def _interrupted(self, seconds: float) -> str:
        """Returns, in words, why the run ended before its time; "" if it did not."""
        asked = self._options.produce_seconds
        if self._hopeless:
            return self._hopeless
        if self._time_over or (asked is None and not self._signalled):
            return ""
        return f"the run was interrupted after {seconds:.1f} s" + (f" of {asked:g} s" if asked else "")


def _refused(verdict: Verdict) -> str:
    totals = verdict.totals
    return f"{totals.failed:,} of {totals.attempted:,} messages were refused by the server" if totals.failed else ""
