"""Four real queue bugs: each is run in a broken and a fixed version on a real server, and judged."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pytest_redisq.check import Verdict
from pytest_redisq.demo import s1_drain, s2_stream, s3_logs, s4_workers
from pytest_redisq.demo.story import Attempt, Stage, Story
from pytest_redisq.servers import Server
from pytest_redisq.servers.namespace import Namespaces
from pytest_redisq.servers.temporary_folder import explain_full_disk, temporary_folder

STORIES = (s1_drain.STORY, s2_stream.STORY, s3_logs.STORY, s4_workers.STORY)

Side = Literal["broken", "fixed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One version of a story, with its result."""

    story: Story
    side: Side
    attempt: Attempt

    @property
    def as_it_should(self) -> bool:
        """Whether the broken version failed, or the fixed version passed."""
        return self.attempt.verdict.outcome == ("fail" if self.side == "broken" else "pass")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """An act that is about to begin."""

    story: Story
    side: Side
    title: str


def play(server: Server, stories: Sequence[Story] = STORIES) -> Iterator[Opening | Act]:
    """Run each story, first the broken and then the fixed version. Yields an `Opening` before each, and its `Act`."""
    namespaces = Namespaces(server)
    try:
        for story in stories:
            for side in get_args(Side):
                version = story.broken if side == "broken" else story.fixed
                yield Opening(story=story, side=side, title=version.title)
                with (
                    explain_full_disk(),
                    namespaces.namespace() as namespace,
                    tempfile.TemporaryDirectory(prefix="demo-", dir=temporary_folder()) as folder,
                ):
                    stage = Stage(server=server, namespace=namespace, folder=Path(folder), run=secrets.token_hex(3))
                    attempt = version.play(stage)
                yield Act(story=story, side=side, attempt=attempt)
    finally:
        namespaces.close()


def as_json(server: Server, acts: Sequence[Act]) -> dict[str, object]:
    """The results as JSON data.

    Shape: `{"server": …, "stories": [{"id": "S1", "broken": {"verdict": …, "anomalies": …}, "fixed": {…}}, …]}`.
    """
    stories: dict[str, dict[str, object]] = {}
    for act in acts:
        entry = stories.setdefault(act.story.id, {"id": act.story.id, "title": act.story.title})
        entry[act.side] = {**_judged(act.attempt.verdict), "evidence": list(act.attempt.evidence)}
        if act.attempt.schedule:
            entry["schedule"] = act.attempt.schedule
    return {"server": server.header(), "stories": list(stories.values())}


def _judged(verdict: Verdict) -> dict[str, object]:
    anomalies = {str(kind): count for kind, count in verdict.counts.items() if count}
    return {"verdict": verdict.outcome, "contract": str(verdict.contract), "anomalies": anomalies}
