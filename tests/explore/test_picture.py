"""picture.py: an execution as an HTML page, whatever is in its commands."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from syrupy.assertion import SnapshotAssertion

from pytest_redisq.explore.picture import page, svg
from pytest_redisq.explore.schedule import Step, StepKind
from pytest_redisq.explore.trace import WORDS, ExecutedStep
from tests.explore.test_trace import EVENTS

SVG = "{http://www.w3.org/2000/svg}"


def shapes(drawing: str, kind: str) -> list[str]:
    return [rect.get("class", "") for rect in ElementTree.fromstring(drawing).iter(f"{SVG}{kind}")]


def test_a_run_is_a_picture(snapshot: SnapshotAssertion) -> None:
    """A lane per actor, a box per step and per command that a step has ended."""
    drawing = svg(EVENTS, names=["producer", "worker"], at_fault=[b"a job"])
    assert drawing == snapshot


def test_faults_time_and_messages_at_fault_look_different() -> None:
    """Faults, time that passes, and the messages at fault."""
    assert shapes(svg(EVENTS, at_fault=[b"a job"]), "rect") == [
        "step",
        "step at-fault",
        "step woken at-fault",
        "step fault",
        "step time",
        "step fault",
        "step fault at-fault",
    ]


@pytest.mark.parametrize("kind", StepKind)
def test_each_kind_of_step_leaves_its_reply_as_much_room_as_there_is(kind: StepKind) -> None:
    """The words of the longest kind take the whole line."""
    event = ExecutedStep(step=Step(0, kind), args=(b"GET", b"k"), reply=b"$50\r\n" + b"x" * 50 + b"\r\n")
    texts = [text.text or "" for text in ElementTree.fromstring(svg([event])).iter(f"{SVG}text")]
    assert sum(len(text) for text in texts if text.endswith("…") or text == f"⚡ {WORDS[kind]}") <= 41


def test_nothing_in_a_command_is_taken_for_markup() -> None:
    """Bodies may be anything; so may names and what the failure says."""
    event = ExecutedStep(step=Step(0, StepKind.RUN), args=(b"SET", b"k", b'<script>"&\xff'), reply=b"+<b>\r\n")
    drawing = svg([event], names=["<i>"])
    texts = [text.text for text in ElementTree.fromstring(drawing).iter(f"{SVG}text")]
    assert texts[0] == "A <i>"
    assert "→ <b>" in texts
    whole = page("<t>", "<script>", "<r>", drawing)
    assert "<script>" not in whole
    assert "<t>" not in whole
