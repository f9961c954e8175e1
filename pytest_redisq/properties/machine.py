"""A queue against a pure model of what its contract says it is: Hypothesis looks for what tells them apart.

from pytest_redisq.properties import check_stateful

def test_orders_are_what_their_contract_says(redisq):
    check_stateful(Orders, redisq, contract="at-least-once, fifo")
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from pytest_redisq import interrupts
from pytest_redisq.check import AnyContract, Contract, Guarantee, contract_of
from pytest_redisq.endpoint.forms import Gets
from pytest_redisq.endpoint.jobs import ClientFactory
from pytest_redisq.endpoint.operation_record import ReceivedMessage
from pytest_redisq.facade import Redisq
from pytest_redisq.properties.kit_bodies import ANY_BYTES, KitBodies
from pytest_redisq.properties.manual_worker import ManualWorker
from pytest_redisq.servers import Address

#: Examples, and actions in each, unless the caller's settings say otherwise.
EXAMPLES, ACTIONS = 20, 8

#: When the last message that was owed has come, what was not owed comes by then, in seconds.
_AFTERWARDS_SECONDS = 0.1
#: Modulo how many there are.
_WORKER = st.integers(0, 3)

#: pytest shows none of these frames: a crash is to show the user's own line.
__tracebackhide__ = True


def _some(least: int) -> st.SearchStrategy[list[bytes]]:
    """From `least` to three bodies of the kind that the machine's queue takes."""
    return st.runner().flatmap(
        lambda machine: st.lists(machine.kit_bodies.drawn(max_size=20), min_size=least, max_size=3)
    )


class SharedModel:
    """What a queue is whose workers share the messages: each body, all different, is in one of these places.

    `waiting` in order; `held` by a worker that has not acknowledged it; `orphaned` by one that died; or gone.
    """

    def __init__(self, contract: Contract, *, keeps: bool) -> None:
        self._contract = contract
        #: Whether a message that was handed out is kept until its ack.
        self._keeps = keeps
        self.waiting: list[bytes] = []
        self.held: list[bytes] = []
        self.orphaned: list[bytes] = []

    def put(self, body: bytes) -> None:
        self.waiting.append(body)

    def may_come(self) -> list[bytes]:
        """What a worker may get now: the first, or any where order was not promised; what is unacknowledged, again."""
        return (self.waiting[:1] if self._contract.fifo else self.waiting) + self.held + self.orphaned

    def got(self, body: bytes) -> None:
        for place in (self.waiting, self.orphaned):
            if body in place:
                place.remove(body)
                self.held += [body] if self._keeps else []
                return

    def acked(self, body: bytes) -> None:
        for place in (self.held, self.orphaned):
            if body in place:
                place.remove(body)
                return

    def crashed(self, bodies: list[bytes]) -> None:
        """Their worker died: they are owed again, if the contract owes anything."""
        for body in bodies:
            if body in self.held:
                self.held.remove(body)
                self.orphaned.append(body)


def check_stateful(
    queue: Any,
    redisq: Redisq,
    *,
    contract: AnyContract,
    workers: int = 2,
    wait_seconds: float = 0.02,
    settle_seconds: float = 2.0,
    settings: settings | None = None,
    is_async: bool = False,
    client: ClientFactory | None = None,
    gets: Gets = "client",
    kit_bodies: KitBodies = ANY_BYTES,
) -> None:
    """Put, get, acknowledge and let workers die, in every order that Hypothesis thinks of; in the end all that is owed
    has to come, within `settle_seconds` of each other, and nothing else.

    `queue`, `client`, `gets` as for `run`; with `is_async` a queue of coroutine functions. Its workers share the
    messages (no fan-out).
    `wait_seconds` is what `get` is given where nothing is there, `kit_bodies` what is put. Raises AssertionError, with
    the sequence of actions that led to it.
    """
    promised = contract_of(contract)
    if promised.guarantee is Guarantee.FAN_OUT:
        raise ValueError('check_stateful models queues whose workers share the messages, and "fan-out" does not')

    def make(address: Address) -> ManualWorker:
        return ManualWorker(queue, address, is_async=is_async, client=client, gets=gets)

    class QueueMachine(_QueueMachine):
        def __init__(self) -> None:
            super().__init__(make, redisq, promised, workers, wait_seconds, settle_seconds, kit_bodies)

    run_state_machine_as_test(QueueMachine, settings=settings or default_settings())


def default_settings() -> settings:
    """Few short examples, and none is shrunk: each waits for real leases to run out, and shrinking takes hundreds.

    A profile that asks for more than Hypothesis's own 100 examples (a thorough one) gets them, and shrinking as well.
    """
    if (wanted := settings().max_examples) > 100:
        return settings(max_examples=wanted, stateful_step_count=ACTIONS, deadline=None)
    quick = (Phase.explicit, Phase.reuse, Phase.generate)
    return settings(max_examples=EXAMPLES, stateful_step_count=ACTIONS, deadline=None, phases=quick)


class _QueueMachine(RuleBasedStateMachine):
    def __init__(
        self,
        make: Callable[[Address], ManualWorker],
        redisq: Redisq,
        contract: Contract,
        workers: int,
        wait_seconds: float,
        settle_seconds: float,
        kit_bodies: KitBodies,
    ) -> None:
        super().__init__()
        self.kit_bodies: KitBodies = kit_bodies
        #: Each body that was put, by its key.
        self._sent: dict[bytes, bytes] = {}
        self._make = make
        self._wait_seconds, self._settle_seconds = wait_seconds, settle_seconds
        self._example = redisq.example()
        self._address = self._example.__enter__().address
        self._workers = [self._hand() for _ in range(workers)]
        self._in_hand: list[list[ReceivedMessage]] = [[] for _ in range(workers)]
        self._keeps = self._workers[0].acknowledges and contract.guarantee is not Guarantee.AT_MOST_ONCE
        self._model = SharedModel(contract, keeps=self._keeps)
        self._count = 0

    def _hand(self) -> ManualWorker:
        return self._make(self._address)

    @rule(worker=_WORKER, some=_some(1))
    def put(self, worker: int, some: list[bytes]) -> None:
        for body in some:
            self._count += 1
            self._put_one(worker % len(self._workers), self.kit_bodies.unlike(body, self._count))

    def _put_one(self, at: int, body: bytes) -> None:
        """Put it, unless an own strategy has drawn it before: the model knows messages by their bodies."""
        key = self.kit_bodies.key(body)
        if key not in self._sent:
            self._sent[key] = body
            self._workers[at].put(body)
            self._model.put(body)

    def _get(self, worker: ManualWorker, seconds: float) -> ReceivedMessage | None:
        """What comes, with its body as it went in."""
        received = worker.get(seconds)
        return None if received is None else received._replace(body=self._as_sent(received.body))

    def _as_sent(self, body: bytes) -> bytes:
        return self._sent.get(self.kit_bodies.key(body), body)

    @rule(
        worker=_WORKER,
        some=_some(0),
        times=st.integers(2, 4),
        acks=st.lists(st.integers(0, 3), min_size=1, max_size=2),
    )
    def work(self, worker: int, some: list[bytes], times: int, acks: list[int]) -> None:
        """Put some, get some, and acknowledge some of what is in hand, in any order."""
        self.put(worker + 1, some)
        at = worker % len(self._workers)
        while times > 0 and self._get_one(at):
            times -= 1
        for nth in acks:
            self._ack_one(at, nth)

    def _get_one(self, at: int) -> bool:
        """Whether anything came."""
        allowed = self._model.may_come()
        if not self._model.waiting and allowed:
            return False  # it may come, or not: that is a matter of time
        received = self._get(self._workers[at], self._settle_seconds if allowed else self._wait_seconds)
        if not allowed:
            assert received is None, f"{received.body!r} came, though nothing is owed"
            return False
        assert received is not None, f"nothing came, though these wait: {self._model.waiting}"
        assert received.body in allowed, f"{received.body!r} came, and it should have been one of {allowed}"
        self._take(at, received)
        return True

    def _ack_one(self, at: int, nth: int) -> None:
        held = self._in_hand[at]
        if held and self._workers[at].acknowledges:
            received = held.pop(nth % len(held))
            if self._workers[at].ack(received) is False:  # too late: others may have it, by the queue's own word
                self._model.crashed(self._in_no_hand([received.body]))
            else:
                self._model.acked(received.body)

    def _in_no_hand(self, some: list[bytes]) -> list[bytes]:
        """Those that no worker holds; one whose lease ran out may have been handed to another as well."""
        held = {received.body for received_messages in self._in_hand for received in received_messages}
        return [body for body in some if body not in held]

    @rule(worker=_WORKER)
    def crash(self, worker: int) -> None:
        self._replace(worker % len(self._workers))

    def _take(self, at: int, received: ReceivedMessage) -> None:
        self._model.got(received.body)
        self._in_hand[at].append(received)

    def _replace(self, at: int) -> None:
        self._workers[at].crash()
        self._workers[at] = self._hand()
        bodies_held, self._in_hand[at] = [received.body for received in self._in_hand[at]], []
        self._model.crashed(self._in_no_hand(bodies_held))

    @invariant()
    def all_is_inside(self) -> None:
        # Where nothing is promised of what was handed out, it may be kept or not.
        inside, model = self._workers[0].inside(handed_out=self._keeps), self._model
        if inside is not None:
            owed, inside = model.waiting + model.held + model.orphaned, [*map(self._as_sent, inside)]
            assert sorted(inside) == sorted(owed), f"{inside} is inside, and it should be {owed}"

    @interrupts.not_replaced()  # or an interrupted example would be taken for one that fails
    def teardown(self) -> None:
        """All workers die, one of them holding a last message: when that has come back, so has all that ever will."""
        try:
            if self._keeps:
                self._hold_a_last_one()
            for at in range(len(self._workers)):
                self._replace(at)
            self._get_what_is_owed()
        finally:
            for worker in self._workers:
                worker.close()
            self._example.__exit__(None, None, None)

    def _hold_a_last_one(self) -> None:
        last = self.kit_bodies.last()
        if last is None:
            return
        self._put_one(0, last)
        while last in self._model.waiting:
            received = self._get(self._workers[0], self._settle_seconds)
            assert received is not None, f"nothing came, though these wait: {self._model.waiting}"
            self._take(0, received)

    def _get_what_is_owed(self) -> None:
        model, last = self._model, self._workers[0]
        deadline = time.monotonic() + self._settle_seconds
        while model.waiting or model.orphaned:
            began = time.monotonic()  # one that was begun in time may end late, on a busy machine
            received = self._get(last, self._wait_seconds)
            if received is None:
                assert began < deadline, f"these never came: {model.waiting + model.orphaned}"
                continue
            assert received.body in model.may_come(), f"{received.body!r} came, and was not owed"
            model.got(received.body)
            if last.acknowledges:
                last.ack(received)
                model.acked(received.body)
        left = last.get(_AFTERWARDS_SECONDS)
        assert left is None, f"{left.body!r} came when all had been dealt with"
