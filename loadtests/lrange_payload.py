"""Large LRANGE replies, whole or in chunks; `GET.p99` is the latency of other clients meanwhile.

redisq load lrange-payload --payload 1000 --set elements=1_000_000 --json whole.json
redisq load lrange-payload --payload 1000 --set elements=1_000_000 --set chunk=10_000 --fail-if 'GET.p99>10ms'
"""

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import LrangePayload

EngineUser, ProducerUser, ConsumerUser = users_of(LrangePayload())
