"""Fetches an image with testcontainers' client, which has the registries' credentials and its own settings."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Mapping

import docker.errors
import requests
from testcontainers.core.docker_client import DockerClient

from pytest_redisq import interrupts
from pytest_redisq.errors import ServerError
from pytest_redisq.servers.docker_daemon import Daemon, server_images

#: Seconds without progress after which a fetch fails.
SILENCE_SECONDS = 20.0


def fetch(daemon: Daemon, image: str, origin: str) -> None:
    """Have the daemon fetch the image. Raises ServerError with the registry's message and the images that are here.

    `origin`: the setting that names the image, for messages.
    """
    try:
        for event in _within_silence(_pull(daemon, image)):
            if "error" in event:
                raise docker.errors.APIError(event["error"])
    except (docker.errors.DockerException, requests.RequestException, TimeoutError) as error:
        here = ", ".join(server_images(daemon)) or "none"
        raise ServerError(
            f"The image {image} ({origin}) is not on this machine and cannot be fetched:\n"
            f"  {str(getattr(error, 'explanation', None) or error).strip()}\n"
            f"What to do: correct --redisq-image (on this machine: {here}), fetch the image with a network connection "
            f"(docker pull {image}), or choose --redisq-server process or embedded."
        ) from None


def _pull(daemon: Daemon, image: str) -> Iterator[Mapping[str, str]]:
    before = os.environ.get("DOCKER_HOST")
    client = DockerClient(environment={**os.environ, "DOCKER_HOST": daemon.address}).client
    # testcontainers sets DOCKER_HOST to the context's host. That must not outlive this call.
    if before is None:
        os.environ.pop("DOCKER_HOST", None)
    try:
        yield from client.api.pull(image, stream=True, decode=True)
    finally:
        client.close()


def _within_silence(events: Iterator[Mapping[str, str]]) -> Iterator[Mapping[str, str]]:
    """Yields the events. Raises TimeoutError after too long a silence: docker-py has no timeout, so a thread reads."""
    heard: queue.SimpleQueue[Mapping[str, str] | Exception | None] = queue.SimpleQueue()

    def listen() -> None:
        try:
            for event in events:
                heard.put(event)
            heard.put(None)
        except Exception as error:
            heard.put(error)

    interrupts.start(threading.Thread(target=listen, name="redisq-fetch", daemon=True))
    while True:
        try:
            event = heard.get(timeout=SILENCE_SECONDS)
        except queue.Empty:
            raise TimeoutError(f"no answer from the registry for {SILENCE_SECONDS:g} s") from None
        if event is None:
            return
        if isinstance(event, Exception):
            raise event
        yield event
