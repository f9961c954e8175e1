"""Carry out the steps of a workload: in a thread or process, or in an event loop."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from pytest_redisq.endpoint.forms import QueueEndpoint
from pytest_redisq.endpoint.jobs import ConsumerJob, Job, ProducerJob
from pytest_redisq.endpoint.workload import Steps, WorkloadContext, consume, produce


def steps_of(job: Job, context: WorkloadContext, endpoint: QueueEndpoint) -> Steps:
    match job:
        case ProducerJob():
            return produce(job, context, outcome_of=endpoint.outcome_of)
        case ConsumerJob():
            return consume(
                job,
                context,
                outcome_of=endpoint.outcome_of,
                acknowledges=endpoint.acknowledges,
                runs_dry=endpoint.runs_dry,
            )


def drive(steps: Steps, endpoint: QueueEndpoint) -> None:
    """Do what `steps` yields, upon a sync endpoint."""
    reply: Any = None
    error: Exception | None = None
    while True:
        try:
            operation = steps.send(reply) if error is None else steps.throw(error)
        except StopIteration:
            return
        reply, error = None, None
        try:
            match operation.verb:
                case "put":
                    reply = endpoint.put(operation.value)
                case "get":
                    reply = endpoint.get(operation.value)
                case "ack":
                    reply = endpoint.ack(operation.value)
                case "wait":
                    time.sleep(operation.value)
        except Exception as raised:
            error = raised


async def drive_async(steps: Steps, endpoint: QueueEndpoint) -> None:
    reply: Any = None
    error: Exception | None = None
    while True:
        try:
            operation = steps.send(reply) if error is None else steps.throw(error)
        except StopIteration:
            return
        reply, error = None, None
        try:
            match operation.verb:
                case "put":
                    reply = await endpoint.put_async(operation.value)
                case "get":
                    reply = await endpoint.get_async(operation.value)
                case "ack":
                    reply = await endpoint.ack_async(operation.value)
                case "wait":
                    await asyncio.sleep(operation.value)
        except Exception as raised:
            error = raised
