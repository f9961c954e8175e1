"""The assignment of one process. The master sends it to each worker, so that a worker needs no options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from pytest_redisq.load.codec import PRODUCERS_OF_A_PROCESS
from pytest_redisq.load.engine import Engine
from pytest_redisq.load.engine.rate_profile import RateProfile
from pytest_redisq.secret import Url


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The share of process number `worker` (from 0) in the run `run`.

    * `producers`, `consumers`: those of this process.
    * `first_producer`, `first_consumer`: how many the processes before it have.
    * `rate`: the rate profile of the whole run, shared by `all_producers`; "": as fast as possible.
    """

    run: str
    url: str
    engine: Engine
    worker: int
    producers: int
    consumers: int
    first_producer: int
    first_consumer: int
    all_producers: int
    payload_bytes: int
    pipeline: int
    rate: str
    #: Settings of the scenario, each NAME=VALUE.
    settings: tuple[str, ...] = ()
    #: Whether redisq has started the server and removes it after the run.
    own_server: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", Url(self.url))

    def as_message(self) -> dict[str, Any]:
        return asdict(self) | {"url": str(self.url)}  # messages contain plain data

    @classmethod
    def of_message(cls, message: Mapping[str, Any]) -> Self:
        return cls(**{**message, "settings": tuple(message["settings"])})

    @property
    def salt(self) -> int:
        return int(self.run, 16)

    def key(self, name: str) -> str:
        """The full name of this run's key `name`. All keys of a run are in one slot of a cluster."""
        return f"{self.prefix}{name}"

    @property
    def prefix(self) -> str:
        """The prefix of all keys of this run."""
        return f"redisq:load:{{{self.run}}}:"

    @property
    def client_name(self) -> str:
        return f"redisq-load-{self.run}"

    def producer_number(self, index: int) -> int:
        """The number of this process's producer `index` (from 0), unique in the run."""
        return self.worker * PRODUCERS_OF_A_PROCESS + index

    def schedule(self) -> Callable[[int, int], int] | None:
        """Returns a function of i and k: when producer i sends its request number k (both from 0), in nanoseconds from
        the start. Returns None without a rate.
        """
        if not self.rate:
            return None
        profile = RateProfile.parse(self.rate)

        def due_ns(index: int, turn: int) -> int:
            request = turn * self.all_producers + self.first_producer + index
            return int(profile.due(request * self.pipeline) * 1e9)

        return due_ns
