"""The child processes of `test_logs`. Each child imports this module, so it does not import Hypothesis."""

from __future__ import annotations

import logging
from multiprocessing.synchronize import Event

from pytest_redisq.logs import LogConfig


def say(logs: LogConfig, sizes: list[int]) -> None:
    """A record of each size."""
    logs.attach()
    for number, size in enumerate(sizes):
        logging.getLogger("said").info("%d:%s", number, "x" * size)


def say_without_end(logs: LogConfig, size: int, begun: Event) -> None:
    logs.attach()
    while True:
        logging.getLogger("doomed").info("x" * size)
        begun.set()


def say_number(number: int) -> None:
    logging.getLogger("said").info("task %d", number)
