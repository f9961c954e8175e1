"""A node of a Redis Cluster as a target: only keys in its slots are used."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_redisq.load.locust_process import LoadError, LoadRun, run
from pytest_redisq.servers import Server, start
from tests.support import eventually, local

ARGUMENTS = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")


@pytest.fixture
def node() -> Iterator[Server]:
    """A node without slots; a key in a slot without a node is refused (CLUSTERDOWN)."""
    server = start(local(server_args=ARGUMENTS))
    yield server
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["blpop-workers", "xadd-burst"])
def test_a_run_keeps_to_the_nodes_own_slots(node: Server, scenario: str) -> None:
    with node.client() as client:
        client.execute_command("CLUSTER ADDSLOTSRANGE", 100, 300)
        # A node that has just begun takes no writes for two seconds.
        eventually(lambda: client.cluster("INFO")["cluster_state"] == "ok")
        report = run(LoadRun(scenario=scenario, url=node.url, seconds=1.0))
        assert (report.exit_code, report.figures["errors"]) == (0, 0)
        assert report.figures["received"] > 100
        assert client.dbsize() == 0


def test_a_node_without_slots_is_refused_with_what_to_do(node: Server) -> None:
    with pytest.raises(LoadError, match="give the URL of a primary"):
        run(LoadRun(scenario="blpop-workers", url=node.url, seconds=1.0))
