"""A mistake in each line that is marked; mypy --strict and pyright find each of them, and nothing else."""

from __future__ import annotations

import redis

from pytest_redisq import Fault, Redisq, StartServer, World, conformance


def take(client: redis.Redis) -> int:
    return client.llen("jobs")


def test_mistakes(redisq: Redisq, redisq_start: StartServer) -> None:
    jobs = redisq.list("jobs")
    run = redisq.run(jobs)
    redisq.run(jobs, producer=2)  # mistake: misspelt keyword
    redisq.run(jobs, messages="100")  # mistake: wrong type
    run.verify("at-least-onc")  # mistake: misspelt contract
    run.verify("at-least-once, live=30")  # mistake: a time without its unit
    redisq.run(jobs, workers="threads")  # mistake: misspelt worker kind
    redisq.kill_consumer(after_messages=1, moment="recieving")  # mistake: misspelt moment
    redisq.kil_consumer(after_messages=1)  # mistake: misspelt fault
    Fault("kill", target="server", after_message=1)  # mistake: misspelt keyword of a fault
    Fault("lost-replies")  # mistake: misspelt name of a fault
    redisq.explore(jobs, contract="at-least-one", messages=2)  # mistake: misspelt contract of an exploration
    redisq.explore(scenario, faults="lost-replies")  # mistake: misspelt fault of an exploration
    redisq.explore(scenario, faults=["lost-reply", "restart"])  # mistake: a fault without its target
    redisq.explore(scenario, shedules=5)  # mistake: misspelt keyword of an exploration
    redisq.replay(scenario, 17)  # mistake: wrong type of a schedule
    redisq.load("blpop-workers", second=3)  # mistake: misspelt keyword of a load run
    redisq.conformance(jobs, contract="at-least-once", faults=["drop:connection"])  # mistake: misspelt fault of the kit
    redisq.stream("events", group="workers", maxlength=5)  # mistake: misspelt keyword of a queue
    redisq_start(persistance="aof")  # mistake: misspelt setting of a server
    redisq_start(persistence="always")  # mistake: misspelt value of a setting


def scenario(world: World) -> None:
    one = world.actor(take)
    world.run()
    text: str = one.result  # mistake: wrong type of a result
    print(text)


TestJobs = conformance(object, contract="at-most-once", workers=["treads"])  # mistake: misspelt worker kind of the kit
