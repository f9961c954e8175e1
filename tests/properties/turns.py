"""A strategy for the order in which the actors of a `Stage` send their commands, and for the faults of commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import hypothesis.strategies as st

from pytest_redisq.explore import StepKind

#: The faults that may strike a command, as the explorer marks them.
FAULTS = (StepKind.LOSE_REQUEST, StepKind.LOSE_REPLY, StepKind.KILL_BEFORE, StepKind.KILL_AFTER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The actor number `actor` (modulo their number) sends `commands` commands; `mark` happens to the last of them."""

    actor: int
    commands: int
    mark: StepKind


def turns(
    *, actors: int = 3, max_turns: int = 12, faults: Sequence[StepKind] = (), max_commands: int = 6
) -> st.SearchStrategy[list[Turn]]:
    """Draws an order of turns with few switches between actors, which shrinks to a readable one.

    With `faults`, about half of the turns end in a fault.
    """
    turn = st.builds(
        Turn,
        actor=st.integers(0, actors - 1),
        commands=st.integers(1, max_commands),
        mark=st.sampled_from([StepKind.RUN] * max(1, len(faults)) + list(faults)),
    )
    return st.lists(turn, max_size=max_turns)
