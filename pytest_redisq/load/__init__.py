"""Load on Redis by Locust, with a verdict on every message at the end.

Importing this package imports no Locust, which would patch the whole process; `pytest_redisq.load.users` does.
"""
