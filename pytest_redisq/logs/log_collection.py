"""`collect_logs` and what it hands to child processes."""

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
    """What a child needs in order to log to the process that collects. Plain data: pass it by any road."""

    address: str
    token: bytes
    #: The process that collects: `attach` does nothing there.
    process: int
    #: Levels set on the parent's loggers, for children that do not inherit them (spawn, forkserver).
    levels: tuple[tuple[str, int], ...]

    def attach(self, worker: str = "") -> None:
        """Send every record of this process to the collecting process from now on; call it first thing in a child.

        The process's present handlers are taken off, for the parent has them; handlers added later are left alone.
        Levels and filters of this process's loggers hold; levels that it has not set are the parent's. Each record
        carries `worker`. A second call replaces the first. `RedisqError` where nobody collects any more.
        """
        if os.getpid() == self.process:
            return
        connection = LogConnection(self.address, self.token)
        try:
            connection.connect()
        except OSError as error:
            text = (
                f"The collecting process does not collect log records any more ({error}). "
                "What to do: attach inside its `with collect_logs()` block."
            )
            raise RedisqError(text) from error
        replace_handlers(LogSender(connection, worker))
        adopt_levels(self.levels)


class Logs:
    """Log records being collected; made by `collect_logs`."""

    def __init__(self, receiver: LogReceiver, listener: LogListener) -> None:
        self._inbox = receiver
        self._listener = listener

    @property
    def config(self) -> LogConfig:
        """To be handed to a child, which calls its `attach()`; holds the log levels as they are now."""
        levels = tuple((name, logger.level) for name, logger in loggers().items() if logger.level != logging.NOTSET)
        return LogConfig(address=self._inbox.address, token=self._inbox.token, process=os.getpid(), levels=levels)

    def start(self) -> None:
        """Begin to handle records; until then they wait (and with them, once the kernel's buffers are full, their
        senders).
        """
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

    Every record arrives once and whole: message and arguments, exception (its traceback as text), extra attributes,
    process and thread names; what cannot be pickled arrives as its `repr`. Records of children that have ended by the
    end of the block have then all been handled. `start=False` leaves the thread unstarted, so that children can be
    forked before there is one; then call `Logs.start()`. An exception raised by a handler is raised at the end of the
    block.
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
