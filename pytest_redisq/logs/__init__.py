"""Log records of many processes, handled once, by the handlers of one process.

The pattern is that of the logging cookbook: a `QueueHandler` in each child process, and one `QueueListener` in the
parent, which owns the real handlers. The queue between them is not a `multiprocessing.Queue`. That has one lock for all
its writers and a feeder thread in each. A child killed while it holds the lock silences all other children, and the
records in its feeder are lost.

Here each child has its own connection, and a record is in the kernel when the logging call returns. So a child that is
killed loses at most the one record that it was writing, blocks no other process, and has nothing to flush at exit.
The configuration that a child needs is plain data: it passes through `Process` arguments, pool initialisers and pool
tasks alike.
"""

from pytest_redisq.logs.log_collection import LogConfig, Logs, collect_logs

__all__ = ["LogConfig", "Logs", "collect_logs"]
