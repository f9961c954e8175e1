"""The properties that a contract implies, to which the kit holds a queue.

Those that a worker is led through by hand see what real traffic does not show (equal bodies, empty ones, time-outs);
the others are runs of real traffic, in which the checker judges the history.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from hypothesis import given, settings

from pytest_redisq import interrupts
from pytest_redisq.check import AnomalyKind, Contract, Guarantee
from pytest_redisq.explore import can_explore
from pytest_redisq.faults import ExploreFaults
from pytest_redisq.properties.kit_bodies import matches
from pytest_redisq.properties.machine import check_stateful
from pytest_redisq.properties.manual_worker import ManualWorker
from pytest_redisq.properties.trial import Trial
from pytest_redisq.queues import Stopped
from pytest_redisq.runner import Bursts
from pytest_redisq.search import NamespaceSearch, marked_messages

#: pytest shows none of these frames: a crash is to show the user's own line.
__tracebackhide__ = True

#: A `get` that waits comes back so soon after a message was put, or after `stop`, in seconds.
PROMPT_SECONDS = 1.0
#: What a `get` may be late by when nothing comes, in seconds.
LATE_SECONDS = 2.0
#: How long the one that has to be woken would sleep otherwise, in seconds.
_ASLEEP_SECONDS = 5.0
_BODIES = 25
#: Messages that are put before the night, and how long that is at least, in seconds.
_EVENING_MESSAGES = 5
_NIGHT_SECONDS = 12 * 3600.0
#: What the stateful model waits for nothing, which it does often, in seconds.
_SHORT_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """`holds` tries it and returns how much was tried (messages, or examples), or raises AssertionError.

    `by`: who tries it: workers that are led by "hand" (in threads, or an event loop each), those of a "run", or actors
    under a "schedule" (the same). `faulty`: tried under each fault as well.
    """

    name: str
    words: str
    holds: Callable[[Trial], int]
    applies: Callable[[Contract], bool] = lambda _contract: True
    by: Literal["hand", "run", "schedule"] = "hand"
    faulty: bool = False


def _backlog(trial: Trial) -> int:
    with trial.hand() as taker, trial.hand() as putter:
        sent = [b"message %d" % number for number in range(trial.messages)]
        for body in sent:
            putter.put(body)
        came = [received.body for received in _all_done(trial, taker, len(sent))]
        missing = Counter(sent) - Counter(came)
        assert not missing, f"{missing.total()} of {len(sent)} never came, such as {next(iter(missing))!r}"
        extra = taker.get(trial.wait_seconds)
        assert extra is None, f"{extra.body!r} came once more"
    return len(sent)


def _all_done(trial: Trial, taker: ManualWorker, count: int) -> list[Any]:
    """What comes, acknowledged one by one."""
    received_messages = []
    for received in taker.all_within(trial.settle_seconds, count):
        if taker.acknowledges:
            taker.ack(received)
        received_messages.append(received)
    return received_messages


def _bodies(trial: Trial) -> int:
    tried = 0

    @settings(max_examples=_BODIES, deadline=None)
    @given(body=trial.bodies.drawn())
    def comes_out_as_it_went_in(body: bytes) -> None:
        nonlocal tried
        tried += 1
        with interrupts.not_replaced(), trial.redisq.example(), trial.hand(trial.queue) as hand:
            hand.put(body)
            came = [received.body for received in _all_done(trial, hand, 1)]
            whole = len(came) == 1 and matches(body, came[0])
            assert whole, f"{bytes(body)!r} went in, and {came[0] if came else None!r} came out"

    comes_out_as_it_went_in()
    return tried


def _equal_bodies(trial: Trial) -> int:
    with trial.hand() as hand:
        for _ in range(3):
            hand.put(b"the same")
        first = _all_done(trial, hand, 1)
        rest = _all_done(trial, hand, 2)
        came = len(first) + len(rest)
        assert came == 3, f"3 equal bodies went in, and {came} came out: equal is not the same"
    return 3


def _waiting(trial: Trial) -> int:
    with trial.hand() as hand, trial.pulse() as pulse:
        for _ in range(3):
            began = time.monotonic()
            received = hand.get(trial.wait_seconds)
            took = time.monotonic() - began
            longest = trial.wait_seconds + LATE_SECONDS + pulse.stood_still_seconds()
            assert received is None, f"{received.body!r} came out of an empty queue"
            assert took >= trial.wait_seconds / 2, f"get({trial.wait_seconds}) gave up after {took:.3f} s: a busy loop"
            assert took < longest, f"get({trial.wait_seconds}) took {took:.1f} s"
    return 3


def _prompt(trial: Trial) -> int:
    with trial.hand() as taker, trial.hand() as putter, trial.pulse() as pulse:
        sleeper = _WaitingGet(taker)
        sleeper.start()
        sleeper.asleep.wait(PROMPT_SECONDS)
        # Long enough that it is in the server, or in its first nap; if not, the property holds all the easier.
        sleeper.join(trial.wait_seconds)
        put_at = time.monotonic()
        putter.put(b"wake up")
        sleeper.wait()
        late = sleeper.woke_at - put_at - pulse.stood_still_seconds()
        assert sleeper.came is not None, "a waiting get did not bring what was put meanwhile"
        assert late < PROMPT_SECONDS, f"a waiting get brought a message {late:.1f} s after it was put"
        if taker.acknowledges:
            taker.ack(sleeper.came)
    return 1


def _stopping(trial: Trial) -> int:
    with trial.hand() as taker, trial.pulse() as pulse:
        if not taker.stops:
            return 0
        sleeper = _WaitingGet(taker)
        sleeper.start()
        sleeper.asleep.wait(PROMPT_SECONDS)
        sleeper.join(trial.wait_seconds)
        stopped_at = time.monotonic()
        taker.stop()
        sleeper.wait()
        late = sleeper.woke_at - stopped_at - pulse.stood_still_seconds()
        assert late < PROMPT_SECONDS, f"a waiting get came back {late:.1f} s after stop()"
    return 1


class _WaitingGet(threading.Thread):
    """Waits in `get` on an empty queue."""

    def __init__(self, hand: ManualWorker) -> None:
        super().__init__(name="redisq-sleeper", daemon=True)
        self._hand = hand
        self.asleep = threading.Event()
        self.came: Any = None
        self.woke_at = float("inf")
        self._error: Exception | None = None

    def run(self) -> None:
        self.asleep.set()
        try:
            self.came = self._hand.get(_ASLEEP_SECONDS)
        except Stopped:
            pass
        except Exception as error:
            self._error = error
        finally:
            self.woke_at = time.monotonic()

    def wait(self) -> None:
        """Wait until it has come back. Raises what `get` raised."""
        self.join(_ASLEEP_SECONDS + LATE_SECONDS)
        if self._error is not None:
            raise self._error


def _over_night(trial: Trial) -> int:
    """Messages wait, one worker holds one, another one dies with one; then time passes, and the worker goes on."""
    with trial.hand() as worker, trial.hand() as putter:
        owed = {b"evening %d" % number for number in range(_EVENING_MESSAGES)}
        for body in sorted(owed):
            putter.put(body)
        held = worker.get(trial.settle_seconds)
        assert held is not None, "nothing came of what was put in the evening"
        owed.discard(held.body)
        if worker.acknowledges:
            with trial.hand() as dying:
                dying.get(trial.settle_seconds)
                dying.crash()
        elif _is_shared(trial.contract):
            with trial.hand() as other:
                received = other.get(trial.settle_seconds)
                owed -= set() if received is None else {received.body}
        _let_the_night_pass(trial)
        if worker.acknowledges and worker.ack(held) is False:
            owed.add(held.body)  # it has been taken over, and comes again
        _come(trial, worker, owed, "was put in the evening")
        putter.put(b"morning")
        _come(trial, worker, {b"morning"}, "was put in the morning, to a worker that had been idle over night")
    return _EVENING_MESSAGES + 1


def _let_the_night_pass(trial: Trial) -> None:
    """Age the namespace by a night, and by more than the longest time that is left to anything in it."""
    search = NamespaceSearch(trial.redisq.address, marked_messages("night"))
    search.let_leases_pass(search.search(()), _NIGHT_SECONDS)


def _come(trial: Trial, worker: ManualWorker, owed: set[bytes], when: str) -> None:
    """All `owed` have to come to `worker`, each within `settle_seconds`. Others may come again."""
    deadline = time.monotonic() + trial.settle_seconds
    while owed:
        began = time.monotonic()  # one that was begun in time may end late, on a busy machine
        received = worker.get(trial.wait_seconds)
        if received is None:
            assert began < deadline, f"{sorted(owed)[0]!r} {when}, and has not come"
            continue
        if worker.acknowledges:
            worker.ack(received)
        owed.discard(received.body)
        deadline = time.monotonic() + trial.settle_seconds


def _stateful(trial: Trial) -> int:
    check_stateful(
        trial.queue,
        trial.redisq,
        contract=trial.unordered,
        wait_seconds=min(trial.wait_seconds, _SHORT_SECONDS),
        settle_seconds=trial.settle_seconds,
        is_async=trial.is_async,
        client=trial.client,
        gets=trial.gets,
        kit_bodies=trial.bodies,
    )
    return 1


def _sharing(trial: Trial) -> int:
    __tracebackhide__ = True
    faults = [] if trial.fault is None else [trial.fault]
    bursts = Bursts(size=20, every_seconds=0.01)
    return _traffic(trial, trial.unordered, producers=3, consumers=3, faults=faults, pace=bursts)


def _order(trial: Trial) -> int:
    __tracebackhide__ = True
    return _traffic(trial, trial.contract, producers=2, consumers=1)


def _traffic(trial: Trial, contract: Contract, **options: Any) -> int:
    __tracebackhide__ = True
    run = trial.redisq.run(
        trial.texts,
        messages=trial.messages,
        workers=trial.kind,
        wait_seconds=trial.wait_seconds,
        settle_seconds=trial.settle_seconds,
        work=trial.work,
        client=trial.client,
        gets=trial.gets,
        **options,
    )
    return run.verify(contract).totals.delivered


def _explored(trial: Trial) -> int:
    __tracebackhide__ = True
    if not can_explore(trial.queue):
        return 0
    faults: ExploreFaults = ()
    if trial.fault is not None:
        faults = ("lost-request", "lost-reply") if trial.fault.name == "drop" else "kill"
    clients: Any = {"async_client" if trial.is_async else "client": trial.client} if trial.client else {}
    return trial.redisq.explore(
        trial.texts,
        contract=trial.unordered,
        producers=1,
        consumers=2,
        messages=2,
        is_async=trial.is_async,
        schedules=trial.schedules,
        work=trial.work,
        gets=trial.gets,
        faults=faults,
        **clients,
    ).schedules


def _is_shared(contract: Contract) -> bool:
    return contract.guarantee is not Guarantee.FAN_OUT


def _owes(contract: Contract) -> bool:
    return contract.forbids(AnomalyKind.LOST)


def _is_ordered(contract: Contract) -> bool:
    return contract.fifo


#: In the order in which they are tried: the quick and simple ones first.
KIT_PROPERTIES: tuple[Property, ...] = (
    Property(name="bodies", words="every body arrives unchanged", holds=_bodies),
    Property(name="equal bodies", words="of equal messages, as many arrive as were put", holds=_equal_bodies),
    Property(name="backlog", words="all messages that were put before one was taken arrive, once", holds=_backlog),
    Property(name="waiting", words="a get on an empty queue waits for its timeout, and no longer", holds=_waiting),
    Property(name="prompt", words="a waiting get returns a message as soon as it is put", holds=_prompt),
    Property(name="stopping", words="stop ends a waiting get at once", holds=_stopping),
    Property(
        name="over night",
        words="messages that wait longer than any time to live still arrive, and an idle worker still takes messages",
        holds=_over_night,
        applies=_owes,
    ),
    Property(
        name="stateful",
        words="after any sequence of operations it does what the model of its contract does",
        holds=_stateful,
        applies=_is_shared,
    ),
    Property(
        name="explored",
        words="the contract holds in each explored order of the commands of a few workers",
        holds=_explored,
        by="schedule",
        faulty=True,
    ),
    Property(
        name="order",
        words="one consumer gets each producer's messages in order",
        holds=_order,
        applies=_is_ordered,
        by="run",
    ),
    Property(
        name="sharing",
        words="many producers and consumers at once: the checker finds no violation of the contract",
        holds=_sharing,
        by="run",
        faulty=True,
    ),
)
