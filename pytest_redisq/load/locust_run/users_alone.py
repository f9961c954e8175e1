"""A run of a locustfile that has users of its own and no scenario: it has a time, figures and thresholds."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import gevent
import redis
from locust.env import Environment

from pytest_redisq.check import Contract, check
from pytest_redisq.errors import ServerError
from pytest_redisq.load.bitmap_evidence import BitmapEvidence
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.locust_run.load_options import LoadOptions
from pytest_redisq.load.locust_run.locust_stats import timings_of
from pytest_redisq.load.locust_run.result_publisher import ResultPublisher
from pytest_redisq.load.locust_run.server_queries import connected, control, described
from pytest_redisq.load.results.exit_status import EXIT_NOT_RUN, EXIT_UNKNOWN
from pytest_redisq.load.results.load_result import LoadResult, error_counts
from pytest_redisq.servers.external import explained

#: Why such a run has no verdict.
NOTHING_TO_JUDGE = "the locustfile has no scenario (users_of), so no message was counted"


class UsersAlone:
    """Leads the runs of `environment`, whose locustfile has no scenario. Ends the process if there is no server.

    With several processes, requests of the last three seconds may be missing from the figures, as in Locust's own.
    """

    def __init__(self, environment: Environment, options: LoadOptions) -> None:
        self._environment = environment
        self._options = options
        self._began = 0.0
        self._time_over = self._signalled = False
        self._publishing: Any = None
        try:
            options.check_figures()
            with explained(options.url), control(options.url) as client:
                self._server, self._clients = described(client, options.url), connected(client)
        except (ServerError, ValueError) as error:
            print(error, file=sys.stderr)
            sys.exit(EXIT_NOT_RUN)
        locust_options: Any = environment.parsed_options
        self._name = Path(locust_options.locustfile.split(",")[0]).stem
        self._publisher = ResultPublisher(environment, options)
        events: Any = environment.events
        events.spawning_complete.add_listener(self._begin)
        events.test_stop.add_listener(self._end)
        events.quitting.add_listener(self._quit)

    def _begin(self, **_: Any) -> None:
        """Count the time from when all users run."""
        self._began, self._time_over, self._signalled, self._publishing = time.monotonic(), False, False, None
        self._publisher.note_headway()
        if self._options.produce_seconds is not None:
            gevent.spawn_later(self._options.produce_seconds, self._time_is_over)

    def _time_is_over(self) -> None:
        self._time_over = True
        runner: Any = self._environment.runner
        runner.quit()

    def _end(self, **_: Any) -> None:
        """Publish the result in a greenlet of its own: one of a user that ends the run is killed when it waits."""
        if self._began and self._publishing is None:  # Locust tells of the end of a run more than once
            self._publishing = gevent.spawn(self._publish, time.monotonic() - self._began)

    def _quit(self, **_: Any) -> None:
        """End the run, if it goes on: a signal makes Locust exit, and it is about to read the exit status."""
        self._signalled = self._publishing is None
        self._end()
        if self._publishing is not None:
            self._publishing.join()
        else:
            self._environment.process_exit_code = EXIT_UNKNOWN

    def _publish(self, seconds: float) -> None:
        options, timings = self._options, timings_of(self._environment.stats)
        evidence = BitmapEvidence(Ledger(), unsettled=[NOTHING_TO_JUDGE], errors=error_counts(timings))
        self._publisher.publish(
            LoadResult(
                scenario=self._name,
                engine="locust",
                server=self._server,
                verdict=check(evidence, Contract.parse("at-least-once")),
                has_contract=False,
                timings=timings,
                seconds=seconds,
                stop_seconds=0.0,
                clients=(self._clients, self._clients_after()),
                interrupted=self._signalled or (options.produce_seconds is not None and not self._time_over),
            )
        )

    def _clients_after(self) -> int | None:
        try:
            with control(self._options.url) as client:
                return connected(client)
        except redis.RedisError:
            return None
