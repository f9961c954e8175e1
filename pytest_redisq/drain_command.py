"""The command `redisq drain`: drains a list to a file, shows the progress, and says what is left."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click
import redis
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from pytest_redisq.errors import DrainHeldError
from pytest_redisq.queues import Drained, UnfinishedDrain, drain_to_file
from pytest_redisq.queues.connection import QueueConnection
from pytest_redisq.queues.framing import Framing
from pytest_redisq.servers import Address
from pytest_redisq.servers.external import explained

#: Exit statuses: the list was drained; another drain holds a part of the list, or the file.
EXIT_DRAINED, EXIT_HELD = 0, 3


@contextlib.contextmanager
def reach(url: str, timeout_seconds: float) -> Iterator[redis.Redis]:
    """Yields a client of the server at `url` that waits `timeout_seconds` for each reply. Touches no key.

    Raises ServerError if the server cannot be reached.
    """
    client = Address(url=url).client(socket_timeout=timeout_seconds, socket_connect_timeout=timeout_seconds)
    with client:
        with explained(url, seconds=timeout_seconds), contextlib.closing(QueueConnection(client)) as wire:
            wire.connect()
        yield client


@contextlib.contextmanager
def _ended_in_good_order() -> Iterator[None]:
    """SIGTERM and SIGHUP interrupt as Ctrl-C does: written elements are committed, and the claim is released."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(f"interrupted by {signal.Signals(number).name}")

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_drain(client: redis.Redis, key: str, path: Path, *, framing: Framing, chunk: int, take_over: bool) -> int:
    """Drain the list, with a progress bar; returns the exit status. Parameters as for `drain_to_file`.

    Raises ClickException with the reason of a failure and what to do.
    """
    bar = Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=Console(stderr=True))
    try:
        with _ended_in_good_order(), bar:
            task = bar.add_task(key, total=None)
            done = drain_to_file(
                client,
                key,
                path,
                framing=framing,
                chunk=chunk,
                take_over=take_over,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    except DrainHeldError as error:
        click.echo(f"Error: {error}", err=True)
        _tell_held(error.held)
        return EXIT_HELD
    except ValueError as error:
        raise click.ClickException(
            f"Draining {key!r} failed: {error}\nWhat to do: run it again with --framing json and another file."
        ) from error
    except (redis.RedisError, OSError, KeyboardInterrupt) as error:
        again = f"The list keeps the elements that are not in {path}. What to do: run the same command again."
        if str(error).startswith("WRONGTYPE"):
            again = "What to do: give the key of a list."
        raise click.ClickException(f"Draining {key!r} failed: {str(error) or 'interrupted'}\n{again}") from error
    _tell(done, key, path)
    _tell_held(done.held)
    return EXIT_HELD if done.held else EXIT_DRAINED


def _tell(done: Drained, key: str, path: Path) -> None:
    nothing = ""
    if not done.elements:
        nothing = " (the rest of the list is held, see below)" if done.held else ""
        nothing = nothing or f" (there is no list {key!r} at this server, or it is empty)"
    click.echo(
        f"{done.elements:,} elements, {done.bytes_after - done.bytes_before:,} bytes appended to {path}{nothing}"
    )


def _tell_held(held: tuple[UnfinishedDrain, ...]) -> None:
    for each in held:
        click.echo(f"NOT FINISHED: {each}", err=True)
    if held:
        latest = time.localtime(time.time() + max(each.lease_seconds for each in held))
        click.echo(
            "What to do: if that drain still runs, wait for its end. If it was killed, repeat it with the same file on "
            "the same machine: it resumes at once. Or repeat this one after "
            f"{time.strftime('%H:%M:%S', latest)}, or now with --take-over if no other drain of this list runs.",
            err=True,
        )
