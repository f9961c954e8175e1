"""Stores the figures of runs as a baseline, and compares later runs with it.

Each figure of a new run is compared with the band in which it lay in the runs that were kept, widened on both sides by
`NOISE` of itself, since two runs are never alike. Keep several runs (`--repeat`) and the band is what they showed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pytest_redisq.check import AnomalyKind
from pytest_redisq.errors import RedisqError
from pytest_redisq.load.results.output_files import OutputFile
from pytest_redisq.load.results.thresholds import shown
from pytest_redisq.spelling import suggest

#: Where baselines are kept, below the present folder.
FOLDER = Path(".redisq-load")
#: How much of a figure counts as noise beyond the band of the runs kept.
NOISE = 0.1

Figures = Mapping[str, float]


def opened(name: str, folder: Path = FOLDER) -> OutputFile:
    """The file of the baseline of that name, to be entered before the run and written after it."""
    path = path_of(name, folder)
    folder.mkdir(exist_ok=True)
    return OutputFile(path, "--save")


def dumped(scenario: str, runs: Sequence[Figures]) -> str:
    """What the file of a baseline contains: the figures of these runs of `scenario`."""
    return json.dumps({"scenario": scenario, "runs": list(runs)}, indent=1)


def recall(name: str, scenario: str, folder: Path = FOLDER) -> list[Figures]:
    """The runs of `scenario` kept under that name; RedisqError if there are none."""
    path = path_of(name, folder)
    try:
        told = json.loads(path.read_text())
        runs: list[Figures] = [{str(figure): float(value) for figure, value in run.items()} for run in told["runs"]]
        of = str(told.get("scenario", scenario))  # a file may lack it
    except FileNotFoundError:
        known = [each.stem for each in sorted(folder.glob("*.json"))]
        there = f" There are {', '.join(known)}." if known else ""
        raise RedisqError(
            f"There is no baseline {name!r} in {folder}.{suggest(name, known)}{there}\n"
            f"What to do: keep one with --save {name} --repeat 5."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RedisqError(f"The baseline {path} cannot be read: {error}. Save it again.") from error
    if not runs:
        raise RedisqError(f"The baseline {path} has no runs. Save it again.")
    if of != scenario:
        raise RedisqError(f"The baseline {name!r} is of {of}, and says nothing of {scenario}.")
    return runs


def worse(kept: Sequence[Figures], now: Figures) -> Iterator[str]:
    """The figures that have become worse than in any run kept and than noise explains, in words."""
    for name, value in now.items():
        known = [run[name] for run in kept if name in run]
        direction = _direction(name)
        if not known or not direction:
            continue
        low, high = min(known) * (1 - NOISE), max(known) * (1 + NOISE)
        if value > high if direction > 0 else value < low:
            band = shown(name, low) if low == high else f"{shown(name, low)} … {shown(name, high)}"
            yield f"{name} is {shown(name, value)}; it was {band}"


def table(kept: Sequence[Figures], now: Figures) -> Iterator[str]:
    """Figure by figure: before, and now."""
    for name, value in now.items():
        known = [run[name] for run in kept if name in run]
        if known and _direction(name) and any([*known, value]):
            low, high, new = (f"{shown(name, each):>12}" for each in (min(known), max(known), value))
            yield f"  {name:24} {low} … {high} → {new}"


def _direction(name: str) -> int:
    """1 where more is worse, -1 where less is, 0 where it is neither."""
    last = name.rpartition(".")[2]
    if last in _COMPARED or name == "errors" or name in _ANOMALIES:
        return 1
    return -1 if name == "rate" else 0


#: The latencies that are compared. The others say the same, or are noise.
_COMPARED = ("p50", "p90", "p99", "p999", "max")
_ANOMALIES: Iterable[str] = {str(kind) for kind in AnomalyKind}


def path_of(name: str, folder: Path = FOLDER) -> Path:
    """Returns the path of the baseline of that name. Raises RedisqError if a baseline cannot have that name."""
    if not re.fullmatch(r"[\w.-]+", name):
        raise RedisqError(f"{name!r} is no name for a baseline; use letters, digits, '.', '-' and '_'.")
    return folder / f"{name}.json"
