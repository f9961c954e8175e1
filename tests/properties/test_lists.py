"""Job queues on lists: workers that share, die, are cut off and stopped, with urgent keys and fractional time-outs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_redisq.check import Contract, check
from pytest_redisq.explore import StepKind
from pytest_redisq.history import Recorder
from pytest_redisq.model import Kind, Message, encode_body
from pytest_redisq.properties import Ack, Action, Crash, Get, GiveBack, Put, bodies, workloads
from pytest_redisq.queues import BlockingList, BoundQueue, Delivery, ReliableList, Stopped
from pytest_redisq.queues.blocking_list import redis_timeout
from pytest_redisq.queues.reliable_list import ReliableListEndpoint
from pytest_redisq.queues.steps import Steps, command
from tests.properties.conftest import Staged
from tests.properties.ledger import RUN, Ledger
from tests.properties.stage import Stage, errors
from tests.properties.turns import FAULTS, turns

pytestmark = pytest.mark.server

KEY = "jobs"
JOBS = ReliableList(KEY, lease_seconds=30.0)
#: Seconds within which a worker must stop. It needs a millisecond or two.
STOPPED_SECONDS = 2.0


def put_all(recorder: Recorder, producer: int, count: int, busy: set[int]) -> Steps[None]:
    busy.add(producer)
    try:
        for sequence in range(count):
            message = Message(producer, sequence)
            token = recorder.invoke(f"producer-{producer}", Kind.ENQUEUE, (message,))
            yield command("RPUSH", KEY, encode_body(RUN, message))
            recorder.ok(token)
    finally:
        busy.discard(producer)


def lapse(*workers: str) -> Steps[None]:
    """Let the leases of these workers run out."""
    for worker in workers:
        yield command("DEL", f"{KEY}:alive:{worker}:{{{KEY}}}")


@pytest.mark.parametrize(
    "faults", [FAULTS, (StepKind.LOSE_REQUEST, StepKind.LOSE_REPLY), ()], ids=["dies", "is cut off", "is alive"]
)
@given(counts=st.lists(st.integers(1, 6), min_size=1, max_size=2), data=st.data())
def test_a_reliable_list_loses_nothing_whoever(
    staged: Staged, faults: tuple[StepKind, ...], counts: list[int], data: st.DataObject
) -> None:
    """Every job is done and acknowledged once. It comes again only if a worker died or lost its connection."""
    with staged() as (stage, redisq):
        recorder, busy = Recorder(), set[int]()
        ledger = Ledger(recorder)
        for producer, count in enumerate(counts):
            stage.actor("producer", put_all(recorder, producer, count, busy))
        workers = [
            stage.actor(name, ledger.work(name, ReliableListEndpoint(JOBS, name, stage.clock), lambda: not busy))
            for name in ("w0", "w1", "w2")
        ]
        stage.play(data.draw(turns(actors=5, faults=faults, max_turns=16)))
        dead = [worker.name for worker in workers if worker.state == "killed"]
        stage.ask(lapse(*dead))
        stage.ask(ledger.work("heir", ReliableListEndpoint(JOBS, "heir", stage.clock), lambda: True))
        recorder.quiescence()
        verdict = check(recorder.history(), Contract.parse("at-least-once" if faults else "at-most-once"))
        assert not errors(stage.actors)
        assert verdict.outcome == "pass", verdict
        assert set(ledger.acks.values()) <= {1}
        assert not [key for key in redisq.client.scan_iter() if b"processing" in key]


def test_of_equal_jobs_in_hand_one_is_acknowledged(staged: Staged) -> None:
    with staged() as (stage, _):
        end = ReliableListEndpoint(JOBS, "w", stage.clock)
        for _ in range(2):
            stage.ask(end.put(b"same"))
        first, _ = stage.ask(end.get(0)), stage.ask(end.get(0))
        assert stage.ask(end.ack(first))
        assert stage.ask(end.pending()) == [b"same"]


@pytest.mark.parametrize("mark", [StepKind.LOSE_REQUEST, StepKind.LOSE_REPLY])
def test_a_job_whose_ack_was_lost_comes_again_only_if_it_is_there(staged: Staged, mark: StepKind) -> None:
    with staged() as (stage, _):
        end = ReliableListEndpoint(JOBS, "w", stage.clock)
        stage.ask(end.put(b"job"))
        job = stage.ask(end.get(0))
        stage.step(stage.actor("w", end.ack(job)), mark)
        again = stage.ask(end.get(0))
        assert (again and again.body) == (b"job" if mark is StepKind.LOSE_REQUEST else None)


def test_what_the_dead_held_comes_first_in_its_order_and_what_the_living_hold_does_not(staged: Staged) -> None:
    with staged() as (stage, _):
        living, dead, heir = (ReliableListEndpoint(JOBS, name, stage.clock) for name in ("living", "dead", "heir"))
        for body in (b"a", b"b", b"c", b"d", b"e"):
            stage.ask(living.put(body))
        assert [stage.ask(end.get(0)).body for end in (living, dead, dead)] == [b"a", b"b", b"c"]
        stage.ask(lapse("dead"))
        assert stage.ask(heir.recover()) == 2
        assert stage.ask(heir.remaining()) == [b"b", b"c", b"d", b"e"]
        assert stage.ask(heir.pending()) == [b"a"]


def test_a_worker_that_lost_a_reply_is_given_the_job_at_once(staged: Staged) -> None:
    """For the reply of each of its commands; no other worker has to recover the job."""
    at, struck = 0, True
    while struck:
        with staged() as (stage, _):
            end = ReliableListEndpoint(JOBS, "w", stage.clock)
            stage.ask(end.put(b"job"))
            worker = stage.actor("w", end.get(0))
            for _ in range(at):
                stage.step(worker)
            struck = worker.state == "alive"
            stage.step(worker, StepKind.LOSE_REPLY)
            assert (stage.ask(end.get(0)) if struck else worker.result) is not None
        at += 1
    assert at > 2


class Model:
    """A model of a reliable list: waiting jobs in order, and held jobs. `lost` ones return when leases expire."""

    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        self.hands: dict[int, list[Delivery]] = {0: [], 1: []}

    def recovered(self, dead: Sequence[Delivery]) -> None:
        self.waiting[:0] = [job.body for job in dead]


@given(actions=workloads(of=[Put, Put, Get, Get, Ack, GiveBack, Crash]), same=st.booleans())
@settings(max_examples=max(120, settings().max_examples))
def test_a_reliable_list_is_what_its_model_is(staged: Staged, actions: list[Action], same: bool) -> None:
    """Also where all bodies are the same, and told apart only by number; a dead worker's jobs come first, in order."""
    with staged() as (stage, _):
        model, names = Model(), {0: "w0-0", 1: "w1-0"}
        ends = {worker: ReliableListEndpoint(JOBS, name, stage.clock) for worker, name in names.items()}
        for number, action in enumerate(actions):
            act(stage, model, ends, names, action, b"same" if same else b"job %d" % number)
            some = ends[0]
            assert stage.ask(some.remaining()) == model.waiting
            held = [job.body for jobs in model.hands.values() for job in jobs]
            assert Counter(stage.ask(some.pending())) == Counter(held)


def act(
    stage: Stage,
    model: Model,
    ends: dict[int, ReliableListEndpoint],
    names: dict[int, str],
    action: Action,
    body: bytes,
) -> None:
    """Do it to the queue and to the model, which must agree on what comes of it."""
    match action:
        case Put():
            stage.ask(ends[0].put(body))
            model.waiting.append(body)
        case Get(worker=worker):
            delivery = stage.ask(ends[worker].get(0))
            expected = model.waiting.pop(0) if model.waiting else None
            assert (delivery and delivery.body) == expected
            model.hands[worker] += [delivery] if delivery else []
        case Ack(worker=worker, nth=nth) if model.hands[worker]:
            job = model.hands[worker].pop(nth % len(model.hands[worker]))
            assert stage.ask(ends[worker].ack(job))
        case GiveBack(worker=worker, nth=nth) if model.hands[worker]:
            job = model.hands[worker].pop(nth % len(model.hands[worker]))
            stage.ask(ends[worker].give_back(job))
            model.waiting.insert(0, job.body)
        case Crash(worker=worker):
            stage.ask(lapse(names[worker]))
            names[worker] = f"{names[worker]}+"
            ends[worker] = ReliableListEndpoint(JOBS, names[worker], stage.clock)
            stage.ask(ends[worker].recover())
            model.recovered(model.hands[worker])
            model.hands[worker] = []
        case _:
            pass  # there is nothing in that worker's hands


@given(
    jobs=st.lists(st.tuples(st.sampled_from(["now", "soon", KEY]), bodies()), max_size=12),
    timeout_seconds=st.sampled_from([0, 0.5, None]),
)
def test_urgent_jobs_come_first_and_each_key_in_order(
    staged: Staged, jobs: list[tuple[str, bytes]], timeout_seconds: float | None
) -> None:
    queue = BlockingList(KEY, urgent=("now", "soon"))
    with staged() as (_, redisq), queue.bind(redisq.client) as worker:
        for key, body in jobs:
            if key == KEY:
                worker.put(body)
            else:
                redisq.client.rpush(key, body)
        expected = [job for wanted in ("now", "soon", KEY) for job in jobs if job[0] == wanted]
        got = [worker.get(timeout_seconds) for _ in jobs]
        assert [(job.source.removeprefix(redisq.address.prefix), job.body) for job in got if job] == expected


@given(timeout_seconds=st.floats(0, 60, exclude_min=True))
def test_no_time_out_is_so_short_that_it_is_for_ever(timeout_seconds: float) -> None:
    """In Redis 0 means no limit, and the unit is a millisecond."""
    assert redis_timeout(timeout_seconds) >= 0.001
    assert redis_timeout(timeout_seconds) == pytest.approx(timeout_seconds, abs=0.001)


@given(timeout_seconds=st.floats(0.001, 0.05))
@settings(max_examples=8)
@pytest.mark.parametrize("queue", [BlockingList(KEY), JOBS], ids=["BlockingList", "ReliableList"])
def test_a_fractional_time_out_is_kept(staged: Staged, queue: Any, timeout_seconds: float) -> None:
    """Not earlier, and not without end."""
    with staged() as (_, redisq), queue.bind(redisq.client) as worker:
        began = time.monotonic()
        assert worker.get(timeout_seconds) is None
        # Redis counts in milliseconds, and its clock and ours tick apart.
        assert timeout_seconds - 0.002 <= time.monotonic() - began < timeout_seconds + 2


class Hand(threading.Thread):
    """Gets until it is stopped."""

    def __init__(self, worker: BoundQueue, got: threading.Semaphore) -> None:
        super().__init__()
        self.worker, self._got = worker, got
        self.bodies: list[bytes] = []
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while True:
                job = self.worker.get()
                assert job is not None
                self.bodies.append(job.body)
                self.worker.ack(job)
                self._got.release()
        except Stopped:
            return
        except redis.RedisError as error:
            self.error = error


@pytest.mark.parametrize("queue", [BlockingList(KEY), JOBS], ids=["BlockingList", "ReliableList"])
@given(hands=st.integers(1, 3), pushes=st.integers(0, 12), before=st.integers(0, 12))
@settings(max_examples=25)
def test_a_stop_that_races_with_pushes_loses_nothing(
    staged: Staged, queue: Any, hands: int, pushes: int, before: int
) -> None:
    """Each job was done once or is still there; all workers have stopped at once, busy or blocked."""
    with staged() as (_, redisq), queue.bind(redisq.client) as producer:
        got = threading.Semaphore(0)
        workers = [Hand(queue.bind(redisq.client), got) for _ in range(hands)]
        for worker in workers:
            worker.start()
        jobs = [b"%d" % number for number in range(pushes)]
        stopper = threading.Thread(target=stop_after, args=(workers, got, min(before, pushes)))
        stopper.start()
        for job in jobs:
            producer.put(job)
        stopper.join(STOPPED_SECONDS)
        for worker in workers:
            worker.join(STOPPED_SECONDS)
        stuck = [worker for worker in workers if worker.is_alive()]
        for _ in stuck:  # a job wakes it up, so that the test can end
            producer.put(b"the end")
        for worker in workers:
            worker.join(STOPPED_SECONDS)
            worker.worker.close()
        assert not stuck
        assert not [worker.error for worker in workers if worker.error]
        assert sorted([body for worker in workers for body in worker.bodies] + producer.remaining()) == sorted(jobs)
        assert not producer.pending()


def stop_after(workers: Sequence[Hand], got: threading.Semaphore, jobs: int) -> None:
    for _ in range(jobs):
        got.acquire(timeout=STOPPED_SECONDS)
    for worker in workers:
        worker.worker.stop()
