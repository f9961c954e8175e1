"""Verdicts for people and for programs."""

from __future__ import annotations

from pytest_redisq.report.contract_table import laws_table
from pytest_redisq.report.data import verdict_data
from pytest_redisq.report.text import describe, error_lines, explain

__all__ = ["describe", "error_lines", "explain", "laws_table", "verdict_data"]
