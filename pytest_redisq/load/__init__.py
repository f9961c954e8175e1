"""Load on Redis by Locust, with a verdict on every message at the end.

Importing this package does not import Locust, which would patch the whole process. Only `load.locust_run` does.
"""
