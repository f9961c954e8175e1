"""Fetching an image, through testcontainers' client: it knows the registries' credentials and its own settings."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Mapping

import docker.errors
import requests
from testcontainers.core.docker_client import DockerClient

from pytest_redisq.errors import ServerError
from pytest_redisq.servers.docker_daemon import Daemon, server_images

#: How long a fetch may go without a word from the registry, in seconds, before it is given up.
SILENCE_SECONDS = 20.0


def fetch(daemon: Daemon, image: str, origin: str) -> None:
    """Have the daemon fetch the image. Raises ServerError with the registry's words, and what is there already."""
    try:
        for event in _within_silence(_pull(daemon, image)):
            if "error" in event:
                raise docker.errors.APIError(event["error"])
    except (docker.errors.DockerException, requests.RequestException, TimeoutError) as error:
        here = ", ".join(server_images(daemon)) or "none"
        raise ServerError(
            f"The image {image} ({origin}) is not on this machine and cannot be fetched:\n"
            f"  {str(getattr(error, 'explanation', None) or error).strip()}\n"
            f"What to do: correct --redisq-image (on this machine: {here}), fetch it where there is a network "
            f"(docker pull {image}), or choose --redisq-server process or embedded."
        ) from None


def _pull(daemon: Daemon, image: str) -> Iterator[Mapping[str, str]]:
    before = os.environ.get("DOCKER_HOST")
    client = DockerClient(environment={**os.environ, "DOCKER_HOST": daemon.address}).client
    # testcontainers exports the context's host for itself, which would outlive this call.
    if before is None:
        os.environ.pop("DOCKER_HOST", None)
    try:
        yield from client.api.pull(image, stream=True, decode=True)
    finally:
        client.close()


def _within_silence(events: Iterator[Mapping[str, str]]) -> Iterator[Mapping[str, str]]:
    """The events; TimeoutError after too long a silence. docker-py would wait without end, so a thread does that."""
    heard: queue.SimpleQueue[Mapping[str, str] | Exception | None] = queue.SimpleQueue()

    def listen() -> None:
        try:
            for event in events:
                heard.put(event)
            heard.put(None)
        except Exception as error:
            heard.put(error)

    threading.Thread(target=listen, name="redisq-fetch", daemon=True).start()
    while True:
        try:
            event = heard.get(timeout=SILENCE_SECONDS)
        except queue.Empty:
            raise TimeoutError(f"no word from the registry for {SILENCE_SECONDS:g} s") from None
        if event is None:
            return
        if isinstance(event, Exception):
            raise event
        yield event
