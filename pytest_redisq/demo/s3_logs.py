"""S3: logging from many processes. Each process opens and rotates the same file, and records are lost.

Here a log record is a message. Its producer is the process that logged it. The records in the files were delivered.
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

#: A file holds a small part of one process's records, so that every process rotates several times.
FILE_BYTES = 4_000
FILES = 200

#: The most attempts: a busy machine with few processors may run one process after the other.
ROUNDS = 5

#: Seconds after which a process counts as hanging. On an idle machine it needs less than one.
DEADLINE_SECONDS = 90.0


def broken(stage: Stage) -> Attempt:
    """Each process has its own handler for the same files. Repeated until two rotations have collided."""
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
    logging.raiseExceptions = False  # as in production: a handler's error is not shown, and the record is lost
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
    """Keeps in `full` the error of a full disk, which is not a part of the story."""

    full: OSError | None = None

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exception()
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            self.full = error
        else:
            super().handleError(record)


@contextmanager
def _file_handler(path: Path) -> Iterator[None]:
    """The story's logger writes only to `path`."""
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
    """Run `work` in all processes at once. Raises RedisqError if one failed or was too slow."""
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
    """Judge the files. Every process ended without an error, so all its records count as acknowledged."""
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
    fixed=Version(title="one listener owns the file; the processes send it their records", play=fixed),
)
