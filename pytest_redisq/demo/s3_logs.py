"""S3: logging from many processes. Each opens the file for itself, and their rotations throw each other's records away.

A log record is a message here: its producer is the process that logged it, and what stands in the files was delivered.
"""

from __future__ import annotations

import errno
import logging
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from multiprocessing.synchronize import Barrier
from pathlib import Path

from pytest_redisq.check import Contract, check
from pytest_redisq.children import follow_parent
from pytest_redisq.demo.story import Attempt, Stage, Story, Version
from pytest_redisq.errors import RedisqError
from pytest_redisq.history import Recorder
from pytest_redisq.logs import LogConfig, collect_logs
from pytest_redisq.model import Kind, Message, encode_body

CONTRACT = Contract.parse("effectively-once")
PROCESSES = 4
RECORDS = 1_500
LOGGER = "redisq.demo.s3"

#: A file holds a small part of what one process logs, so that every process rotates several times.
FILE_BYTES = 4_000
FILES = 200

#: How often it is tried: a machine with few processors that has other things to do may run one process after the other.
ROUNDS = 5

#: When a process is taken to hang, in seconds; it needs less than one, on a machine that has nothing else to do.
DEADLINE_SECONDS = 90.0


def broken(stage: Stage) -> Attempt:
    """Each process has a handler of its own on the same files; again, until their rotations have met."""
    for number in range(ROUNDS):
        path = stage.folder / f"round-{number}" / "app.log"
        path.parent.mkdir()
        _run_processes(_log_to_file, stage.run, path)
        attempt = _judge(stage, path)
        if attempt.verdict.outcome == "fail":
            break
    return attempt


def fixed(stage: Stage) -> Attempt:
    """One listener in the parent owns the handler; every process sends its records there."""
    path = stage.folder / "app.log"
    with _file_handler(path), collect_logs() as logs:
        _run_processes(_log_to_parent, stage.run, logs.config)
    return _judge(stage, path)


def _log_to_file(run: str, number: int, start: Barrier, path: Path) -> None:
    logging.raiseExceptions = False  # as in production: a handler's own error is not shown, and the record is gone
    try:
        with _file_handler(path):
            _log_all(run, number, start)
    except OSError as error:
        sys.exit(f"{path} cannot be written to: {error.strerror}")


def _log_to_parent(run: str, number: int, start: Barrier, config: LogConfig) -> None:
    config.attach()
    _log_all(run, number, start)


def _log_all(run: str, number: int, start: Barrier) -> None:
    follow_parent()
    start.wait(DEADLINE_SECONDS)
    logger = logging.getLogger(LOGGER)
    for sequence in range(RECORDS):
        logger.warning("%s", encode_body(run, Message(number, sequence)).decode("ascii"))


class _FileHandler(RotatingFileHandler):
    """Keeps in `full` that there was no room for a record, which is no part of the story."""

    full: OSError | None = None

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exception()
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            self.full = error
        else:
            super().handleError(record)


@contextmanager
def _file_handler(path: Path) -> Iterator[None]:
    """The story's logger writes to `path`, and nowhere else."""
    logger = logging.getLogger(LOGGER)
    handler = _FileHandler(path, maxBytes=FILE_BYTES, backupCount=FILES)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
        handler.close()
    if handler.full is not None:
        raise handler.full


def _run_processes(work: Callable[..., None], run: str, argument: object) -> None:
    """`work` in all processes at once; RedisqError if one failed or was too slow."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(PROCESSES)
    workers = [context.Process(target=work, args=(run, number, start, argument)) for number in range(PROCESSES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(DEADLINE_SECONDS)
        worker.kill()
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise RedisqError(f"a process of story S3 ended with {[worker.exitcode for worker in workers]}; see above")


def _judge(stage: Stage, path: Path) -> Attempt:
    """Every process logged all its records before it ended well, so all were acknowledged; then the files were read."""
    record = Recorder()
    for number in range(PROCESSES):
        messages, _ = stage.bodies(number, range(RECORDS))
        record.ok(record.invoke(f"process {number}", Kind.ENQUEUE, messages, queue=path.name))
    files = sorted(path.parent.glob(f"{path.name}*"))
    for file in files:
        token = record.invoke("reader", Kind.DRAIN, queue=file.name)
        record.ok(token, stage.read(file.read_bytes().splitlines()))
    record.quiescence()
    written = f"{PROCESSES} processes logged {RECORDS} records each into {len(files)} rotated files"
    return Attempt(verdict=check(record.history(), CONTRACT), evidence=(written,))


STORY = Story(
    id="S3",
    title="Logging from many processes",
    broken=Version(title="each process rotates the same files", play=broken),
    fixed=Version(title="one listener owns the file, processes send it their records", play=fixed),
)
