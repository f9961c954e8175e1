"""The conformance kit's table: property × kind of worker × fault, and how each went."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pytest_redisq.terminal import escaped

#: Under this name a test of the kit puts its row on its report.
PROPERTY = "redisq_conformance"

_SHOWN_AS = {"passed": "pass", "failed": "FAIL", "skipped": "skipped"}


def conformance_table(rows: Iterable[tuple[Mapping[str, Any], str]]) -> Iterator[str]:
    """Lines, by queue; a row is what the kit recorded, and the outcome of its test as pytest names it."""
    by_queue: dict[str, list[tuple[Mapping[str, Any], str]]] = {}
    for row, outcome in rows:
        by_queue.setdefault(f'{row["queue"]}, "{row["contract"]}"', []).append((row, outcome))
    for title, mine in by_queue.items():
        failed = sum(outcome == "failed" for _, outcome in mine)
        left_out = sum(bool(row.get("left_out")) for row, _ in mine)
        tried = len(mine) - left_out
        words = f"{failed} of {tried} properties broken" if failed else f"all {tried} hold"
        yield f"{title}: {words}{f', {left_out} left out' if left_out else ''}"
        for row, outcome in sorted(mine, key=lambda each: int(each[0]["at"])):
            if row.get("left_out"):
                yield f"  {row['property']:<13} left out: {escaped(row['left_out'])}"
                continue
            # Nothing was tried where the queue has no such thing as a stop or an ack.
            shown = "-" if outcome == "passed" and not row["count"] else _SHOWN_AS.get(outcome, outcome)
            count = f"{row['count']:,}" if row["count"] else ""
            yield f"  {row['property']:<13} {row['workers']:<11} {row['fault']:<22} {shown:<5}{count:>8}".rstrip()
