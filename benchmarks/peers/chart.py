"""A bar chart as an SVG file, without a library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

_ROW, _LABEL, _BAR = 22, 300, 520


def draw(path: Path, title: str, rates: Mapping[str, float]) -> None:
    """Draw a bar for each of `rates`, in their order, on one scale."""
    highest, rows = max(rates.values()), []
    for number, (name, rate) in enumerate(rates.items()):
        top, width = 40 + number * _ROW, rate / highest * _BAR
        colour = "#c33" if "epoll" in name or "locust" in name else "#888"
        rows.append(
            f'<text x="{_LABEL - 8}" y="{top + 14}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{_LABEL}" y="{top + 2}" width="{width:.1f}" height="{_ROW - 6}" fill="{colour}"/>'
            f'<text x="{_LABEL + width + 6:.1f}" y="{top + 14}">{rate:,.0f}/s</text>'
        )
    size = f'width="{_LABEL + _BAR + 120}" height="{60 + len(rates) * _ROW}"'
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
        f'<text x="10" y="22" font-size="15">{escape(title)}</text>{"".join(rows)}</svg>\n'
    )
