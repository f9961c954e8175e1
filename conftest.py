"""What doctests and tests have in common."""

import re
from pathlib import Path

pytest_plugins = ["pytester"]

# These import Locust, which patches the whole process it is imported into: no place for pytest to look for doctests.
collect_ignore = [
    str(path)
    for path in Path(__file__).parent.glob("pytest_redisq/load/**/*.py")
    if re.search(r"^(import|from) locust\b", path.read_text(), re.MULTILINE)
]
