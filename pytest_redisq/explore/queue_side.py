"""One side of a queue, as the actors of an execution open it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_redisq.endpoint.fence import Fence, fence_of
from pytest_redisq.endpoint.forms import Form, Gets, QueueEndpoint, check_queue, is_async_queue, open_endpoint

#: Why the explorer cannot open a queue of such a form.
CANNOT_EXPLORE: Mapping[Form | None, str] = {
    Form.SHARED: (
        "it cannot be explored: each actor needs the queue on a client of its own. Pass an object with bind(client), "
        "a class or function of a client that returns such an object, or a pair (produce, consume) of functions."
    ),
    Form.COMMAND: (
        "it cannot be explored as a part of a queue, for its lines would reach no schedule. Run it with run(), or in a "
        "scenario of your own as an actor, with world.process(command)."
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSide:
    """One side of a queue, to put or to get, as its actors open it; parameters as for `World.producer`."""

    queue: Any
    is_producer: bool
    is_async: bool
    gets: Gets

    def open(self, given: Any) -> QueueEndpoint:
        """Open it with an actor's client or URL."""
        if isinstance(given, str):
            return open_endpoint(self.queue, given, is_producer=self.is_producer, fence=Fence())
        return open_endpoint(
            self.queue, lambda: given, is_producer=self.is_producer, fence=fence_of(given), owned=False
        )


def queue_side(queue: Any, *, is_producer: bool, is_async: bool | None, gets: Gets = "client") -> QueueSide:
    """The side of a queue; parameters as for `World.producer`.

    Errors: `TypeError` for an object that is no queue, or whose commands would not pass through the proxy.
    """
    __tracebackhide__ = True
    check_queue(queue, cannot=CANNOT_EXPLORE)
    found = is_async_queue(queue, is_producer=is_producer) if is_async is None else is_async
    return QueueSide(queue=queue, is_producer=is_producer, is_async=found, gets=gets)
