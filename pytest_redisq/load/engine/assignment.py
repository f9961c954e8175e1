"""What one process is to do: sent by the master to each worker, so that a worker needs no options of its own."""

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
    """The share of process number `worker` in the run called `run`.

    `producers` and `consumers` are this process' own; `first_producer` and `first_consumer` say how many those before
    it have. `rate` is the pace of the whole run ("" for as fast as can be), shared by `all_producers`.
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
    #: Of the scenario's own, each NAME=VALUE.
    settings: tuple[str, ...] = ()
    #: Whether the server is redisq's own, and goes with the run.
    own_server: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", Url(self.url))

    def as_message(self) -> dict[str, Any]:
        return asdict(self) | {"url": str(self.url)}  # messages hold plain data

    @classmethod
    def of_message(cls, message: Mapping[str, Any]) -> Self:
        return cls(**{**message, "settings": tuple(message["settings"])})

    @property
    def salt(self) -> int:
        return int(self.run, 16)

    def key(self, name: str) -> str:
        """A key of this run's own; all are in one slot of a cluster."""
        return f"{self.prefix}{name}"

    @property
    def prefix(self) -> str:
        """What the keys of this run begin with."""
        return f"redisq:load:{{{self.run}}}:"

    @property
    def client_name(self) -> str:
        return f"redisq-load-{self.run}"

    def producer_number(self, index: int) -> int:
        """The number, unique over all processes, of this process' producer of that index."""
        return self.worker * PRODUCERS_OF_A_PROCESS + index

    def schedule(self) -> Callable[[int, int], int] | None:
        """A function of a producer's index and of a turn (both from 0): when its request of that turn is to be sent, in
        nanoseconds from the start. None where no rate was asked for.
        """
        if not self.rate:
            return None
        profile = RateProfile.parse(self.rate)

        def due_ns(index: int, turn: int) -> int:
            request = turn * self.all_producers + self.first_producer + index
            return int(profile.due(request * self.pipeline) * 1e9)

        return due_ns
