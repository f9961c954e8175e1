"""The table of `check.LAWS` for documentation."""

from __future__ import annotations

from pytest_redisq.check import LAWS, AnomalyKind, Contract, Guarantee
from pytest_redisq.check.contract import LIVE_SECONDS


def laws_table() -> str:
    """Every anomaly, what it means, and which guarantees it breaks, in Markdown."""
    rows = [
        ["anomaly", "what it means", "as multisets", *(f"breaks `{guarantee}`" for guarantee in Guarantee)],
        ["---"] * (3 + len(Guarantee)),
        *(
            [f"`{kind}`", law.meaning, law.formula, *(_breaks(kind, each) for each in Guarantee)]
            for kind, law in LAWS.items()
        ),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _breaks(kind: AnomalyKind, guarantee: Guarantee) -> str:
    """Asked of the contract itself, with and without its modifiers, so that the table says what the judge does."""
    plain = Contract(guarantee=guarantee).forbids(kind)
    if Contract(guarantee=guarantee, fifo=True).forbids(kind) != plain:
        return "with `fifo`"
    if Contract(guarantee=guarantee, live_seconds=LIVE_SECONDS).forbids(kind) != plain:
        return "with `live`"
    if Contract(guarantee=guarantee, bounded=True).forbids(kind) != plain:
        return "unless `bounded`"
    return "yes" if plain else ""
