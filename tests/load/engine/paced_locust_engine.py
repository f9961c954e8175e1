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

from pytest_redisq.load.codec import BodyCodec  # noqa: E402
from pytest_redisq.load.engine.clients import PushClient  # noqa: E402
from pytest_redisq.load.engine.consumer_clients import BlpopClient  # noqa: E402
from pytest_redisq.load.engine.delivery_buffer import DeliveryBuffer  # noqa: E402
from pytest_redisq.load.engine.locust_engine import LocustEngine  # noqa: E402
from pytest_redisq.load.ledger import Ledger  # noqa: E402

WORKERS, MESSAGES = 300, 50
ledger, codec, seen = Ledger(), BodyCodec(7), list[float]()
buffer = DeliveryBuffer(ledger, codec)


def due(_index: int, turn: int) -> int:
    seen.append(engine.connect_seconds)
    return turn * 1_000_000


engine = LocustEngine(sys.argv[1], "paced-engine", connections=1 + WORKERS, due=due, flush=buffer.flush)
push_client = PushClient(ledger, codec, 0, ("RPUSH", "jobs"), name="RPUSH jobs")
clients = [push_client, *(BlpopClient(buffer, ("jobs",), name="BLPOP jobs") for _ in range(WORKERS))]
users = [gevent.spawn(engine.work, client, at, lambda *_: None) for at, client in enumerate(clients)]
while push_client.sent < MESSAGES:
    gevent.sleep(0.01)
engine.stop_producing()
engine.stop_consuming()
with redis.Redis.from_url(sys.argv[1]) as client:
    while any(users):
        for client_id in engine.waiting():
            client.client_unblock(client_id)
        gevent.sleep(0.01)
print(json.dumps({"sent": push_client.sent, "connecting": min(seen)}))
