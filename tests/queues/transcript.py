"""Transcripts: the commands that a queue's logic sends, each with the reply that it gets, without a server."""

from __future__ import annotations

import contextlib
from typing import Any

from pytest_redisq.queues.steps import Steps


def play(steps: Steps[Any], *exchanges: tuple[str, Any]) -> Any:
    """Drive `steps` through `exchanges`, and return their result.

    An exchange is a command and its reply. The command is written as it is sent, its words separated by blanks; an
    EVALSHA is written `EVALSHA`, its keys and its arguments, without the digest and the number of keys. A reply that is
    an exception is raised at the command. Fails if the logic sends another command, one too many, or one too few.
    """
    reply: Any = None
    expected = list(exchanges)
    with contextlib.closing(steps):
        while True:
            try:
                command = steps.throw(reply) if isinstance(reply, BaseException) else steps.send(reply)
            except StopIteration as end:
                assert not expected, f"not sent: {[words for words, _ in expected]}"
                return end.value
            sent = _words(command.args)
            assert expected, f"one command too many: {sent}"
            wanted, reply = expected.pop(0)
            assert sent == wanted


def _words(args: tuple[Any, ...]) -> str:
    first, *rest = args
    words = [first, *(rest[2:] if first == "EVALSHA" else rest)]
    return " ".join(word.decode() if isinstance(word, bytes) else str(word) for word in words)
