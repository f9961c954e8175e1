"""script_cache.py: after `forget`, an actor sees what it would see after SCRIPT FLUSH; other clients do not."""

from __future__ import annotations

import hashlib

from pytest_redisq.explore import World, explore, replay
from pytest_redisq.explore.script_cache import ScriptCache
from tests.explore.test_faults import Client

SCRIPT = b"return 1"
SHA = hashlib.sha1(SCRIPT).hexdigest().encode()
NOSCRIPT = b"-NOSCRIPT No matching script. Please use EVAL.\r\n"


def test_nothing_is_answered_before_anything_is_forgotten() -> None:
    assert ScriptCache().answer([b"EVALSHA", SHA, b"0"]) is None


def test_what_was_forgotten_is_unknown_until_it_is_loaded_again() -> None:
    """By EVAL or SCRIPT LOAD; the case of a hash does not matter."""
    for load in ([b"EVAL", SCRIPT, b"0"], [b"script", b"load", SCRIPT]):
        scripts = ScriptCache()
        scripts.forget()
        assert scripts.answer([b"evalsha", SHA, b"0"]) == NOSCRIPT
        assert scripts.answer([b"SCRIPT", b"EXISTS", SHA]) == b"*1\r\n:0\r\n"
        assert scripts.answer(load) is None
        assert scripts.answer([b"EVALSHA_RO", SHA.upper(), b"0"]) is None
        assert scripts.answer([b"SCRIPT", b"EXISTS", SHA, b"x"]) == b"*2\r\n:1\r\n:0\r\n"
        scripts.forget()
        assert scripts.answer([b"EVALSHA", SHA, b"0"]) == NOSCRIPT
        scripts.reset()
        assert scripts.answer([b"EVALSHA", SHA, b"0"]) is None


def test_a_flush_strikes_the_actors_of_the_run_alone(url: str) -> None:
    """One that trusts the cache is caught; the shared server still has the script."""

    def trusting(client: Client) -> int:
        sha = client.script_load(SCRIPT.decode())
        return int(client.evalsha(sha, 0))

    def scenario(world: World) -> None:
        actor = world.actor(trusting)
        world.run()
        assert actor.result == 1
        assert world.redis.script_exists(SHA.decode()) == [True]

    failure = explore(scenario, url=url, faults="script-flush:server", schedules=20).failure
    assert failure
    assert str(failure.schedule) == "AAf"
    assert type(failure.error).__name__ == "NoScriptError"


def test_redis_py_loads_again_what_was_forgotten(url: str) -> None:
    """Its script objects do so by themselves: one more step, and the same result."""

    def careful(client: Client) -> list[int]:
        script = client.register_script(SCRIPT.decode())
        return [script(), script()]

    def scenario(world: World) -> None:
        world.redis.script_load(SCRIPT.decode())
        actor = world.actor(careful)
        world.run()
        assert actor.result == [1, 1]

    execution = replay(scenario, "AAf", url=url)
    assert execution.error is None
    assert [event.args[0] for event in execution.events] == [b"EVALSHA", b"EVALSHA", b"SCRIPT", b"EVALSHA"]
