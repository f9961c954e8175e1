"""Queues on Redis, to use as references in tests and to copy into production, and the interface of a queue."""

from pytest_redisq.queues.blocking_list import BlockingList
from pytest_redisq.queues.bound import AsyncBoundQueue, BoundQueue
from pytest_redisq.queues.drain_file import Drained, drain_to_file
from pytest_redisq.queues.drain_list import drain, drain_async, unfinished_drains
from pytest_redisq.queues.draining import UnfinishedDrain
from pytest_redisq.queues.protocol import AsyncQueue, Delivery, Gap, Queue, Stopped
from pytest_redisq.queues.reliable_list import ReliableList
from pytest_redisq.queues.stream import Stream
from pytest_redisq.queues.stream_group import StreamGroup

__all__ = [
    "AsyncBoundQueue",
    "AsyncQueue",
    "BlockingList",
    "BoundQueue",
    "Delivery",
    "Drained",
    "Gap",
    "Queue",
    "ReliableList",
    "Stopped",
    "Stream",
    "StreamGroup",
    "UnfinishedDrain",
    "drain",
    "drain_async",
    "drain_to_file",
    "unfinished_drains",
]
