"""The demo on a terminal: progress during each story, then its evidence, and a table at the end."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pytest_redisq.check import Verdict
from pytest_redisq.demo import STORIES, Act, Opening, play
from pytest_redisq.demo.story import Story
from pytest_redisq.servers import Server

#: How many messages at fault are shown for each act.
EXAMPLES = 2


def show(console: Console, server: Server, stories: Sequence[Story] = STORIES) -> list[Act]:
    """Run the stories on `server` and show them. Returns the acts."""
    console.print(f"redisq demo on {escape(server.header())}", highlight=False)
    acts: list[Act] = []
    with console.status("") as status:
        for event in play(server, stories):
            match event:
                case Opening():
                    if event.side == "broken":
                        _show_title(console, event)
                    status.update(f"{event.story.id}, {event.side}: {escape(event.title)}")
                case Act():
                    acts.append(event)
                    _show_act(console, event)
    console.print()
    console.print(_summary(acts))
    return acts


def _show_title(console: Console, opening: Opening) -> None:
    console.print(f"\n[bold]{opening.story.id}  {escape(opening.story.title)}[/bold]", highlight=False)


def _show_act(console: Console, act: Act) -> None:
    version = act.story.broken if act.side == "broken" else act.story.fixed
    verdict = act.attempt.verdict
    console.print(f"  [bold]{act.side}[/bold]: {escape(version.title)}", highlight=False)
    for line in [*_examples(verdict), *act.attempt.evidence]:
        console.print(f"    {escape(line)}", highlight=False)
    for row in act.attempt.table.splitlines():
        console.print(f"      {escape(row)}", highlight=False, no_wrap=True, overflow="ignore", crop=False)
    console.print(f"    {_mark(act)} {escape(str(verdict.contract))}: {escape(_counts(verdict))}", highlight=False)


def _examples(verdict: Verdict) -> list[str]:
    """The first messages that break the contract, in the checker's words."""
    broken = [anomaly for anomaly in verdict.anomalies if verdict.contract.forbids(anomaly.kind)]
    return [
        f"{anomaly.kind}: message {anomaly.message.sequence} of producer {anomaly.producer}, {anomaly.words}"
        for anomaly in broken[:EXAMPLES]
    ]


def _counts(verdict: Verdict) -> str:
    """The verdict with the anomalies that the contract forbids: "fail, 130 lost, 12 cloned"."""
    found = [f"{count:,} {kind}" for kind, count in verdict.counts.items() if count and verdict.contract.forbids(kind)]
    delivered = f"{verdict.totals.delivered:,} of {verdict.totals.attempted:,} delivered"
    return ", ".join([verdict.outcome, *found, delivered, *verdict.reasons])


def _mark(act: Act) -> str:
    if act.as_it_should:
        return "[green]✓ caught[/green]" if act.side == "broken" else "[green]✓ holds[/green]"
    return "[red]✗ not caught[/red]" if act.side == "broken" else "[red]✗ fails[/red]"


def _summary(acts: Sequence[Act]) -> Table:
    table = Table("story", "", "broken", "fixed")
    for broken, fixed in zip(acts[::2], acts[1::2], strict=True):
        table.add_row(broken.story.id, broken.story.title, _mark(broken), _mark(fixed))
    return table
