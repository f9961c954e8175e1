"""The jobs of the workers, in their own module, since workers import them by name."""

from __future__ import annotations

#: What has run in this process.
runs: list[int] = []


def run(number: int) -> None:
    """The job."""
    runs.append(number)
