"""What a locustfile imports: users for Locust. Importing it imports Locust, which patches the whole process.

from pytest_redisq.load.scenarios import BlpopWorkers
from pytest_redisq.load.locust_run.users import users_of

EngineUser, ProducerUser, ConsumerUser = users_of(BlpopWorkers())
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import redis
from locust import User, events, task
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import WorkerRunner

from pytest_redisq.load.codec import now_ns
from pytest_redisq.load.engine.locust_engine import pool_of, reply_bytes
from pytest_redisq.load.locust_run import locust_writers
from pytest_redisq.load.locust_run.load_options import LoadOptions, add_arguments
from pytest_redisq.load.locust_run.locust_master import LocustMaster
from pytest_redisq.load.locust_run.locust_stats import use_microseconds
from pytest_redisq.load.locust_run.locust_worker import LocustWorker
from pytest_redisq.load.locust_run.users_alone import UsersAlone
from pytest_redisq.load.scenarios import OwnQueue, Scenario
from pytest_redisq.load.standard_streams import outlive_readers

outlive_readers()
locust_writers.install()
_events: Any = events
_events.init_command_line_parser.add_listener(add_arguments)
use_microseconds()
#: The scenarios of the locustfile.
_scenarios: list[Scenario] = []


class RedisUser(User):
    """A Locust user with a Redis connection of its own, for locustfiles of your own.

    `self.command("GET", "key")` sends a command, returns its reply, and reports it to Locust with its name, latency
    (to the microsecond), reply bytes and exception. No retries, and no timeout under a blocking command.
    """

    abstract = True
    _connection: Any = None

    def on_start(self) -> None:
        options: Any = self.environment.parsed_options
        connection: Any = pool_of(self.host or options.redis_url).make_connection()
        connection.connect()
        self._connection = connection

    def on_stop(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()

    def command(self, *words: Any, name: str = "", pushed_ns: Callable[[Any], int] | None = None) -> Any:
        """Raises what redis-py raises. `name` is what Locust calls the request, by default the key.

        For a blocking command give `pushed_ns`, a function of the reply that returns when the message was pushed (see
        `codec.now_ns`): the latency is then from push to pop, and a pop that came back empty is not reported.
        """
        connection, error, reply, sent = self._connection, None, None, now_ns()
        try:
            connection.send_command(*words, check_health=False)
            reply = connection.read_response()
        except redis.RedisError as raised:
            error = raised
            raise
        finally:
            if pushed_ns is not None and error is None:
                sent = pushed_ns(reply) if reply is not None else 0
            if sent:
                self.environment.events.request.fire(
                    request_type=str(words[0]),
                    name=name or str(words[1] if len(words) > 1 else ""),
                    response_time=max(now_ns() - sent, 0) / 1e6,
                    response_length=reply_bytes(reply) if reply is not None else 0,
                    exception=error,
                    context={},
                )
        return reply


def users_of(scenario: Scenario, name: str = "") -> tuple[type[User], type[User], type[User]]:
    """The users that run `scenario`: EngineUser (one for each process), or producers and consumers (one a connection).

    `--engine` says which take part. `name` is that of the locustfile unless given.
    """
    _scenarios.append(scenario)
    worker = LocustWorker(scenario)
    master = LocustMaster(scenario, name or Path(inspect.stack()[1].filename).stem, worker)

    class EngineUser(User):
        @task
        def drive(self) -> None:
            worker.drive_all()
            raise StopUser

    class ProducerUser(User):
        @task
        def produce(self) -> None:
            worker.act(True, _reporter(self.environment))
            raise StopUser

    class ConsumerUser(User):
        @task
        def consume(self) -> None:
            worker.act(False, _reporter(self.environment))
            raise StopUser

    def join(environment: Environment, **_: Any) -> None:
        worker.join(environment)
        if isinstance(environment.runner, WorkerRunner):
            return
        options: Any = environment.parsed_options
        if isinstance(scenario, OwnQueue):
            options.engine = "locust"  # an own queue talks to the server by itself, and needs a greenlet
            options.pipeline = 1  # and puts one message at a time
        beside = [each for each in environment.user_classes if each not in (EngineUser, ProducerUser, ConsumerUser)]
        number = _number(beside, options)
        master.join(environment, LoadOptions.of(options), number)
        if options.engine == "epoll":
            EngineUser.fixed_count = max(getattr(options, "expect_workers", 1) or 1, 1)
            chosen: list[type[User]] = [EngineUser]
        else:
            ProducerUser.fixed_count, ConsumerUser.fixed_count = master.producers, master.consumers
            chosen = [each for each in (ConsumerUser, ProducerUser) if each.fixed_count]
        environment.user_classes = [*chosen, *beside]
        options.num_users = number + sum(each.fixed_count for each in chosen)
        options.spawn_rate = options.spawn_rate or options.num_users

    _events.init.add_listener(join)
    return EngineUser, ProducerUser, ConsumerUser


def _number(users: Sequence[type[User]], options: Any) -> int:
    """How many users of these classes take part: the `fixed_count` of each, or the `weight` of those that have none.

    Locust's `--users`, if given, replaces the sum of the weights.
    """
    weights = sum(int(each.weight) for each in users if not each.fixed_count)
    wanted = int(options.num_users or weights) if weights else 0
    return sum(each.fixed_count for each in users) + wanted


def _join_alone(environment: Environment, **_: Any) -> None:
    """Lead a run of users of the locustfile's own, if it has no scenario."""
    if _scenarios or isinstance(environment.runner, WorkerRunner):
        return
    options: Any = environment.parsed_options
    UsersAlone(environment, LoadOptions.of(options))
    options.num_users = _number(environment.user_classes, options)
    options.spawn_rate = options.spawn_rate or options.num_users


_events.init.add_listener(_join_alone)


def _reporter(environment: Environment) -> Any:
    fire: Any = environment.events.request.fire

    def report(method: str, name: str, milliseconds: float, length: int, error: Exception | None) -> None:
        fire(
            request_type=method,
            name=name,
            response_time=milliseconds,
            response_length=length,
            exception=error,
            context={},
        )

    return report
