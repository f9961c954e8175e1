"""Detects a coroutine that blocks its event loop: it would wait for ever for a reply that the schedule holds."""

from __future__ import annotations

from pytest_redisq.endpoint.user_code import place_of_frame
from pytest_redisq.explore.actor import ActorState
from pytest_redisq.explore.actor_event_loops import EventLoopRunner
from pytest_redisq.explore.schedule import letter
from pytest_redisq.explore.virtual_time import is_sleep

#: After so many looks, some milliseconds apart, at which its thread waits at the same place, an event loop is blocked.
_LOOKS = 100
#: Seconds that the coroutine then has to end by itself, once its connection is closed. An interruption meanwhile would
#: leave the event loop open.
_EXIT_SECONDS = 0.2


class BlockedLoops:
    """Looks at the threads of event loops, again and again."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[tuple[int, int], int]] = {}

    def forget(self) -> None:
        """Begin anew, because something has happened."""
        self._seen.clear()

    def look(self, state: ActorState, *, awaits_reply: bool) -> str:
        """The error message if the actor's event loop is blocked by a call that waits for a reply, or by `time.sleep`.
        Empty if the loop is not blocked.

        `awaits_reply`: whether the actor has sent a command that has no reply yet.
        """
        frame = state.runner.waits_at() if isinstance(state.runner, EventLoopRunner) else None
        if frame is None or not (awaits_reply or is_sleep(frame)):
            self._seen.pop(state.actor.index, None)
            return ""
        place = (id(frame), frame.f_lasti)
        before, looks = self._seen.get(state.actor.index, (place, 0))
        looks = looks + 1 if before == place else 1
        self._seen[state.actor.index] = place, looks
        if looks < _LOOKS:
            return ""
        state.runner.exit_seconds = _EXIT_SECONDS
        return (
            f"A coroutine blocks its event loop: {letter(state.actor.index)} ({state.actor.name}) waits at "
            f"{place_of_frame(frame)}\n"
            "What to do: await an asynchronous call there (redis.asyncio, asyncio.sleep), or make the actor a plain "
            "function (def in place of async def)."
        )
