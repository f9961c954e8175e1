"""What doctests and tests have in common."""

pytest_plugins = ["pytester"]

# These import Locust, which patches the whole process it is imported into: no place for pytest to look for doctests.
collect_ignore = [
    "pytest_redisq/load/engine/locust_engine.py",
    *(
        f"pytest_redisq/load/locust_run/{name}.py"
        for name in ("locust_stats", "locust_master", "locust_worker", "users", "worker_reports")
    ),
]
