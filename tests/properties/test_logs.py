"""Log records of any number of processes, however they are started and whichever of them is killed."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_redisq.logs import collect_logs
from tests.properties.chatter import say, say_number, say_without_end

#: Each example starts some processes.
SETTINGS = settings(
    max_examples=max(5, settings().max_examples // 20), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ALL_SECONDS = 60


sizes = st.lists(st.integers(0, 200) | st.just(70_000), max_size=30)


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow), "forkserver"])
@given(children=st.lists(sizes, min_size=1, max_size=3), doomed=st.none() | st.integers(0, 5_000))
@SETTINGS
def test_every_record_of_a_living_child_arrives_once_and_whole(
    method: str, caplog: pytest.LogCaptureFixture, children: list[list[int]], doomed: int | None
) -> None:
    """In the child's order, and under its name; a child that is killed in the middle takes nothing of others along."""
    context = multiprocessing.get_context(method)
    caplog.clear()
    with caplog.at_level(logging.INFO), collect_logs() as logs:
        begun = context.Event()
        victim = context.Process(target=say_without_end, args=(logs.config, doomed or 0, begun))
        if doomed is not None:
            victim.start()
        processes = [
            context.Process(target=say, args=(logs.config, mine), name=f"child {number}")
            for number, mine in enumerate(children)
        ]
        for process in processes:
            process.start()
        if doomed is not None:
            assert begun.wait(ALL_SECONDS)
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
            victim.join(ALL_SECONDS)
        for process in processes:
            process.join(ALL_SECONDS)
            assert process.exitcode == 0
    for number, mine in enumerate(children):
        said = [record.getMessage() for record in caplog.records if record.processName == f"child {number}"]
        assert said == [f"{at}:{'x' * size}" for at, size in enumerate(mine)]
    assert {len(record.getMessage()) for record in caplog.records if record.name == "doomed"} <= {doomed}


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow), "forkserver"])
@given(processes=st.integers(1, 3), tasks=st.integers(0, 60), chunk=st.integers(1, 10))
@SETTINGS
def test_every_record_of_a_pool_arrives_once(
    method: str, caplog: pytest.LogCaptureFixture, processes: int, tasks: int, chunk: int
) -> None:
    context = multiprocessing.get_context(method)
    caplog.clear()
    with (
        caplog.at_level(logging.INFO),
        collect_logs() as logs,
        context.Pool(processes, initializer=logs.config.attach) as pool,
    ):
        pool.map(say_number, range(tasks), chunksize=chunk)
        pool.close()
        pool.join()
    assert sorted(caplog.messages) == sorted(f"task {number}" for number in range(tasks))
