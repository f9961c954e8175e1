"""A server in a container is loaded by a unix socket, past the proxy that a published port goes through."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pytest_redisq.load.load_command import load, load_options
from pytest_redisq.options import Settings
from pytest_redisq.servers import start
from tests.support import IMAGE

pytestmark = pytest.mark.docker


@click.command()
@load_options
def command(**options: object) -> None:
    sys.exit(load(Settings(server="docker", image=IMAGE), **options))


@pytest.mark.parametrize(("flags", "way"), [([], "unix socket"), (["--tcp"], "TCP")])
def test_the_report_says_by_which_way(tmp_path: Path, flags: list[str], way: str) -> None:
    told = tmp_path / "told.json"
    result = CliRunner().invoke(command, ["blpop-workers", "--time", "1s", "--json", str(told), *flags])
    assert result.exit_code == 0, result.output
    report = json.loads(told.read_text())
    assert report["reached_by"] == way
    assert report["server"].partition(", ")[2].startswith("docker")
    assert report["verdict"]["totals"]["delivered"] > 100


def test_the_socket_is_there_again_after_a_restart_and_gone_with_the_server() -> None:
    server = start(Settings(server="docker", image=IMAGE), socket=True)
    try:
        url = server.local_url
        assert url.startswith("unix://")
        assert server.supervisor is not None
        folder = server.supervisor.directory
        server.restart()
        assert server.local_url == url
    finally:
        server.stop()
    assert server.supervisor.gone(5.0)
    assert not folder.exists()


def test_a_server_that_was_not_asked_for_a_socket_has_none() -> None:
    server = start(Settings(server="docker", image=IMAGE))
    try:
        assert server.local_url == server.url
    finally:
        server.stop()
