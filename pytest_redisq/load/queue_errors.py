"""The exceptions that come from the user's own queue under load, such as an AttributeError in its `put`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_redisq.endpoint.user_code import place_of
from pytest_redisq.model import Outcome
from pytest_redisq.terminal import escaped

#: Longest text of an exception that is shown, in characters.
_SHOWN_CHARACTERS = 200


class QueueCodeError(Exception):
    """Stands for all exceptions of one type that one line of the queue's code raised; the text is that of the first.

    `kind`: the name of the type.
    """

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind: str = kind


@dataclass(slots=True, kw_only=True)
class QueueErrorCount:
    """So many exceptions of one type, raised by one line of the user's code.

    Attributes:

    * `verb`: the method that redisq called: "put", "get" or "ack".
    * `type_name`, `text`: of the first of these exceptions.
    * `place`: `FILE:LINE in FUNCTION`.
    """

    verb: str
    type_name: str
    text: str
    place: str
    times: int = 0

    def __str__(self) -> str:
        return f"{self.verb} raised {self.type_name}: {self.text} ({self.place})"


class QueueErrors:
    """Counts the exceptions of the queue's code in one process, and prints the first of each kind at once."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str], QueueErrorCount] = {}

    def told(self, verb: str, error: Exception, outcome: Outcome | None) -> Exception:
        """Returns `error`, or if it comes from the queue's code, the exception that stands for all of its kind.

        Parameters:

        * `verb`: the queue's method that raised `error`. Errors of the queue's code are counted by it.
        * `outcome`: of the operation; None if the error comes from the queue's code, and not from Redis or the network.
        """
        if outcome is not None:
            return error
        place, kind = place_of(error), type(error).__name__
        count = self._counts.get((verb, kind, place))
        if count is None:
            text = escaped(str(error))[:_SHOWN_CHARACTERS]
            count = QueueErrorCount(verb=verb, type_name=kind, text=text, place=place)
            self._counts[verb, kind, place] = count
            print(f"ERROR in the queue's own code: {count}", file=sys.stderr, flush=True)
        count.times += 1
        return QueueCodeError(str(count), kind)

    def dump(self) -> list[list[Any]]:
        """Returns the counts as plain values, to be sent to the master."""
        return [[each.verb, each.type_name, each.text, each.place, each.times] for each in self._counts.values()]


def merged(dumped: Iterable[list[list[Any]]]) -> tuple[QueueErrorCount, ...]:
    """Returns the counts that several processes have dumped, added up; the most frequent first."""
    counts: dict[tuple[str, str, str], QueueErrorCount] = {}
    for process in dumped:
        for verb, kind, text, place, times in process:
            count = QueueErrorCount(verb=verb, type_name=kind, text=text, place=place)
            counts.setdefault((verb, kind, place), count).times += times
    return tuple(sorted(counts.values(), key=lambda count: -count.times))


def data(counts: Iterable[QueueErrorCount]) -> list[Mapping[str, Any]]:
    """Returns the counts for a JSON file."""
    return [
        {"verb": each.verb, "type": each.type_name, "text": each.text, "place": each.place, "times": each.times}
        for each in counts
    ]
