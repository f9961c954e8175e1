"""Where the operations of a worker are recorded, and the record of a run and of an exploration: a history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from pytest_redisq.endpoint.user_code import error_words
from pytest_redisq.history import Recording
from pytest_redisq.model import ACK_REFUSED, UNREADABLE, Kind, Message, Outcome, decode_body, encode_body

#: How much of a body that is not ours is shown.
_SHOWN_BYTES = 60


class ReceivedMessage(NamedTuple):
    """What `get` came back with: its body and id, and the thing itself, as `ack` wants it."""

    body: bytes
    id: str | None
    delivery: Any


class OperationRecord(Protocol):
    """Records what one worker does. Each operation begins with a call that ends in -ing, and ends with one other."""

    def putting(self, sequence: int) -> bytes:
        """The `sequence`-th message (from 0) is about to be put. Returns its body."""

    def put(self, queue_id: str | None) -> None:
        """It was put; the queue's id for it, if any."""

    def getting(self) -> None:
        """A message is about to be asked for."""

    def got(self, received: ReceivedMessage | None) -> None:
        """It was received; None: nothing came in time."""

    def acknowledging(self) -> None:
        """The message that was received last is about to be acknowledged."""

    def acknowledged(self, accepted: bool) -> None:
        """The ack came back; not accepted: the message was no longer this worker's."""

    @property
    def message(self) -> Message:
        """The message that was received last; `UNREADABLE` if its body is none of this run."""

    def work_failed(self, error: Exception) -> None:
        """The work on the message that was received last raised `error`."""

    def failed(self, outcome: Outcome | None, error: Exception) -> None:
        """The operation raised `error`: it failed, or its outcome is unknown. None: the queue's own code raised it."""


class HistoryRecord:
    """Records the operations of one worker in a history.

    * `recording`: the recorder, or the journal of a process.
    * `actor`: the worker's name in the history.
    * `run`: the id of the run, which is in all bodies.
    * `producer`: the number of the producer; for a consumer without meaning.
    * `payload_for`: returns what a message carries beside its name; default: nothing.
    * `receives`: what a get is in the history; default: a dequeue.
    """

    def __init__(
        self,
        recording: Recording,
        actor: str,
        run: str,
        *,
        producer: int = 0,
        payload_for: Callable[[Message], bytes] = lambda _message: b"",
        receives: Kind = Kind.DEQUEUE,
    ) -> None:
        self._recording = recording
        self._actor = actor
        self._run = run
        self._producer = producer
        self._payload_for = payload_for
        self._receives = receives
        self._token = -1
        self.message: Message = UNREADABLE
        self._ids: tuple[str, ...] = ()

    def putting(self, sequence: int) -> bytes:
        message = Message(self._producer, sequence)
        body = encode_body(self._run, message, self._payload_for(message))
        self._token = self._recording.invoke(self._actor, Kind.ENQUEUE, (message,))
        return body

    def put(self, queue_id: str | None) -> None:
        self._recording.ok(self._token, None, () if queue_id is None else (queue_id,))

    def getting(self) -> None:
        self._token = self._recording.invoke(self._actor, self._receives)

    def got(self, received: ReceivedMessage | None) -> None:
        if received is None:
            self._recording.ok(self._token, ())
            return
        message = decode_body(self._run, received.body)
        self._ids = () if received.id is None else (received.id,)
        self.message = message or UNREADABLE
        error = repr(received.body[:_SHOWN_BYTES]) if message is None else ""
        self._recording.ok(self._token, (self.message,), self._ids, error=error)

    def acknowledging(self) -> None:
        self._token = self._recording.invoke(self._actor, Kind.ACK, (self.message,))

    def acknowledged(self, accepted: bool) -> None:
        if accepted:
            self._recording.ok(self._token, None, self._ids)
        else:
            self._recording.fail(self._token, ACK_REFUSED)

    def work_failed(self, error: Exception) -> None:
        token = self._recording.invoke(self._actor, Kind.WORK, (self.message,))
        self._recording.fail(token, error_words(error))

    def failed(self, outcome: Outcome | None, error: Exception) -> None:
        record = self._recording.fail if outcome is Outcome.FAIL else self._recording.info
        record(self._token, error_words(error))
