"""A scenario's settings, given as NAME=VALUE: whole numbers, and the contract that it is judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from pytest_redisq.check import Contract
from pytest_redisq.spelling import suggest

T = TypeVar("T")

#: Fields that have options of their own.
_ELSEWHERE = ("producers", "consumers")


def settings_of(scenario: Any) -> Mapping[str, int | str]:
    """Returns the settings of `scenario` with their defaults, by name."""
    if not is_dataclass(scenario):
        return {}
    values = {field.name: getattr(scenario, field.name) for field in fields(scenario)}
    return {
        name: value
        for name, value in values.items()
        if name not in _ELSEWHERE and (type(value) is int or name == "contract")
    }


def with_settings(scenario: T, settings: Sequence[str]) -> T:
    """Returns `scenario` with `settings`, each NAME=VALUE. Raises ValueError with what is possible."""
    known, changed = settings_of(scenario), dict[str, Any]()
    for setting in settings:
        name, _, value = setting.partition("=")
        name = name.strip().replace("-", "_")
        if name not in known:
            there = ", ".join(f"{each}={default}" for each, default in known.items()) or "none"
            raise ValueError(
                f"{setting!r}: the scenario has no setting {name!r}.{suggest(name, known)} With their defaults: {there}"
            )
        changed[name] = _contract(value) if name == "contract" else _number(setting, value)
    return replace(scenario, **changed) if changed else scenario  # type: ignore[type-var]


def at_least_one(**settings: int) -> None:
    """Raises ValueError if one of `settings` is 0."""
    for name, value in settings.items():
        if value < 1:
            raise ValueError(f"{name}={value}: give at least 1")


def _contract(value: str) -> str:
    return str(Contract.parse(value))


def _number(setting: str, value: str) -> int:
    digits = value.strip().replace("_", "")
    if not digits.isdecimal():
        raise ValueError(f"{setting!r}: give a whole number, as in elements=1_000_000")
    return int(digits)
