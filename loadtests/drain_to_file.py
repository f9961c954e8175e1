"""A list that is drained into compressed files by `drain_to_file` while others push to it; what is judged is what the
files say.
"""

import base64
import gzip
import json
import os
import tempfile
from collections import deque

import redis

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import OwnQueue
from pytest_redisq.queues import drain_to_file

KEY = "to-file"


class ToFile:
    """Each consumer drains into a file of its own and reads what it has appended."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        descriptor, self._path = tempfile.mkstemp(prefix="redisq-load-", suffix=".jsonl.gz")
        os.close(descriptor)
        self._read: deque[bytes] = deque()

    def put(self, body: bytes) -> None:
        self._client.rpush(KEY, body)

    def get(self, timeout_seconds: float) -> bytes | None:  # noqa: ARG002
        if not self._read:
            before = drain_to_file(self._client, KEY, self._path, framing="json").bytes_before
            with open(self._path, "rb") as file:
                file.seek(before)
                lines = gzip.decompress(file.read()).splitlines()
            self._read.extend(_element(json.loads(line)) for line in lines)
        return self._read.popleft() if self._read else None

    def remaining(self) -> list[bytes]:
        return self._client.lrange(KEY, 0, -1)

    def pending(self) -> list[bytes]:
        return []

    def close(self) -> None:
        self._client.close()
        os.unlink(self._path)


def _element(line: str | dict[str, str]) -> bytes:
    return line.encode() if isinstance(line, str) else base64.b64decode(line["base64"])


EngineUser, ProducerUser, ConsumerUser = users_of(OwnQueue(ToFile, contract="effectively-once"))
