"""ARCHITECTURE.md shows the layers of the import contract, and every room that there is."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
LAYERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]


def test_the_layers_are_those_of_the_contract() -> None:
    shown = "\n".join("    " + layer.replace("pytest_redisq.", "").replace(" | ", "   ") for layer in LAYERS)
    assert f"\n{shown}\n" in TEXT


def test_every_module_has_a_layer() -> None:
    """A module outside the contract could import whatever it likes."""
    layered = {name.strip() for layer in LAYERS for name in layer.split("|")}
    there = {path.stem for path in (ROOT / "pytest_redisq").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert {f"pytest_redisq.{name}" for name in there - {"__init__", "__pycache__"}} == layered
