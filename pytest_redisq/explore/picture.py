"""An execution as a picture: an HTML page with one SVG, which needs no other file. Pure.

A column per actor, a row per step, as in the table. Faults are red, time that passes is grey, and steps that handle a
message at fault have a yellow background.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from pytest_redisq.explore.schedule import StepKind, letter
from pytest_redisq.explore.step_table import folded, seconds_of
from pytest_redisq.explore.trace import ExecutedStep, WokenCommand, command_text, lanes_of, reply_text
from pytest_redisq.terminal import fit

#: In pixels.
_LANE, _ROW, _MARGIN, _HEAD = 320, 46, 44, 40
#: The most characters of a line in a lane.
_CHARACTERS = 40

_STYLE = """
svg { font: 12px ui-monospace, monospace } body { font: 14px sans-serif; margin: 2em; background: #fff; color: #222 }
pre { white-space: pre-wrap } .lane { stroke: #ccc } .step { fill: #f4f6fa; stroke: #8a97ad }
.name { font-weight: bold }
.time { fill: #eee; stroke: #aaa } .fault { stroke: #c22; stroke-width: 2 } .woken { stroke-dasharray: 4 3 }
text { fill: #222 } .at-fault { fill: #fff3bf } .what { fill: #c22 } .reply, .number, .when { fill: #667 }
"""

_LEGEND = (
    "Red: a fault. Grey: time passed. Dashed: a blocked command, which the step beside it ended. "
    "Yellow: the step handles a message at fault."
)


def page(title: str, explanation: str, replay: str, drawing: str) -> str:
    """The whole page: the failure, the picture, the explanation, and how to replay it."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n{drawing}\n"
        f"<p>{_LEGEND}</p>\n<pre>{escape(explanation)}</pre>\n"
        f"<p>Replay: <code>{escape(replay)}</code></p></body></html>\n"
    )


def svg(
    events: Sequence[ExecutedStep],
    *,
    names: Sequence[str] = (),
    at_fault: Iterable[bytes] = (),
    times: Sequence[float] = (),
) -> str:
    """The execution as an SVG; parameters and steps that are left out as for `step_table`."""
    bodies = tuple(at_fault)
    lanes = lanes_of(events)
    shown = folded(events, bodies)
    width, height = 2 * _MARGIN + _LANE * len(lanes), _HEAD + _ROW * len(shown) + 8
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" role="img">']
    for actor, lane in lanes.items():
        title = f"{letter(actor)} {names[actor]}" if actor < len(names) else letter(actor)
        middle = _MARGIN + lane * _LANE + _LANE // 2
        parts.append(f'<line class="lane" x1="{middle}" x2="{middle}" y1="{_HEAD - 8}" y2="{height}"/>')
        parts.append(_text(middle, 20, fit(title, _CHARACTERS), "name", centred=True))
    for row, at in enumerate(shown):
        y = _HEAD + row * _ROW
        if isinstance(at, int):
            parts.extend(_row(y, at + 1, events[at], lanes, bodies))
        else:
            parts.append(_text(_MARGIN, y + 22, f"⋮ {at.words(seconds_of(at, times))}", "when"))
    return "\n".join([*parts, "</svg>"])


def _row(y: int, number: int, event: ExecutedStep, lanes: dict[int, int], at_fault: Sequence[bytes]) -> Iterator[str]:
    yield _text(8, y + 22, str(number), "number")
    kind = event.step.kind
    classes = ["step"]
    classes += ["time"] if kind is StepKind.TIME else ["fault"] if kind is not StepKind.RUN else []
    classes += ["at-fault"] if event.mentions(at_fault) else []
    came = f"→ {reply_text(event.reply)}" if event.reply else "…" if event.blocks else ""
    what = event.word if kind is StepKind.TIME else f"⚡ {event.word}" if event.word else ""
    yield from _box(lanes[event.step.actor], y, " ".join(classes), command_text(event.args), came, what)
    for woken in event.woken:
        ground = "step woken at-fault" if woken.mentions(at_fault) else "step woken"
        yield from _woken(lanes[woken.actor], y, ground, woken)


def _woken(lane: int, y: int, classes: str, woken: WokenCommand) -> Iterator[str]:
    yield from _box(lane, y, classes, f"… {command_text(woken.args)}", f"→ {reply_text(woken.reply)}", "")


def _box(lane: int, y: int, classes: str, command: str, came: str, what: str) -> Iterator[str]:
    x = _MARGIN + lane * _LANE + 6
    yield f'<rect class="{classes}" x="{x}" y="{y}" width="{_LANE - 12}" height="{_ROW - 8}" rx="4"/>'
    yield _text(x + 8, y + 15, fit(command, _CHARACTERS), "command")
    yield _text(x + 8, y + 31, fit(came, _CHARACTERS - len(what) - 1), "reply")
    if what:
        yield _text(x + _LANE - 20, y + 31, what, "what" if "fault" in classes.split() else "when", right=True)


def _text(x: int, y: int, said: str, kind: str, *, centred: bool = False, right: bool = False) -> str:
    anchor = ' text-anchor="middle"' if centred else ' text-anchor="end"' if right else ""
    return f'<text class="{kind}" x="{x}" y="{y}"{anchor}>{escape(said)}</text>' if said else ""
