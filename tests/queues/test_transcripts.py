"""The protocol of each queue as transcripts: command in, reply out, without a server.

Each law also has a test on a real server, in the test file of its queue.
"""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis.exceptions import NoScriptError

from pytest_redisq.errors import RedisqError
from pytest_redisq.queues import BlockingList, Delivery, Gap, ReliableList, Stopped, Stream, StreamGroup
from pytest_redisq.queues.blocking_list import BlockingListEndpoint
from pytest_redisq.queues.draining import Claim, Drainer
from pytest_redisq.queues.reliable_list import ReliableListEndpoint
from pytest_redisq.queues.stream import StreamEndpoint
from pytest_redisq.queues.stream_group import StreamGroupEndpoint
from tests.queues.transcript import play

LOST = redis.ConnectionError("lost")


class Clock:
    """A clock that a test sets, in seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


# BlockingList


def test_a_blocking_list_puts_at_the_tail_and_gets_from_the_most_urgent_list() -> None:
    worker = BlockingListEndpoint(BlockingList("jobs", urgent=("urgent",)))
    assert play(worker.put(b"a"), ("RPUSH jobs a", 1)) is None
    got = play(worker.get(5), ("BLPOP urgent jobs 5", [b"jobs", b"a"]))
    assert got == Delivery(body=b"a", source="jobs")
    assert play(worker.get(None), ("BLPOP urgent jobs 0", None)) is None
    got = play(worker.get(0), ("LPOP urgent", None), ("LPOP jobs", b"b"))
    assert got == Delivery(body=b"b", source="jobs")


def test_a_blocking_list_acknowledges_without_a_command_and_gives_back_to_the_head() -> None:
    worker = BlockingListEndpoint(BlockingList("jobs"))
    delivery = Delivery(body=b"a", source="jobs")
    assert play(worker.ack(delivery)) is True
    play(worker.give_back(delivery), ("LPUSH jobs a", 1))
    assert play(worker.remaining(), ("LRANGE jobs 0 -1", [b"a"])) == [b"a"]


def test_a_blocking_list_never_repeats_a_command_after_a_lost_reply() -> None:
    worker = BlockingListEndpoint(BlockingList("jobs"))
    with pytest.raises(redis.ConnectionError):
        play(worker.put(b"a"), ("RPUSH jobs a", LOST))
    with pytest.raises(redis.ConnectionError):
        play(worker.get(5), ("BLPOP jobs 5", LOST))


# ReliableList

HEARTBEAT = ("EVALSHA jobs:workers:{jobs} jobs:alive:w:{jobs} w 30000", None)
NO_WORKERS = ("ZRANGE jobs:workers:{jobs} 0 -1", [])
MINE = "jobs:processing:w:{jobs}"
LOOK = f"LRANGE {MINE} 0 -1"


def reliable(clock: Clock | None = None) -> ReliableListEndpoint:
    return ReliableListEndpoint(ReliableList("jobs"), "w", clock or Clock())


def test_a_reliable_list_renews_its_heartbeat_before_it_takes_a_job() -> None:
    worker = reliable()
    got = play(worker.get(0), HEARTBEAT, NO_WORKERS, (LOOK, []), (f"LMOVE jobs {MINE} LEFT RIGHT", b"a"))
    assert got == Delivery(body=b"a", source="jobs")
    assert play(worker.ack(got), (f"LREM {MINE} 1 a", 1)) is True
    assert play(worker.get(5), (f"BLMOVE jobs {MINE} LEFT RIGHT 5.0", b"b")).body == b"b"
    assert play(worker.ack(Delivery(body=b"b")), (f"LREM {MINE} 1 b", 0)) is False


def test_a_reliable_list_blocks_in_slices_of_a_third_of_its_lease() -> None:
    clock = Clock()
    worker = reliable(clock)
    play(worker.get(0), HEARTBEAT, NO_WORKERS, (LOOK, []), (f"LMOVE jobs {MINE} LEFT RIGHT", None))
    steps = worker.get(60)
    assert steps.send(None).args[-1] == 10.0
    clock.now += 10
    assert steps.send(None).args[0] == "EVALSHA"  # the next heartbeat is due
    steps.close()


def test_a_reliable_list_finds_the_job_whose_reply_was_lost() -> None:
    worker = reliable()
    taking = f"BLMOVE jobs {MINE} LEFT RIGHT 5.0"
    with pytest.raises(redis.ConnectionError):
        play(worker.get(5), HEARTBEAT, NO_WORKERS, (LOOK, []), (taking, LOST))
    assert play(worker.get(5), (LOOK, [b"a"])).body == b"a"
    # A job that the worker holds is not delivered again. After a lost ack it counts as not acknowledged.
    assert play(worker.get(0), (LOOK, [b"a"]), (f"LMOVE jobs {MINE} LEFT RIGHT", None)) is None
    with pytest.raises(redis.ConnectionError):
        play(worker.ack(Delivery(body=b"a")), (f"LREM {MINE} 1 a", LOST))
    assert play(worker.get(0), (LOOK, [b"a"])).body == b"a"


def test_a_reliable_list_recovers_until_no_full_batch_is_moved() -> None:
    worker = reliable()
    known = ("ZRANGE jobs:workers:{jobs} 0 -1", [b"dead"])
    script = "EVALSHA jobs jobs:workers:{jobs} jobs:alive:dead:{jobs} jobs:processing:dead:{jobs} 86400 dead"
    assert play(worker.recover(), known, (script, 1000), (script, 3)) == 1003


def test_a_reliable_list_sends_a_script_that_the_server_has_forgotten() -> None:
    steps = reliable().beat()
    assert steps.send(None).args[0] == "EVALSHA"
    sent = steps.throw(NoScriptError("NOSCRIPT"))
    assert (sent.args[0], sent.args[2:]) == ("EVAL", (2, "jobs:workers:{jobs}", "jobs:alive:w:{jobs}", "w", 30000))


def test_a_reliable_list_tells_on_leaving_whether_its_last_pop_has_ended() -> None:
    worker = reliable()
    leave = "EVALSHA jobs:workers:{jobs} jobs:alive:w:{jobs} " + MINE + " w "
    play(worker.leave(), (leave + "0", None))
    play(worker.get(0), HEARTBEAT, NO_WORKERS, (LOOK, []), (f"LMOVE jobs {MINE} LEFT RIGHT", None))
    play(worker.leave(), (leave + "1", None))


# Stream


def entry(entry_id: str, body: str) -> list[Any]:
    return [entry_id.encode(), [b"body", body.encode()]]


def look(added: int, length: int, last: str, first: str, *entries: list[Any]) -> list[Any]:
    return [added, length, last.encode(), first.encode(), list(entries)]


def test_a_stream_resolves_the_dollar_once() -> None:
    reader = StreamEndpoint(Stream("events"), Clock())
    play(reader.subscribe(), ("EVALSHA events 0-0 0", look(2, 2, "7-0", "3-0")))
    got = play(reader.get(0), ("EVALSHA events 7-0 100", look(3, 3, "9-0", "3-0", entry("9-0", "a"))))
    assert (got.body, got.id) == (b"a", "9-0")
    waiting = [
        ("EVALSHA events 9-0 100", look(3, 3, "9-0", "3-0")),
        ("XREAD COUNT 100 BLOCK 5000 STREAMS events 9-0", [[b"events", [entry("9-1", "b"), entry("9-2", "c")]]]),
    ]
    assert play(reader.get(5), *waiting).body == b"b"
    assert play(reader.get(5)).body == b"c", "from the batch, without a command"


def test_a_stream_reports_entries_that_were_trimmed_before_they_were_read() -> None:
    reader = StreamEndpoint(Stream("events", after="0"), Clock())
    play(reader.subscribe(), ("EVALSHA events 0-0 0", look(3, 3, "3-0", "1-0")))
    got = play(
        reader.get(0), ("EVALSHA events 0-0 100", look(4, 2, "4-0", "3-0", entry("3-0", "c"), entry("4-0", "d")))
    )
    assert got.id == "3-0"
    assert play(reader.trimmed()) == [Gap(after_id="0-0", before_id="3-0", entries=2, exact=True)]


def test_a_stream_is_read_on_after_an_error_from_the_last_entry_returned() -> None:
    reader = StreamEndpoint(Stream("events", after="5-0"), Clock())
    play(reader.subscribe(), ("EVALSHA events 0-0 0", look(5, 5, "5-0", "1-0")))
    with pytest.raises(redis.ConnectionError):
        play(reader.get(0), ("EVALSHA events 5-0 100", LOST))
    got = play(reader.get(0), ("EVALSHA events 5-0 100", look(6, 6, "6-0", "1-0", entry("6-0", "f"))))
    assert got.id == "6-0"


def test_a_stream_trims_as_it_is_told() -> None:
    approximate = StreamEndpoint(Stream("events", maxlen=10), Clock())
    assert play(approximate.put(b"a"), ("XADD events MAXLEN ~ 10 * body a", b"1-0")) == "1-0"
    exact = StreamEndpoint(Stream("events", maxlen=10, approximate=False, field="data"), Clock())
    play(exact.put(b"a"), ("XADD events MAXLEN = 10 * data a", b"1-0"))


# StreamGroup

CREATE = "XGROUP CREATE orders billing 0 MKSTREAM"
OWN = "XREADGROUP GROUP billing w COUNT 100 STREAMS orders 0-0"
CLAIM = "XAUTOCLAIM orders billing w 60000 0-0 COUNT 100"
NEW = "XREADGROUP GROUP billing w COUNT 1 STREAMS orders >"
NOTHING_CLAIMED = [b"0-0", [], []]


def group(clock: Clock | None = None, **options: Any) -> StreamGroupEndpoint:
    return StreamGroupEndpoint(StreamGroup("orders", "billing", **options), "w", clock or Clock())


def read(*entries: list[Any]) -> list[Any]:
    return [[b"orders", list(entries)]]


def test_a_group_first_reads_its_own_pending_entries_then_claims_then_reads_new_ones() -> None:
    worker = group()
    got = play(worker.get(0), (CREATE, b"OK"), (OWN, read()), (CLAIM, NOTHING_CLAIMED), (NEW, read(entry("1-0", "a"))))
    assert got == Delivery(body=b"a", id="1-0", source="orders")
    assert play(worker.ack(got), ("XACK orders billing 1-0", 1)) is True
    assert play(worker.ack(got), ("XACK orders billing 1-0", 0)) is False


def test_a_group_that_exists_is_joined() -> None:
    busy = redis.ResponseError("BUSYGROUP Consumer Group name already exists")
    play(group().subscribe(), (CREATE, busy))
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        play(group().subscribe(), (CREATE, redis.ResponseError("WRONGTYPE")))


def test_a_group_reads_its_own_entries_again_after_a_lost_reply() -> None:
    worker = group()
    with pytest.raises(redis.ConnectionError):
        play(worker.get(0), (CREATE, b"OK"), (OWN, read()), (CLAIM, NOTHING_CLAIMED), (NEW, LOST))
    held = ("XPENDING orders billing 1-0 1-0 1 w", [[b"1-0", b"w", 5, 1]])
    got = play(worker.get(0), (CREATE, b"OK"), (OWN, read(entry("1-0", "a"))), held)
    assert (got.id, got.delivery_count) == ("1-0", 1)


def test_a_group_parks_a_message_that_was_delivered_too_often() -> None:
    worker = group(max_deliveries=2)
    claimed = [b"0-0", [entry("1-0", "poison")], []]
    held = ("XPENDING orders billing 1-0 1-0 1 w", [[b"1-0", b"w", 0, 3]])
    park = ("EVALSHA orders orders:dead:{orders} billing w 1-0 2 body poison", 1)
    exchanges = [(CREATE, b"OK"), (OWN, read()), (CLAIM, claimed), held, park, (NEW, None)]
    assert play(worker.get(0), *exchanges) is None


def test_a_group_skips_an_entry_that_another_consumer_has_claimed() -> None:
    worker = group()
    claimed = [b"0-0", [entry("1-0", "a")], []]
    held = ("XPENDING orders billing 1-0 1-0 1 w", [])
    assert play(worker.get(0), (CREATE, b"OK"), (OWN, read()), (CLAIM, claimed), held, (NEW, None)) is None


def test_a_group_reports_a_pending_entry_that_was_trimmed() -> None:
    worker = group()
    trimmed = [b"1-0", None]
    exchanges = [(CREATE, b"OK"), (OWN, read(trimmed)), ("XACK orders billing 1-0", 1), (CLAIM, NOTHING_CLAIMED)]
    assert play(worker.get(0), *exchanges, (NEW, None)) is None
    assert play(worker.trimmed()) == [Gap(after_id="1-0", before_id="1-0", entries=1, exact=True)]


def test_a_group_refreshes_only_what_it_holds() -> None:
    worker = group()
    play(worker.beat())
    play(worker.get(0), (CREATE, b"OK"), (OWN, read()), (CLAIM, NOTHING_CLAIMED), (NEW, read(entry("1-0", "a"))))
    play(worker.beat(), ("EVALSHA orders billing w 1-0", None))
    play(worker.ack(Delivery(body=b"a", id="1-0")), ("XACK orders billing 1-0", 1))
    play(worker.beat())


def test_a_group_that_was_stopped_has_nothing_in_doubt() -> None:
    worker = group()
    with pytest.raises(Stopped):
        play(worker.get(5), (CREATE, b"OK"), (OWN, read()), (CLAIM, NOTHING_CLAIMED), (NEW_BLOCKING, Stopped()))
    assert play(worker.get(0), (NEW, None)) is None


NEW_BLOCKING = "XREADGROUP GROUP billing w COUNT 1 BLOCK 5000 STREAMS orders >"

# Drains

NAME = "000000000005000007-me"
CLAIMED = f"jobs:drain:{NAME}:{{jobs}}"
LEASE = f"jobs:drain-lease:{NAME}:{{jobs}}"
REGISTRY = "jobs:drains:{jobs}"


def drainer() -> Drainer:
    return Drainer("jobs", chunk=2, lease_seconds=60, owner="me")


def claimed(drain: Drainer, elements: int) -> Claim:
    claim = play(
        drain.claim(name=NAME),
        (f"EVALSHA jobs {REGISTRY} {CLAIMED} {LEASE} {NAME} me 60000 ", elements),
        (f"MEMORY USAGE {CLAIMED} SAMPLES 20", 100),
    )
    assert isinstance(claim, Claim)
    return claim


def test_a_drain_claims_the_list_reads_a_chunk_and_trims_to_what_is_left() -> None:
    drain = drainer()
    claim = claimed(drain, 3)
    assert play(drain.read(claim), (f"LRANGE {CLAIMED} -3 -2", [b"a", b"b"])) == [b"a", b"b"]
    play(drain.commit(claim, 2), (f"EVALSHA {REGISTRY} {CLAIMED} {LEASE} {NAME} me 60000 1 ", 0))
    assert play(drain.read(claim), (f"LRANGE {CLAIMED} -1 -1", [b"c"])) == [b"c"]
    play(drain.commit(claim, 1), (f"EVALSHA {REGISTRY} {CLAIMED} {LEASE} {NAME} me 60000 0 ", 0))
    assert play(drain.read(claim)) == []


def test_a_drain_repeats_a_step_whose_reply_was_lost_once() -> None:
    drain = drainer()
    claim = claimed(drain, 3)
    reading = f"LRANGE {CLAIMED} -3 -2"
    assert play(drain.read(claim), (reading, LOST), (reading, [b"a", b"b"])) == [b"a", b"b"]
    with pytest.raises(redis.ConnectionError):
        play(drain.read(claim), (reading, LOST), (reading, LOST))


def test_a_drain_whose_claim_was_taken_over_says_so() -> None:
    drain = drainer()
    claim = claimed(drain, 3)
    with pytest.raises(RedisqError, match="another drainer has taken over"):
        play(drain.read(claim), (f"LRANGE {CLAIMED} -3 -2", []))
    with pytest.raises(RedisqError, match="another drainer has taken over"):
        play(drain.commit(claim, 2), (f"EVALSHA {REGISTRY} {CLAIMED} {LEASE} {NAME} me 60000 1 ", -1))


def test_a_drain_first_adopts_the_claims_of_dead_drains() -> None:
    drain = drainer()
    adopt = f"EVALSHA {REGISTRY} jobs:drain:old:{{jobs}} jobs:drain-lease:old:{{jobs}} old me 60000 0"
    left_behind = (f"HGETALL {REGISTRY}", [b"old", b"state"])
    usage = ("MEMORY USAGE jobs:drain:old:{jobs} SAMPLES 20", 100)
    claim = play(drain.next_claim(), left_behind, (adopt, 4), usage)
    assert (claim.name, claim.length, claim.state) == ("old", 4, "state")
    # A claim with a lease is passed over; then the list itself is claimed, once.
    claiming = f"EVALSHA jobs {REGISTRY} {CLAIMED} {LEASE} {NAME} me 60000 "
    exchanges = [left_behind, (adopt, 0), ("TIME", [b"5", b"7"]), (claiming, 0)]
    assert play(drain.next_claim(), *exchanges) is None
    assert play(drain.next_claim()) is None


@pytest.mark.parametrize(
    "wrong",
    [
        [("LPOP urgent", None)],
        [("LPOP urgent", None), ("LPOP other", b"b")],
        [("LPOP urgent", None), ("LPOP jobs", b"b"), ("LPOP jobs", b"c")],
    ],
    ids=["too few", "another", "too many"],
)
def test_a_transcript_with_another_command_fails(wrong: list[tuple[str, Any]]) -> None:
    worker = BlockingListEndpoint(BlockingList("jobs", urgent=("urgent",)))
    with pytest.raises(AssertionError):
        play(worker.get(0), *wrong)
