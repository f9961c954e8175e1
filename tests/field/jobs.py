"""What workers are given to do; by a module of its own, since they find it by its name."""

from __future__ import annotations

#: What has run in this process.
runs: list[int] = []


def run(number: int) -> None:
    """The job."""
    runs.append(number)
