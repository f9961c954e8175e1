"""Histories: every operation of a run, with its outcome."""

from __future__ import annotations

from pytest_redisq.history.fault_record import FaultRecord
from pytest_redisq.history.history import History
from pytest_redisq.history.lines import read_history, write_history
from pytest_redisq.history.quiescence import GROUP_AT_END, FoundPlace, Quiescence, Search
from pytest_redisq.history.recorder import Journal, Recorder, Recording

__all__ = [
    "GROUP_AT_END",
    "FaultRecord",
    "FoundPlace",
    "History",
    "Journal",
    "Quiescence",
    "Recorder",
    "Recording",
    "Search",
    "read_history",
    "write_history",
]
