"""The keyword arguments that the `redisq` fixture passes on, with their types, for type checkers and editors.

Law: each has the keys and the types of the function that it is passed on to; `tests/test_keywords.py` holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, Unpack

from pytest_redisq.options import Persistence
from pytest_redisq.spelling import check_keywords

if TYPE_CHECKING:
    import redis
    import redis.asyncio
    from hypothesis.strategies import SearchStrategy

    from pytest_redisq.endpoint.forms import Gets
    from pytest_redisq.endpoint.jobs import ClientFactory, Pace, Payload, Work, Workers
    from pytest_redisq.explore import Exploration, Schedule, Strategy
    from pytest_redisq.faults import AnyFaults, ExploreFaults, KitFault
    from pytest_redisq.load.engine import Engine
    from pytest_redisq.queues.drain_list import Guarantee as DrainGuarantee
    from pytest_redisq.queues.framing import Framing
    from pytest_redisq.servers import Server


class RunKeywords(TypedDict, total=False):
    """What `redisq.run` takes beside the queue; see `pytest_redisq.run`."""

    producers: int
    consumers: int
    messages: int
    workers: Workers
    faults: AnyFaults
    deadline_seconds: float
    settle_seconds: float
    wait_seconds: float
    live_seconds: float
    payload: Payload
    work: Work
    pace: Pace | None
    seed: int
    client: ClientFactory | None
    gets: Gets
    logs: bool


class ReplayKeywords(TypedDict, total=False):
    """What `redisq.replay` takes beside the scenario and the schedule; see `pytest_redisq.explore.replay`."""

    client: Callable[[str], redis.Redis]
    async_client: Callable[[str], redis.asyncio.Redis]
    max_steps: int
    patience_seconds: float


class ExploreKeywords(ReplayKeywords, total=False):
    """What `redisq.explore` takes beside the scenario; see `pytest_redisq.explore.explore`."""

    schedules: int | None
    seconds: float | None
    seed: int | str
    faults: ExploreFaults
    max_faults: int
    exhaustive: bool
    checks: int
    strategy: Strategy
    depth: int
    first: Iterable[Schedule]
    progress: Callable[[Exploration], None] | None
    shrink_seconds: float
    known: Collection[str]


class QueueKeywords(TypedDict, total=False):
    """What `redisq.explore` takes for a queue beside `contract`; see `pytest_redisq.explore.queue_scenario`."""

    producers: int
    consumers: int
    messages: int
    is_async: bool | None
    gets: Gets
    work: Work


class ExploreQueueKeywords(ExploreKeywords, QueueKeywords, total=False):
    """What `redisq.explore` takes for a queue."""


class LoadKeywords(TypedDict, total=False):
    """What `redisq.load` takes beside the scenario and the faults; see `pytest_redisq.load.locust_process.LoadRun`."""

    seconds: float
    engine: Engine
    producers: int | None
    consumers: int | None
    rate: str
    payload_bytes: int
    pipeline: int
    processes: int
    drain_seconds: float
    fail_if: Sequence[str]
    settings: Sequence[str]
    locust: Sequence[str]


class StreamKeywords(TypedDict, total=False):
    """What `redisq.stream` takes without a group; see `pytest_redisq.Stream`."""

    after: str
    field: str
    maxlen: int | None
    approximate: bool
    batch: int


class StreamGroupKeywords(TypedDict, total=False):
    """What `redisq.stream` takes with a group; see `pytest_redisq.StreamGroup`."""

    start: str
    field: str
    maxlen: int | None
    approximate: bool
    claim_idle_seconds: float
    max_deliveries: int
    dead_letters: str | None


class DrainKeywords(TypedDict, total=False):
    """What `redisq.drain` takes beside the name; see `pytest_redisq.drain`."""

    chunk: int
    guarantee: DrainGuarantee
    lease_seconds: float


class DrainToFileKeywords(TypedDict, total=False):
    """What `redisq.drain_to_file` takes beside the name and the path; see `pytest_redisq.drain_to_file`."""

    framing: Framing
    chunk: int
    lease_seconds: float
    take_over: bool
    progress: Callable[[int, int], object]


class ConformanceKeywords(TypedDict, total=False):
    """What `conformance` takes beside the queue and the contract."""

    workers: Sequence[Workers]
    faults: Sequence[KitFault] | None
    messages: int
    wait_seconds: float
    settle_seconds: float
    schedules: int
    work: Work
    bodies: Literal["bytes", "text", "json"] | SearchStrategy[Any]
    client: ClientFactory | None
    gets: Gets
    leave_out: Mapping[str, str]


class ServerKeywords(TypedDict, total=False):
    """The settings of `redisq_start` and of `@pytest.mark.redisq_dedicated`, as the options are."""

    server: str
    image: str
    binary: str
    server_args: Sequence[str]
    persistence: Persistence
    startup_seconds: float


class StartServer(Protocol):
    """What the fixture `redisq_start` is: `redisq_start(persistence="aof", server_args=["maxmemory 10mb"])`."""

    def __call__(self, **settings: Unpack[ServerKeywords]) -> Server:
        """Start another server. It ends by its `stop()`, or at the end of the test run."""


def checked(where: str, given: Mapping[str, object], *known: type) -> None:
    """Raise TypeError, with the name that may have been meant, for a keyword that none of `known` has.

    `where`: the function, as its user calls it. `given`: the keyword arguments. `known`: TypedDicts from above.
    """
    __tracebackhide__ = True
    names: dict[str, None] = {}
    for kind in known:
        names |= dict.fromkeys(sorted(kind.__required_keys__ | kind.__optional_keys__))  # type: ignore[attr-defined]
    check_keywords(where, given, names)
