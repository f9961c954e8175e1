"""The table of saboteurs: each has one fault, and the verdict has to name it."""

from __future__ import annotations

from pytest_redisq.endpoint.jobs import Rate
from pytest_redisq.model import Message
from tests.table import bounded
from tests.table import saboteur_lists as lists
from tests.table import saboteur_streams as streams
from tests.table.rows import Row

MOST, LEAST, EFFECTIVELY = "at-most-once", "at-least-once", "effectively-once"
DIES = {"faults": "kill:consumer@10"}
#: Enough messages for the consumer that is to die to get another one.
DIES_HOLDING = {"faults": "kill-holding:consumer@10", "messages": 200}
#: More than a bound keeps, and faster than they are read.
MANY, FAST = {"messages": 500}, {"rate": ""}
CUT = {"faults": "drop:connections@10"}
#: A connection that is cut between two calls is replaced by redis-py, and the code under test does not notice.
CUT_OFTEN = {"faults": [f"drop:connections@{count}" for count in range(8, 38, 6)]}
KILLED = {"faults": "kill", "schedules": 60}
HERE, RUN, LOAD = ("explore",), ("run",), ("run", "load")


def binary(message: Message) -> bytes:  # noqa: ARG001
    """A payload that is no text."""
    return b"\xff\xfe"


SABOTEURS = [
    Row(lists.DropsEveryThird, LEAST, "lost"),
    Row(lists.DropsTheLast, LEAST, "lost"),
    Row(lists.DropsTheFirst, LEAST, "lost"),
    Row(lists.LosesLarge, LEAST, "lost", drivers=LOAD, run={"payload": 70_000}, load={"payload_bytes": 70_000}),
    # One drop may meet a batch of which no more is left than a dequeue of unknown outcome explains.
    Row(
        lists.LosesOnReconnect,
        LEAST,
        "lost",
        drivers=RUN,
        run={"messages": 1500, "faults": [f"drop:connections@{number}" for number in (100, 510, 930)]},
    ),
    Row(lists.PutsAgain, EFFECTIVELY, "cloned", drivers=HERE, explore={"faults": "lost-reply"}),
    Row(lists.PutsTwice, EFFECTIVELY, "cloned"),
    Row(lists.GetsTwice, MOST, "duplicated"),
    Row(lists.FlipsABit, LEAST, "corrupted", drivers=LOAD, run={"messages": 120}),
    Row(lists.Truncates, LEAST, "corrupted", drivers=LOAD, run={"payload": 20}),
    Row(lists.Uppercases, LEAST, "corrupted"),
    Row(lists.DecodesInVain, LEAST, "corrupted", drivers=LOAD, run={"payload": binary}),
    Row(lists.Invents, MOST, "unexpected", drivers=RUN),
    Row(lists.SwallowsErrors, LEAST, "lost", drivers=HERE, explore={"faults": "lost-request"}),
    Row(lists.DeafAfterAFault, f"{LEAST}, live=2s", "deaf", drivers=RUN, run=CUT | {"pace": Rate(100)}),
    Row(lists.KeepsAtMostTwo, LEAST, "lost", drivers=HERE),
    Row(lists.Stack, f"{LEAST}, fifo", "reordered", drivers=HERE),
    Row(lists.Shards, f"{LEAST}, fifo", "reordered", drivers=HERE, explore={"consumers": 1, "messages": 4}),
    Row(lists.ForgetsAShard, LEAST, "stuck", drivers=LOAD),
    Row(lists.ReversesBatches, f"{LEAST}, fifo", "reordered", drivers=("explore", "load")),
    Row(lists.TakesTwoGivesOne, LEAST, "lost", drivers=("explore", "load"), load=FAST),
    Row(lists.LooksThenPops, LEAST, "lost", drivers=HERE),
    Row(lists.ReadsThenTrims, LEAST, "lost", drivers=HERE),
    Row(lists.EmptiesAtStart, LEAST, "lost", drivers=("explore", "load")),
    Row(lists.GivesUpWithoutTheLock, LEAST, "lost", drivers=HERE, explore={"producers": 2, "messages": 2}),
    Row(lists.NumbersByHand, LEAST, "lost", drivers=HERE, explore={"producers": 2, "messages": 2}),
    Row(lists.SlotsOfARing, LEAST, "lost", drivers=HERE),
    Row(lists.DropsWhatLooksAlike, LEAST, "lost", drivers=LOAD),
    Row(lists.RateLimitThatDrops, LEAST, "lost"),
    Row(lists.AcksBeforeTheWork, LEAST, "forgotten", drivers=RUN, run=DIES_HOLDING),
    Row(lists.NeverAcks, LEAST, "false-ack"),
    Row(lists.NeverRecovers, LEAST, "stuck", drivers=RUN, run=DIES_HOLDING),
    Row(lists.RobsTheLiving, MOST, "duplicated", drivers=HERE),
    Row(lists.RecoversIntoNothing, LEAST, "forgotten", drivers=RUN, run=DIES_HOLDING),
    Row(lists.AcksTooMuch, LEAST, "lost", drivers=("explore", "load"), load=FAST),
    Row(lists.PublishesOnly, LEAST, "lost", drivers=HERE),
    Row(lists.AsyncLooksThenPops, LEAST, "lost", drivers=HERE),
    Row(streams.GroupFromNow, LEAST, "lost", drivers=HERE),
    Row(streams.GroupWithoutClaim, LEAST, "stuck", drivers=("run", "explore"), run=DIES_HOLDING, explore=KILLED),
    Row(streams.GroupOfNoack, LEAST, "forgotten", drivers=RUN, run=DIES_HOLDING),
    Row(streams.GroupThatClaimsAtOnce, MOST, "duplicated", drivers=HERE),
    Row(streams.GroupThatNeverAcks, LEAST, "false-ack"),
    Row(streams.GroupThatSkipsAcks, LEAST, "false-ack", drivers=("load", "run", "explore")),
    Row(streams.GroupThatSwapsBodies, LEAST, "wrong-id", drivers=("run", "explore")),
    Row(streams.GroupThatReadsTwo, LEAST, "lost", drivers=LOAD, load=FAST),
    Row(streams.GroupTrimmedTooSoon, LEAST, "trimmed", drivers=LOAD),
    Row(bounded.DeclaredListThatDrops, f"{LEAST}, bounded", "lost", drivers=("load", "run"), run=MANY, load=FAST),
    Row(bounded.CappedStreamThatDrops, f"{LEAST}, bounded", "lost", drivers=("load", "run"), run=MANY, load=FAST),
    Row(bounded.NamelessStreamThatDrops, f"{LEAST}, bounded", "lost", drivers=("run", "load"), run=MANY, load=FAST),
    Row(streams.ReaderFromNow, "fan-out", "poll-skip", drivers=LOAD),
    Row(
        streams.ReaderThatStartsAgain, "fan-out", "nonmonotonic-poll", drivers=RUN, run=CUT_OFTEN | {"pace": Rate(100)}
    ),
    Row(streams.ReaderThatSkips, "fan-out", "poll-skip"),
    Row(streams.SchedulerWithACursor, LEAST, "stuck", drivers=LOAD),
    Row(streams.SchedulerByTheSecond, f"{LEAST}, fifo", "reordered", drivers=LOAD),
    Row(streams.SchedulerWithoutAWinner, MOST, "duplicated", drivers=HERE),
    Row(streams.LeaseThatIsTooShort, MOST, "duplicated", run={"work": 0.005}),
    Row(streams.LeaseThatIsLost, LEAST, "forgotten", drivers=RUN, run=DIES_HOLDING),
]
