"""The options of a load run on Locust's command line, for `locust -f` and for `redisq load`, which passes them on."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from pytest_redisq.endpoint.jobs import share_out
from pytest_redisq.load.codec import SHORT_TRAILER_BYTES
from pytest_redisq.load.engine import ENGINES, Engine
from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.engine.rate_profile import RateProfile
from pytest_redisq.load.results.thresholds import Threshold
from pytest_redisq.secret import Url

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """The options of a load run, as given on Locust's command line."""

    url: str
    engine: Engine
    producers: int | None
    consumers: int | None
    rate: str
    payload_bytes: int
    pipeline: int
    thresholds: tuple[Threshold, ...]
    produce_seconds: float | None
    drain_seconds: float
    report: str | None
    settings: tuple[str, ...] = ()
    #: Whether redisq has started the server and removes it after the run: then the keys need no lease.
    own_server: bool = False
    #: Whether clients of other processes may use that server all the same.
    shared_server: bool = False

    @classmethod
    def of(cls, options: Any) -> Self:
        return cls(
            url=Url(options.redis_url),
            engine=options.engine,
            producers=options.producers,
            consumers=options.consumers,
            rate=options.rate,
            payload_bytes=options.payload,
            pipeline=options.pipeline,
            thresholds=tuple(map(Threshold.parse, options.fail_if)),
            produce_seconds=options.produce_seconds,
            drain_seconds=options.drain_seconds,
            report=options.redisq_report,
            settings=tuple(options.set),
            own_server=options.redisq_own_server,
            shared_server=options.redisq_shared_server or not options.redisq_own_server,
        )

    def check_figures(self) -> None:
        """Raise ValueError if a threshold names a figure that no run has."""
        for threshold in self.thresholds:
            threshold.check()

    def assignments(self, run: str, producers: int, consumers: int, workers: int) -> list[Assignment]:
        """What each of `workers` processes is to do in the run called `run`: equal shares, to one."""
        assignments: list[Assignment] = []
        first_producer = first_consumer = 0
        pairs = zip(share_out(producers, workers), share_out(consumers, workers), strict=True)
        for number, (own_producers, own_consumers) in enumerate(pairs):
            assignments.append(
                Assignment(
                    run=run,
                    url=self.url,
                    engine=self.engine,
                    worker=number,
                    producers=own_producers,
                    consumers=own_consumers,
                    first_producer=first_producer,
                    first_consumer=first_consumer,
                    all_producers=producers,
                    payload_bytes=self.payload_bytes,
                    pipeline=self.pipeline,
                    rate=self.rate,
                    settings=self.settings,
                    own_server=self.own_server,
                )
            )
            first_producer += own_producers
            first_consumer += own_consumers
        return assignments


def add_arguments(parser: Any, **_: Any) -> None:
    """Add the options to `parser`. For Locust's event `init_command_line_parser`."""
    add = parser.add_argument
    add("--redis-url", default="redis://127.0.0.1:6379/0", env_var="REDIS_URL", is_secret=True, help="the server")
    add(
        "--engine",
        choices=ENGINES,
        default="epoll",
        help="epoll: one loop for each process; locust: a Locust user for each connection",
    )
    add("--producers", type=_number(1), help="connections that send (default: the scenario's)")
    add("--consumers", type=_number(0), help="connections that receive (default: the scenario's)")
    add(
        "--rate",
        type=_checked(RateProfile.parse),
        default="",
        help="messages a second, or breakpoints SECONDS:RATE,…; default: as fast as possible",
    )
    add("--payload", type=_number(SHORT_TRAILER_BYTES), default=100, help="size of a message, in bytes")
    add("--pipeline", type=_number(1), default=1, help="messages sent at once by a producer")
    add("--fail-if", type=_checked(Threshold.parse), action="append", default=[], help="as 'p99>5ms' or 'lost>0'")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the scenario, as 'chunk=1000'")
    add(
        "--produce-seconds",
        type=float,
        help="produce for so long, counted from when all are connected (-t counts from the start)",
    )
    add(
        "--drain-seconds", type=float, default=30.0, help="at the end, stop consumers that make no progress for so long"
    )
    add("--redisq-report", default=None, help="write the result to this file, as JSON")
    add("--redisq-shared-server", action="store_true", help="clients of other processes may use the server")
    add("--redisq-own-server", action="store_true", help="redisq has started the server: leave the keys there")


def _number(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise ArgumentTypeError(f"{text!r} is not a whole number; give one from {least} on")
        return int(text)

    return parse


def _checked(parse: Callable[[str], Any]) -> Callable[[str], str]:
    """Returns a parser that keeps the text, which is sent to workers, and refuses a text that `parse` refuses."""

    def check(text: str) -> str:
        if text:
            try:
                parse(text)
            except ValueError as error:
                raise ArgumentTypeError(str(error)) from None
        return text

    return check
