"""Jobs pushed to a list, and workers that block in BLPOP. At the end every job is accounted for.

locust -f loadtests/blpop_workers.py --headless -t 10s --redis-url redis://127.0.0.1:6379/0 --consumers 1000
redisq load blpop_workers --time 10s --consumers 1000
"""

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import BlpopWorkers

EngineUser, ProducerUser, ConsumerUser = users_of(BlpopWorkers())
