"""What is still in a queue at the end of a schedule, asked by a client that is connected directly to the server."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_redisq import interrupts
from pytest_redisq.check import FinishedMessages
from pytest_redisq.endpoint.event_loop import LoopThread
from pytest_redisq.endpoint.forms import awaited
from pytest_redisq.explore.queue_side import QueueSide
from pytest_redisq.explore.resources import Resources
from pytest_redisq.explore.trace import ExecutedStep
from pytest_redisq.history import History
from pytest_redisq.model import Kind, Message, Outcome
from pytest_redisq.search import NamespaceSearch

_LISTS = ("remaining", "pending")


def finished_and_pending(search: NamespaceSearch, history: History, events: Sequence[ExecutedStep]) -> set[Message]:
    """The messages that consumers have acknowledged, and that are pending in a stream's group all the same.

    The server is asked only if the commands of the schedule read by a group, and acknowledge less than the consumers.
    """
    names = [event.args[0].upper() for event in events if event.args]
    sent = sum(len(event.args) - 3 for event in events if event.args and event.args[0].upper() == b"XACK")
    acks = (len(group) for group in history.groups if group.key.kind is Kind.ACK and group.key.outcome is Outcome.OK)
    if b"XREADGROUP" not in names or sent >= sum(acks):
        return set()
    return set(search.search_pending(FinishedMessages(history)).pending)


def listed_bodies(side: QueueSide, resources: Resources) -> list[list[bytes]]:
    """The bodies that the queue lists as `remaining`, and as `pending`; none where it cannot list them."""
    if not side.is_async:
        endpoint = side.open(resources.url if side.gets == "url" else resources.direct)
        try:
            return [list(endpoint.call(what) or ()) for what in _LISTS]
        finally:
            endpoint.close()

    async def list_bodies() -> list[list[bytes]]:
        async with resources.async_client(resources.url) as client:
            endpoint = side.open(resources.url if side.gets == "url" else client)
            try:
                return [list(await awaited(endpoint.call(what)) or ()) for what in _LISTS]
            finally:
                await endpoint.close_async()

    # In a thread of its own: an event loop may be running the scenario.
    loop = LoopThread("redisq-listing")
    with interrupts.cleared_up() as held:
        held.callback(loop.close)
        listed: list[list[bytes]] = loop.do(list_bodies)
    return listed
