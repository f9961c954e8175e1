"""The exit status of a load run. Help derives from this table, and a test compares loadtests/README.md with it."""

from __future__ import annotations

EXIT_PASS, EXIT_BROKEN, EXIT_MISSED, EXIT_UNKNOWN, EXIT_NOT_RUN = 0, 1, 2, 3, 4

#: Each status and what it means.
EXITS = {
    EXIT_PASS: "the contract was kept, and no threshold was missed",
    EXIT_BROKEN: "the contract is broken",
    EXIT_MISSED: "a threshold was missed, or a figure is worse than in the baseline",
    EXIT_UNKNOWN: "the run could not be judged, or was interrupted",
    EXIT_NOT_RUN: "wrong usage, no server, or a file that cannot be written",
}


def worst(statuses: list[int]) -> int:
    """The status of several runs: a broken contract weighs most, then what was not judged, then a missed threshold."""
    return max(statuses, key=[EXIT_PASS, EXIT_MISSED, EXIT_NOT_RUN, EXIT_UNKNOWN, EXIT_BROKEN].index)
