"""External commands that a fault kills: what they have written is done, and nothing else is claimed of them."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from pytest_redisq.model import Kind, Outcome
from pytest_redisq.runner import Command, Rate, run
from pytest_redisq.servers import Server
from tests.runner import command_workers
from tests.runner import sample_queues as queues


def pair(kind: str) -> Any:
    return queues.produce, Command([sys.executable, command_workers.__file__, kind, "{url}"])


@pytest.mark.parametrize("seed", [1, 2])
def test_a_reliable_command_survives_being_killed(server: Server, seed: int) -> None:
    faults = ["kill:consumer@20", "kill:consumer@40"]
    done = run(pair("reliable"), at=server, consumers=2, messages=80, seed=seed, faults=faults)
    verdict = done.verify("at-least-once")
    assert [fault.words.endswith("was killed") for fault in verdict.faults] == [True, True]
    unended = [op for op in done.history if op.kind is Kind.DEQUEUE and op.outcome is Outcome.INFO]
    assert len(unended) == 2, "what each of them may have been receiving"


def test_a_command_that_takes_before_it_tells_is_caught(server: Server) -> None:
    done = run(pair("hasty"), at=server, messages=60, pace=Rate(2_000), faults=["kill:consumer@13"])
    assert done.verdict("at-least-once").outcome == "fail"


def test_what_a_killed_command_has_written_is_done(server: Server) -> None:
    """It is killed with many lines in its pipe; the next one need not receive these again, so that few are doubled."""
    done = run(pair("ahead"), at=server, messages=600, faults=["kill:consumer@30"])
    assert done.verify("at-least-once").totals.delivered <= 700


def test_a_command_cannot_be_killed_with_a_message_in_its_hands(server: Server) -> None:
    with pytest.raises(ValueError, match="kill-holding:consumer@1 cannot strike a command"):
        run(pair("reliable"), at=server, messages=3, faults="kill-holding:consumer@1")
