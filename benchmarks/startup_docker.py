"""The cost of a server in a container in a test run: from the start of pytest to the first reply.

    python benchmarks/startup_docker.py [--rounds 15] [--image redis:8]

Runs whole pytest processes that load only the plugins of their variant. The variants alternate, so that a busy machine
slows all of them:

* `bare`: a session fixture of ten lines with docker-py: run, ask for the port, ping every 2 ms
* `redisq`: our `redisq_client`, on the same image
* `testcontainers`: its own RedisContainer, without its reaper, which would cost it another container

Prints medians, best times and ratios to `bare`, pair by pair. Exit code 1 if ours is above 1.1, or testcontainers is
faster.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys

from startup import Way, measure

START_LIMIT = 1.1

BARE = """
import time
import docker, pytest, redis

@pytest.fixture(scope="session")
def client():
    daemon = docker.from_env()
    words = ["redis-server", "--save", "", "--bind", "0.0.0.0", "--protected-mode", "no"]
    container = daemon.containers.run({image!r}, words, detach=True, ports={{"6379/tcp": ("127.0.0.1", None)}})
    container.reload()
    client = redis.Redis(port=int(container.ports["6379/tcp"][0]["HostPort"]))
    while True:
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.002)
    yield client
    client.close()
    container.remove(force=True)
    daemon.close()
"""

TESTCONTAINERS = """
import pytest
from testcontainers.community.redis import RedisContainer

@pytest.fixture(scope="session")
def client():
    with RedisContainer({image!r}).with_command("redis-server --protected-mode no") as container:
        with container.get_client() as client:
            yield client
"""


def ways(image: str) -> list[Way]:
    ours = ("-p", "pytest_redisq.plugin", "--redisq-server", "docker", "--redisq-image", image)
    return [
        Way(name="bare", fixture="client", conftest=BARE.format(image=image)),
        Way(name="redisq", fixture="redisq_client", options=ours),
        Way(name="testcontainers", fixture="client", conftest=TESTCONTAINERS.format(image=image)),
    ]


def report(costs: dict[str, list[float]]) -> bool:
    """Print the table; returns whether the limits hold. The ratio is the median of the ratios of all rounds."""
    ratios = {
        name: statistics.median(one / bare for one, bare in zip(some, costs["bare"], strict=True))
        for name, some in costs.items()
    }
    for name, some in costs.items():
        print(f"{name:15} median {statistics.median(some):7.1f} ms, best {min(some):7.1f} ms ({ratios[name]:5.2f})")
    return ratios["redisq"] <= START_LIMIT and ratios["redisq"] < ratios["testcontainers"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--image", default="redis:8")
    options = parser.parse_args()
    os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"
    costs: dict[str, list[float]] = {way.name: [] for way in ways(options.image)}
    for _ in range(options.rounds):
        for way in ways(options.image):
            costs[way.name].append(measure(way, 0, "").start)
    return int(not report(costs))


if __name__ == "__main__":
    sys.exit(main())
