"""One server for all processes of one run; two runs never meet."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from pytest_redisq.errors import ServerError
from pytest_redisq.options import Settings
from pytest_redisq.servers import Server
from pytest_redisq.servers.share import run_folder, share
from tests.servers.conftest import Holder, reachable
from tests.support import eventually, local

Hold = Callable[..., Holder]


@pytest.fixture
def run_id(request: pytest.FixtureRequest) -> str:
    return f"{request.node.name}-{os.getpid()}"


def test_processes_of_one_run_share_one_server(any_server_settings: Settings, hold: Hold, run_id: str) -> None:
    """All processes start at the same moment, and the first one starts the server."""
    holders = [hold(any_server_settings, run_id) for _ in range(4)]
    assert len({holder.url for holder in holders}) == 1
    for holder in holders:
        assert reachable(holder.url)
        holder.leave()
    eventually(lambda: not holders[0].directory.exists())


def test_the_server_survives_whoever_started_it(any_server_settings: Settings, hold: Hold, run_id: str) -> None:
    first = hold(any_server_settings, run_id)
    assert reachable(first.url)
    second = hold(any_server_settings, run_id)
    assert second.url == first.url
    first.signal(signal.SIGKILL)
    with redis.Redis.from_url(second.url) as client:
        assert client.set("still", "there")
    second.signal(signal.SIGKILL)
    eventually(lambda: not reachable(second.url) and not second.directory.exists(), 2)


@pytest.mark.parametrize("command", ["FLUSHALL", "SWAPDB 1 2"])
def test_no_test_can_empty_the_others_databases(command: str, run_id: str) -> None:
    with share(local(), run_id) as server, server.client(db=1) as one, server.client(db=2) as other:
        one.set("mine", "there")
        other.set("theirs", "there")
        with pytest.raises(redis.exceptions.NoPermissionError, match=r"flushall|swapdb"):
            one.execute_command(*command.split())
        one.flushdb()
        assert (one.dbsize(), other.dbsize()) == (0, 1)


def test_two_runs_never_meet(hold: Hold, run_id: str) -> None:
    one, other = (hold(local(), f"{run_id}{name}") for name in "ab")
    assert one.url != other.url
    assert one.directory != other.directory


def test_a_run_may_come_again(run_id: str) -> None:
    """Also at once, while the last server is on its way out."""
    urls = set()
    for _ in range(5):
        with share(local(), run_id) as server:
            assert server.info("server")
            urls.add(server.url)
    assert urls


def test_all_that_the_starter_knows_is_known_to_the_others(run_id: str) -> None:
    settings = local(origin={"server": "--redisq-server"}, startup_seconds=7)
    with share(settings, run_id) as first, share(settings, run_id) as second:
        assert second.record() == first.record()
        second.restart()
        assert first.info("server")


def test_a_failed_start_leaves_the_place_to_the_next(run_id: str) -> None:
    bad = local(server_args=("--maxmemori", "1"))
    for _ in range(2):
        with pytest.raises(ServerError, match="died at boot"), share(bad, run_id):
            pass
    with share(local(), run_id) as server:
        assert server.info("server")


def test_a_place_whose_supervisor_was_killed_is_cleared(run_id: str) -> None:
    place = run_folder(run_id)
    place.mkdir(mode=0o700)
    (place / "server.json").write_text("{}")
    with share(local(), run_id) as server:
        assert server.info("server")


def test_a_place_that_is_not_ours_is_refused(run_id: str, folder: Path) -> None:
    """Otherwise another user could prepare that folder, since all users may write to its parent."""
    place = run_folder(run_id)
    place.symlink_to(folder)
    try:
        with pytest.raises(ServerError, match="is not a private folder of this user"):
            share(local(), run_id).__enter__()
    finally:
        place.unlink()


def test_somebody_elses_server_needs_no_meeting(process: Server, run_id: str) -> None:
    with share(Settings(server=process.url), run_id) as server:
        assert server.kind == "url"
        assert not list(Path(tempfile.gettempdir()).glob(run_folder(run_id).name))
