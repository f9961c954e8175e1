"""A scenario for one queue: producers and consumers send messages through it, and a contract judges what arrives."""

from __future__ import annotations

from typing import Any

from pytest_redisq.check import AnyContract, contract_of
from pytest_redisq.endpoint.forms import Gets, form_of
from pytest_redisq.endpoint.jobs import Work, share_out
from pytest_redisq.explore.queue_side import CANNOT_EXPLORE, queue_side
from pytest_redisq.explore.world import World


def can_explore(queue: Any) -> bool:
    """Whether `queue` has a form that can be explored: not an object that all workers share, nor a command."""
    return not any(form_of(queue, is_producer=each) in CANNOT_EXPLORE for each in (True, False))


def queue_scenario(
    queue: Any,
    contract: AnyContract,
    *,
    producers: int = 1,
    consumers: int = 2,
    messages: int = 3,
    is_async: bool | None = None,
    gets: Gets = "client",
    work: Work = 0.0,
) -> Any:
    """The scenario in which producers send messages to consumers through the queue.

    * `queue`, `is_async`, `gets`: as for `World.producer`.
    * `work`: as for `World.consumer`.
    * `contract`: what to verify, such as "at-least-once, fifo".
    * `producers`, `consumers`: how many actors of each kind; default 1 and 2.
    * `messages`: how many in all; default 3.

    Returns a function of a `World`. Raises `TypeError` for an object that is not a queue, `ValueError` for a contract
    that does not exist.
    """
    __tracebackhide__ = True
    agreed = contract_of(contract)
    queue_side(queue, is_producer=True, is_async=is_async)

    def scenario(world: World) -> None:
        __tracebackhide__ = True
        for share in share_out(messages, producers) if producers else ():
            world.producer(queue, share, is_async=is_async, gets=gets)
        for _ in range(consumers):
            world.consumer(queue, is_async=is_async, gets=gets, work=work)
        world.verify(agreed)

    return scenario
