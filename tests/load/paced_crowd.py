"""A process of its own, since gevent patches it: a producer at a pace beside 300 workers, all greenlets.

Prints, as JSON, how many messages went, and the least time that connecting had taken when one was due: 0 if it was due
before all were connected.
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import sys  # noqa: E402

import gevent  # noqa: E402
import redis  # noqa: E402

from pytest_redisq.load.actors import Inbox, Popper, Pusher  # noqa: E402
from pytest_redisq.load.crowd import Crowd  # noqa: E402
from pytest_redisq.load.ledger import Ledger  # noqa: E402
from pytest_redisq.load.message import Codec  # noqa: E402

WORKERS, MESSAGES = 300, 50
ledger, codec, seen = Ledger(), Codec(7), list[float]()
inbox = Inbox(ledger, codec)


def due(_index: int, turn: int) -> int:
    seen.append(crowd.connect_seconds)
    return turn * 1_000_000


crowd = Crowd(sys.argv[1], "paced-crowd", connections=1 + WORKERS, due=due, flush=inbox.flush)
pusher = Pusher(ledger, codec, 0, ("RPUSH", "jobs"), name="RPUSH jobs")
actors = [pusher, *(Popper(inbox, ("jobs",), name="BLPOP jobs") for _ in range(WORKERS))]
users = [gevent.spawn(crowd.work, actor, at, lambda *_: None) for at, actor in enumerate(actors)]
while pusher.sent < MESSAGES:
    gevent.sleep(0.01)
crowd.stop_producing()
crowd.stop_consuming()
with redis.Redis.from_url(sys.argv[1]) as client:
    while any(users):
        for client_id in crowd.waiting():
            client.client_unblock(client_id)
        gevent.sleep(0.01)
print(json.dumps({"sent": pusher.sent, "connecting": min(seen)}))
