"""What doctests and tests have in common."""

pytest_plugins = ["pytester"]

# These import Locust, which patches the whole process it is imported into: no place for pytest to look for doctests.
collect_ignore = [f"pytest_redisq/load/{name}.py" for name in ("booking", "conductor", "crowd", "stage", "users")]
