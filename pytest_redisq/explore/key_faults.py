"""Faults that take away what a command works on: a key is evicted, or a consumer group is destroyed."""

from __future__ import annotations

from pytest_redisq.explore.connection_state import HeldCommand
from pytest_redisq.explore.footprint import Footprint
from pytest_redisq.explore.schedule import StepKind
from pytest_redisq.explore.server_time import group_names
from pytest_redisq.servers.server_connection import ServerConnection

#: The kinds of steps that are such faults.
KEY_FAULTS = frozenset([StepKind.EVICT, StepKind.GROUP_GONE])
#: Commands that name a consumer group, or may do so in a script.
_OF_GROUPS = frozenset(b"XREADGROUP XACK XACKDEL XCLAIM XAUTOCLAIM XPENDING EVAL EVALSHA FCALL EXEC".split())


def can_strike(kind: StepKind, held: HeldCommand) -> bool:
    """Whether a fault of this kind can strike the command; true for each kind that is no fault of keys."""
    if kind is StepKind.GROUP_GONE and held.args[0].upper() not in _OF_GROUPS:
        return False
    return kind not in KEY_FAULTS or bool(held.footprint.keys)


def strike(kind: StepKind, held: HeldCommand, control: ServerConnection) -> bool:
    """Delete the first of the command's keys that exists, or destroy the groups that the command names.

    Returns whether there was one.
    """
    keys = sorted(held.footprint.keys)
    if kind is StepKind.EVICT:
        return any(control.ask("DEL", key) for key in keys)
    words = {word for arg in held.args for word in (arg, *arg.split())}
    groups = [(key, name) for key in keys for name in group_names(control, key) if name in words]
    for key, name in groups:
        control.ask("XGROUP", "DESTROY", key, name)
    return bool(groups)


def struck_footprint(held: HeldCommand) -> Footprint:
    """The keys that the command and a fault of keys at it read and write."""
    return held.footprint | Footprint(writes=held.footprint.keys)
