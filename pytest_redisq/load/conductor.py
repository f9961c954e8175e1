"""The master's side of a run: who is to do what, the safe ending, and the verdict.

Law of the ending: first all producers stop and have their answers; then consumers go on until nothing is left to get;
then they are unblocked, end by themselves, and send their books. Only after that Locust stops its users, of whom none
is at work any more. (Locust's plain stop kills users inside BLPOP, along with what they were being handed.)
"""

from __future__ import annotations

import json
import secrets
import sys
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import redis
from locust.env import Environment
from locust.runners import STATE_MISSING, WORKER_REPORT_INTERVAL, MasterRunner
from locust.stats import CSV_STATS_INTERVAL_SEC
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from pytest_redisq.check import Contract
from pytest_redisq.errors import ServerError
from pytest_redisq.load.adjust import adjusted
from pytest_redisq.load.arguments import Wishes
from pytest_redisq.load.cluster import run_for
from pytest_redisq.load.desk import Desk
from pytest_redisq.load.exits import EXIT_NOT_RUN, EXIT_UNKNOWN
from pytest_redisq.load.histogram import Timings
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.limits import too_few
from pytest_redisq.load.message import Codec
from pytest_redisq.load.plan import Plan, shares
from pytest_redisq.load.result import Result
from pytest_redisq.load.run_keys import RunKeys
from pytest_redisq.load.runner import begun_file
from pytest_redisq.load.scenario import LrangePayload, Scenario, Trims
from pytest_redisq.load.stage import POLL_SECONDS, Stage
from pytest_redisq.load.target import Target
from pytest_redisq.load.verdict import judge
from pytest_redisq.load.watch import TELL_SECONDS, Watch
from pytest_redisq.secret import without_secrets
from pytest_redisq.servers import Address
from pytest_redisq.servers.external import explained

#: How long workers may take to send their books once they have been told to stop.
BOOKS_SECONDS = 30.0
_RETRY_SECONDS = 0.2


class Conductor:
    """Leads a run of `scenario`, called `name`. `local` is the stage of this process, where there are no workers."""

    def __init__(self, scenario: Scenario, name: str, local: Stage) -> None:
        self._scenario = scenario
        self._name = name
        self._local = local
        self._environment: Environment
        self._runner: Any
        self._wishes: Wishes
        self._client: redis.Redis
        self._watcher: redis.Redis
        self._plans: dict[str, Plan] = {}
        self._prepared = Ledger()
        self._keys = RunKeys()
        self._begun: dict[int, float] = {}  # worker → seconds that it took to connect
        self._produced: dict[int, int] = {}  # worker → producers that did not end
        self._books: dict[int, Mapping[str, Any]] = {}
        self._progress: dict[str, Mapping[str, Any]] = {}
        self._over = gevent.event.Event()
        self._watch: Watch
        self._looking: gevent.Greenlet[..., None]
        self._waiting: gevent.Greenlet[..., None]
        self._ending = False
        self._began = 0.0
        self._clients_before = 0

    def join(self, environment: Environment, wishes: Wishes) -> None:
        """Lead what `environment` runs. Ends the process where the limits do not allow it."""
        self._environment, self._wishes = environment, wishes
        self._runner = environment.runner
        try:
            self._scenario = adjusted(self._scenario, wishes.settings)
            if not isinstance(self._scenario, LrangePayload):
                Codec(0, wishes.payload_bytes)  # an error now, and not in each worker
            if wishes.engine == "swarm":
                Target.of(wishes.url, "")  # likewise
            with explained(wishes.url):
                with Address(url=wishes.url).client() as hasty:
                    hasty.ping()
                # Who looks does not wait: that the server is gone is what is to be told.
                self._client, self._watcher = _control(wishes.url, _patient()), _control(wishes.url)
                run_for(self._client, lambda: secrets.token_hex(4))  # an error now, and not in the middle of it
                obstacle = too_few(self.producers + self.consumers, self._processes(), self._client)
        except (ServerError, ValueError) as error:
            obstacle = str(error)
        if obstacle:
            print(obstacle, file=sys.stderr)
            sys.exit(EXIT_NOT_RUN)
        self._runner.register_message("redisq-begun", self._on_begun)
        self._runner.register_message("redisq-produced", self._on_produced)
        self._runner.register_message("redisq-books", self._on_books)
        events: Any = environment.events
        events.test_start.add_listener(self._begin)
        events.test_stopping.add_listener(self._end)
        events.worker_report.add_listener(self._on_report)
        if getattr(environment.parsed_options, "csv_prefix", None):
            events.quit.add_listener(_let_be_written)

    @property
    def producers(self) -> int:
        return self._wishes.producers or self._scenario.producers

    @property
    def consumers(self) -> int:
        return self._scenario.consumers if self._wishes.consumers is None else self._wishes.consumers

    def _processes(self) -> int:
        if not isinstance(self._runner, MasterRunner):
            return 1
        options = self._environment.parsed_options
        return max(len(self._runner.clients), getattr(options, "expect_workers", 1) or 1)

    # The beginning

    def _begin(self, **_: Any) -> None:
        self._over.clear()
        self._ending = False
        self._begun.clear()
        self._produced.clear()
        self._books.clear()
        self._progress.clear()
        try:
            self._set_out()
        except ServerError as error:
            self._give_up(str(error))
        except redis.RedisError as error:
            self._give_up(f"The scenario could not be prepared, as the server refuses a command: {error}")
        except Exception:
            # Locust would log it, and wait for the end of what has not begun.
            self._give_up(f"The run could not begin:\n{traceback.format_exc()}")

    def _set_out(self) -> None:
        workers = self._workers()
        self._plans = dict(zip(workers, self._shares(workers), strict=True))
        self._keys.take(self._client, self._plans[workers[0]])
        self._clients_before = self._connected()
        self._prepared = self._scenario.prepare(self._client, self._plans[workers[0]])
        self._began = time.monotonic()
        for worker, plan in self._plans.items():
            self._runner.send_message("redisq-plan", plan.as_message(), worker)
        self._watch = Watch(
            self._scenario,
            next(iter(self._plans.values())),
            self._watcher,
            stats=self._environment.stats,
            progress=self._told_so_far,
            late=WORKER_REPORT_INTERVAL if isinstance(self._runner, MasterRunner) else 0.0,
            tell=lambda line: print(line, file=sys.stderr, flush=True),
        )
        self._looking = gevent.spawn(self._watch.go_on)
        self._waiting = gevent.spawn(self._wait_for_all)

    def _workers(self) -> list[str]:
        return sorted(self._runner.clients) if isinstance(self._runner, MasterRunner) else ["local"]

    def _give_up(self, why: str) -> None:
        """End before anybody has begun."""
        print(why, file=sys.stderr, flush=True)
        for worker in self._workers():
            self._runner.send_message("redisq-off", None, worker)
        self._keys.leave()
        self._plans = {}
        self._over.set()
        self._environment.process_exit_code = EXIT_UNKNOWN
        gevent.spawn(self._runner.quit)

    def _shares(self, workers: list[str]) -> list[Plan]:
        run, wishes = run_for(self._client, lambda: secrets.token_hex(4)), self._wishes
        plans: list[Plan] = []
        first_producer = first_consumer = 0
        pairs = zip(shares(self.producers, len(workers)), shares(self.consumers, len(workers)), strict=True)
        for number, (producers, consumers) in enumerate(pairs):
            plans.append(
                Plan(
                    run=run,
                    url=wishes.url,
                    engine=wishes.engine,
                    worker=number,
                    producers=producers,
                    consumers=consumers,
                    first_producer=first_producer,
                    first_consumer=first_consumer,
                    all_producers=self.producers,
                    payload_bytes=wishes.payload_bytes,
                    pipeline=wishes.pipeline,
                    rate=wishes.rate,
                    settings=wishes.settings,
                    own_server=wishes.own_server,
                )
            )
            first_producer += producers
            first_consumer += consumers
        return plans

    # The end

    def _end(self, **_: Any) -> None:
        if not self._plans:  # nobody has begun, or it has been given up
            return
        if self._ending:
            self._over.wait()
            return
        self._ending = True
        self._looking.kill()
        self._waiting.kill()
        try:
            result = self._settle()
            self._environment.process_exit_code = result.exit_code
            self._publish(result)
        except redis.RedisError as error:
            self._environment.process_exit_code = EXIT_UNKNOWN
            print(f"The run could not be judged, as the server does not answer: {error}", file=sys.stderr)
        except Exception:
            self._environment.process_exit_code = EXIT_UNKNOWN
            print(f"the run could not be judged:\n{traceback.format_exc()}", file=sys.stderr)
        finally:
            self._keys.leave()
            self._over.set()

    def _settle(self) -> Result:
        plan = next(iter(self._plans.values()))
        unsettled: list[str] = []
        seconds = time.monotonic() - self._began
        self._runner.send_message("redisq-stop-producing")
        if not self._until(lambda: self._present() <= self._produced.keys(), BOOKS_SECONDS) or any(
            self._produced.values()
        ):
            unsettled.append("the producers had not ended")
        if not self._drained(plan):
            unsettled.append(f"consumers made no headway for {self._wishes.drain_seconds:g} s, and were stopped")
        self._runner.send_message("redisq-stop-consuming")
        self._until(lambda: self._present() <= self._books.keys(), BOOKS_SECONDS)
        if unended := sum(books["unended"] for books in self._books.values()):
            unsettled.append(f"{unended} consumers did not end when they were told to")
        ledger, timings = self._merged()
        self._look_inside(ledger, plan)
        absent = {each.worker: worker for worker, each in self._plans.items() if each.worker not in self._books}
        verdict = judge(ledger, Contract.parse(self._scenario.contract), unsettled=unsettled, absent=absent)
        self._until(lambda: self._connected() <= self._clients_before, 2.0)
        result = Result(
            scenario=self._name,
            engine=plan.engine,
            server=self._server(),
            verdict=verdict,
            timings=timings,
            seconds=seconds,
            stop_seconds=max((books["stop_seconds"] for books in self._books.values()), default=0.0),
            clients=(self._clients_before, self._connected()),
            seen=self._watch.figures() | self._of_the_processes(),
        )
        self._keys.clear(self._client, plan)
        return result

    def _drained(self, plan: Plan) -> bool:
        """Wait until nothing is left to get, and tell how much that is; False if it stands still for too long."""
        least, deadline = sys.maxsize, time.monotonic() + self._wishes.drain_seconds
        tell_at = time.monotonic() + TELL_SECONDS
        while backlog := self._scenario.backlog(self._client, plan):
            if time.monotonic() > tell_at:
                tell_at += TELL_SECONDS
                print(f"draining: {backlog:,} to go", file=sys.stderr, flush=True)
            if backlog < least:
                least, deadline = backlog, time.monotonic() + self._wishes.drain_seconds
            if time.monotonic() > deadline or not self.consumers:
                return False
            gevent.sleep(POLL_SECONDS)
        return True

    def _merged(self) -> tuple[Ledger, dict[str, Timings]]:
        ledger, timings = self._prepared, dict[str, Timings]()
        for books in self._books.values():
            ledger.merge(Ledger.load(books["ledger"]))
            for name, dumped in books["timings"].items():
                timings.setdefault(name, Timings.empty()).merge(Timings.load(dumped))
        return ledger, dict(sorted(timings.items()))

    def _look_inside(self, ledger: Ledger, plan: Plan) -> None:
        codec = Desk(plan).codec
        insides = (
            (self._scenario.remaining(self._client, plan), ledger.remaining),
            (self._scenario.pending(self._client, plan), ledger.pending),
        )
        for bodies, keys in insides:
            for body in bodies:
                read = codec.read(body)
                if read is None:
                    ledger.corrupt(body)
                else:
                    keys.add(read.key)
        if isinstance(self._scenario, Trims):
            ledger.trimmed = self._scenario.trimmed(self._client, plan)

    def _publish(self, result: Result) -> None:
        missed = result.judged_by(self._wishes.thresholds)
        judged = Result(**{name: getattr(result, name) for name in Result.__slots__} | {"missed": missed})
        self._environment.process_exit_code = judged.exit_code
        print("\n".join(judged.lines()), file=sys.stderr, flush=True)
        if self._wishes.report:
            Path(self._wishes.report).write_text(json.dumps(judged.as_json(), indent=2))

    # Who is there, and what they say

    def _present(self) -> set[int]:
        """The workers that have a plan and have not gone."""
        if not isinstance(self._runner, MasterRunner):
            return {plan.worker for plan in self._plans.values()}
        clients = self._runner.clients
        return {
            plan.worker
            for worker, plan in self._plans.items()
            if worker in clients and clients[worker].state != STATE_MISSING
        }

    def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            gevent.sleep(POLL_SECONDS)
        return True

    def _on_begun(self, msg: Any, **_: Any) -> None:
        self._begun[msg.data["worker"]] = msg.data["seconds"]

    def _wait_for_all(self) -> None:
        """Time counts from when all have begun who are still there: one may have died before."""
        while not (self._begun and self._present() <= self._begun.keys()):
            gevent.sleep(POLL_SECONDS)
        self._began = time.monotonic() - max(self._begun.values())  # for rates: some have been at work since then
        if self._wishes.report:
            begun_file(Path(self._wishes.report)).touch()
        if self._wishes.produce_seconds is not None:
            gevent.spawn_later(self._wishes.produce_seconds, self._runner.quit)

    def _on_produced(self, msg: Any, **_: Any) -> None:
        self._produced[msg.data["worker"]] = msg.data["unended"]

    def _on_books(self, msg: Any, **_: Any) -> None:
        self._books[msg.data["worker"]] = msg.data

    def _on_report(self, client_id: str, data: Mapping[str, Any], **_: Any) -> None:
        if "redisq" in data:
            self._progress[client_id] = data["redisq"]

    def _connected(self) -> int:
        return int(self._client.info("clients")["connected_clients"])

    def _of_the_processes(self) -> dict[str, float]:
        """What their books say of themselves: how long it took until all were connected, the memory that they had at
        most, in bytes, requests for each second of their CPU time, and how evenly consumers were served (`fairness`).
        """
        books = self._books.values()
        figures = {name: max((each[name] for each in books), default=0.0) for name in ("connect_seconds", "memory")}
        cpu_seconds, requests = (sum(each["cost"][which] for each in books) for which in (0, 1))
        served = [times for each in books for times in each["served"]]
        return {
            **({"connect": figures["connect_seconds"]} if figures["connect_seconds"] else {}),
            "client.memory": figures["memory"],
            **({"requests_per_cpu_second": requests / cpu_seconds} if requests > 0 < cpu_seconds else {}),
            **({"fairness": fairness(served)} if sum(served) else {}),
        }

    def _server(self) -> str:
        told = self._client.info("server")
        version = f"valkey {told['valkey_version']}" if "valkey_version" in told else f"redis {told['redis_version']}"
        way = "unix socket" if self._wishes.url.startswith("unix:") else "TCP"
        return f"{version}, {way}, {without_secrets(self._wishes.url)}"

    # While it runs

    def _told_so_far(self) -> Collection[Mapping[str, Any]]:
        if not isinstance(self._runner, MasterRunner):
            self._progress["local"] = self._local.progress()
        return self._progress.values()


def _let_be_written(**_: Any) -> None:
    """Locust writes its CSV files every so often, and closes them without the figures that have come since."""
    gevent.sleep(1.2 * CSV_STATS_INTERVAL_SEC)


def fairness(served: Collection[int]) -> float:
    """Jain's index of how evenly it was shared: 1 if all had the same, 1 / n if one of n had all.

    >>> fairness([5, 5]), fairness([10, 0])
    (1.0, 0.5)
    """
    return float(sum(served) ** 2 / (len(served) * sum(each * each for each in served)))


def _control(url: str, retry: Retry | None = None) -> redis.Redis:
    """A client for questions only, which may be asked again. One connection, from the start, so that the clients of the
    server can be counted.
    """
    retries = {"retry": retry} if retry else {}
    return Address(url=url).client(protocol=2, single_connection_client=True, **retries)


def _patient() -> Retry:
    """Asks again while a server restarts."""
    return Retry(ConstantBackoff(_RETRY_SECONDS), int(BOOKS_SECONDS / _RETRY_SECONDS))
