"""`collect_logs`, and the configuration that child processes get from it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pytest_redisq.errors import RedisqError
from pytest_redisq.logs.log_receiver import LogListener, LogReceiver
from pytest_redisq.logs.log_sender import LogConnection, LogSender, adopt_levels, loggers, replace_handlers


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """The configuration of a child process that logs to the collecting process. Plain data, which can be pickled."""

    address: str
    token: bytes
    #: The process that collects: `attach` does nothing there.
    process: int
    #: Levels set on the parent's loggers, for children that do not inherit them (spawn, forkserver).
    levels: tuple[tuple[str, int], ...]

    def attach(self, worker: str = "") -> None:
        """Send every record of this process to the collecting process from now on. Call it first in a child.

        `worker`: the value of the attribute `worker` of each record; default: "".

        The current handlers of this process are removed, because the collecting process has them. Handlers added later
        are not affected. Levels and filters of this process's loggers apply. Levels that it has not set are those of
        the parent. A second call replaces the first.

        Raises RedisqError if the collecting process has stopped collecting.
        """
        if os.getpid() == self.process:
            return
        connection = LogConnection(self.address, self.token)
        try:
            connection.connect()
        except OSError as error:
            text = (
                f"The collecting process has stopped collecting log records ({error}). "
                "What to do: call attach inside its `with collect_logs()` block."
            )
            raise RedisqError(text) from error
        replace_handlers(LogSender(connection, worker))
        adopt_levels(self.levels)


class Logs:
    """A collection of log records that is running; created by `collect_logs`."""

    def __init__(self, receiver: LogReceiver, listener: LogListener) -> None:
        self._inbox = receiver
        self._listener = listener

    @property
    def config(self) -> LogConfig:
        """The configuration for a child, which calls `attach()` on it. It contains the current log levels."""
        levels = tuple((name, logger.level) for name, logger in loggers().items() if logger.level != logging.NOTSET)
        return LogConfig(address=self._inbox.address, token=self._inbox.token, process=os.getpid(), levels=levels)

    def start(self) -> None:
        """Begin to handle records. Until then they wait. When the kernel's buffers are full, their senders wait too."""
        self._listener.start()


@contextmanager
def collect_logs(*, start: bool = True) -> Iterator[Logs]:
    """Handle the log records of child processes here, by this process's own loggers and handlers, until the block ends.

    ```python
    def work(logs: LogConfig) -> None:
        logs.attach()
        logging.getLogger("jobs").warning("one")

    with collect_logs() as logs:
        process = multiprocessing.Process(target=work, args=(logs.config,))
        ...                                              # or Pool(initializer=logs.config.attach)
    ```

    Every record arrives once and complete: message and arguments, exception (its traceback as text), extra attributes,
    process and thread names. Values that cannot be pickled arrive as their `repr`. At the end of the block, all records
    of children that have ended are handled. An exception of a handler is raised at the end of the block.

    `start`: whether to start the handling thread; default True. With False, children can be forked before the thread
    exists; then call `Logs.start()`.
    """
    receiver = LogReceiver()
    listener = LogListener(receiver)
    logs = Logs(receiver, listener)
    try:
        if start:
            logs.start()
        yield logs
    finally:
        listener.finish()
        receiver.close()
    if listener.errors:
        raise listener.errors[0]
