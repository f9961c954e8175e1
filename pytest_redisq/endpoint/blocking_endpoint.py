"""An endpoint whose calls block, also where the queue has coroutine functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_redisq.endpoint.event_loop import LoopThread
from pytest_redisq.endpoint.fence import Fence
from pytest_redisq.endpoint.forms import EndpointFactory, QueueEndpoint
from pytest_redisq.endpoint.workload import ReceivedMessage
from pytest_redisq.model import Outcome
from pytest_redisq.queues.protocol import ListsMessages


class BlockingEndpoint:
    """Open an endpoint of a queue; any thread may call its methods, one at a time.

    Parameters:

    * `factory`: the queue, the server's address and how to make a client.
    * `name`: of the worker.
    * `is_producer`: which function of a pair to use.
    * `fence`: watches the connections of this endpoint.
    * `loop`: the event loop that runs the queue's coroutine functions; None for plain functions.
    """

    def __init__(
        self, factory: EndpointFactory, name: str, *, is_producer: bool, fence: Fence, loop: LoopThread | None
    ) -> None:
        self._loop = loop
        self._endpoint: QueueEndpoint = self._do(
            lambda: QueueEndpoint(factory, name, is_producer=is_producer, is_async=loop is not None, fence=fence)
        )

    @property
    def acknowledges(self) -> bool:
        """Whether the queue has an `ack`."""
        return self._endpoint.acknowledges

    def outcome_of(self, error: Exception) -> Outcome | None:
        """Return how the last operation ended, which raised `error`; None if the error comes from the queue's code."""
        return self._endpoint.outcome_of(error)

    def subscribe(self) -> None:
        """If the queue has readers, start to read here."""
        self._do(self._endpoint.subscribe)

    def put(self, body: bytes) -> str | None:
        endpoint = self._endpoint
        name: str | None = self._do(lambda: endpoint.put(body) if self._loop is None else endpoint.put_async(body))
        return name

    def get(self, wait_seconds: float) -> ReceivedMessage | None:
        endpoint = self._endpoint
        received: ReceivedMessage | None = self._do(
            lambda: endpoint.get(wait_seconds) if self._loop is None else endpoint.get_async(wait_seconds)
        )
        return received

    def ack(self, received: ReceivedMessage) -> Any:
        endpoint, delivery = self._endpoint, received.delivery
        return self._do(lambda: endpoint.ack(delivery) if self._loop is None else endpoint.ack_async(delivery))

    def remaining(self) -> list[bytes]:
        """The bodies that no consumer has received; empty if the queue cannot tell."""
        return self._listed("remaining")

    def pending(self) -> list[bytes]:
        """The bodies that a consumer has received and not acknowledged; empty if the queue cannot tell."""
        return self._listed("pending")

    def _listed(self, what: str) -> list[bytes]:
        queue = self._endpoint.queue
        return list(self._do(getattr(queue, what))) if isinstance(queue, ListsMessages) else []

    def close(self) -> None:
        self._do(self._endpoint.close if self._loop is None else self._endpoint.close_async)

    def _do(self, act: Callable[[], Any]) -> Any:
        """Return the result of `act`, called in the event loop if there is one."""
        return act() if self._loop is None else self._loop.do(act)
