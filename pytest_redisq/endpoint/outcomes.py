"""Decide how an operation ended from the error that it raised. All three drivers use this one classification."""

from __future__ import annotations

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pytest_redisq.model import Outcome

#: After these errors the client cannot know whether the server executed the command.
CONNECTION_ERRORS = (RedisConnectionError, RedisTimeoutError, OSError, EOFError)


class WorkerKilled(BaseException):
    """This worker has been killed: it does nothing any more, and records nothing. Its operation never ends."""


class DeclaredFailureError(ResponseError):
    """The queue itself states that the operation did not happen, as an external command does by the word `fail`."""


def outcome_of(error: BaseException, *, commands: int | None) -> Outcome | None:
    """Return the outcome of the operation that raised `error`, or None if the error comes from the queue's own code.

    `commands`: how many commands the operation sent; None if they could not be counted.

    An error reply to the only command of an operation is a certain failure: the server refused it. After several
    commands it is unknown, since those before it may have taken effect. A script counts as several commands.

    >>> outcome_of(ResponseError("OOM"), commands=1)
    <Outcome.FAIL: 'fail'>
    >>> outcome_of(ResponseError("OOM"), commands=2)
    <Outcome.INFO: 'info'>
    >>> outcome_of(RedisTimeoutError(), commands=1)
    <Outcome.INFO: 'info'>
    """
    match error:
        case DeclaredFailureError():
            return Outcome.FAIL
        case ResponseError():
            return Outcome.FAIL if commands == 1 else Outcome.INFO
        case _ if isinstance(error, CONNECTION_ERRORS):
            return Outcome.INFO
    return None
