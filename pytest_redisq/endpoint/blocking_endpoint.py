"""An endpoint whose calls block, also where the queue has coroutine functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_redisq.endpoint.event_loop import LoopThread
from pytest_redisq.endpoint.fence import Fence
from pytest_redisq.endpoint.forms import EndpointFactory, QueueEndpoint
from pytest_redisq.endpoint.operation_record import ReceivedMessage
from pytest_redisq.endpoint.workload import Operation
from pytest_redisq.model import Outcome
from pytest_redisq.queues.protocol import ListsMessages

#: pytest shows none of these frames: a crash is to show the user's own line.
__tracebackhide__ = True


class BlockingEndpoint:
    """Open an endpoint of a queue; any thread may call its methods, one at a time.

    Parameters:

    * `factory`: opens the endpoint.
    * `name`: of the worker.
    * `is_producer`: which function of a pair to use; default: the second.
    * `fence`: watches the connections of this endpoint; default: one of its own.
    * `loop`: the event loop that runs the queue's coroutine functions; None for plain functions. The caller closes it.
    """

    def __init__(
        self,
        factory: EndpointFactory,
        name: str,
        *,
        loop: LoopThread | None,
        is_producer: bool = False,
        fence: Fence | None = None,
    ) -> None:
        self._loop = loop
        self.fence: Fence = fence or Fence()
        self._endpoint: QueueEndpoint = self._do(
            lambda: factory.open(name, is_producer=is_producer, is_async=loop is not None, fence=self.fence)
        )
        self.acknowledges: bool = self._endpoint.acknowledges
        self.nacks: bool = self._endpoint.nacks
        self.runs_dry: bool = self._endpoint.runs_dry

    def outcome_of(self, error: Exception) -> Outcome | None:
        """Return how the last operation ended, which raised `error`; None if the error comes from the queue's code."""
        return self._endpoint.outcome_of(error)

    def perform(self, operation: Operation) -> Any:
        """Do an operation, or wait. Returns what the steps are to be sent."""
        endpoint = self._endpoint
        if self._loop is None or operation.verb == "wait":
            return endpoint.perform(operation)
        return self._loop.do(lambda: endpoint.perform_async(operation))

    def put(self, body: bytes) -> str | None:
        queue_id: str | None = self.perform(Operation("put", body))
        return queue_id

    def get(self, wait_seconds: float) -> ReceivedMessage | None:
        received: ReceivedMessage | None = self.perform(Operation("get", wait_seconds))
        return received

    def ack(self, received: ReceivedMessage) -> Any:
        return self.perform(Operation("ack", received.delivery))

    def has(self, method: str) -> bool:
        """Whether the queue has such a method."""
        return callable(getattr(self._endpoint.queue, method, None))

    def call(self, method: str) -> Any:
        """What the queue's `method()` comes to; None if it has none."""
        return self._do(lambda: self._endpoint.call(method))

    @property
    def lists(self) -> bool:
        """Whether the queue can list the messages in it."""
        return isinstance(self._endpoint.queue, ListsMessages)

    def listed(self, what: str) -> list[bytes]:
        """The bodies that are `remaining` (no consumer has received them) or `pending` (received, not acknowledged).

        Empty if the queue cannot tell.
        """
        return list(self.call(what) or ())

    def close(self) -> None:
        self._do(self._endpoint.close if self._loop is None else self._endpoint.close_async)

    def cut_off(self) -> None:
        """Let no command pass from now on; what waits for the server gets a `ConnectionError`."""
        self._do(self.fence.close)

    def _do(self, act: Callable[[], Any]) -> Any:
        """Return the result of `act`, called in the event loop if there is one."""
        return act() if self._loop is None else self._loop.do(act)
