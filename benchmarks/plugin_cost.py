"""The cost of the installed plugin in a pytest run that does not use it: less than 5 ms.

    python benchmarks/plugin_cost.py [--rounds 30]

Runs whole pytest processes on the same test file, alternately with and without the plugin. It compares CPU time (user
and system), which a busy machine influences less than elapsed time; elapsed time is also shown. Exit code 1 if the
median of the differences between neighbouring runs is 5 ms or more.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

LIMIT_MS = 5.0
TESTS = "import pytest\n\n@pytest.mark.parametrize('n', range(100))\ndef test_nothing(n):\n    pass\n"


class Cost(NamedTuple):
    """Milliseconds of one pytest process."""

    processor: float
    clock: float


def run(folder: Path, *options: str) -> Cost:
    """Run one pytest process with only the plugins in `options`, and with compiled bytecode as when installed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "test_nothing.py"]
    environ = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=folder, env=environ, check=True, stdout=subprocess.DEVNULL)
    after, end = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(processor * 1000, (end - start) * 1000)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_nothing.py").write_text(TESTS)
        run(folder, "-p", "pytest_redisq.plugin")
        pairs = [(run(folder), run(folder, "-p", "pytest_redisq.plugin")) for _ in range(rounds)]
    for label, costs in zip(("without", "with"), zip(*pairs, strict=True), strict=True):
        processor, clock = (statistics.median(times) for times in zip(*costs, strict=True))
        print(f"{label:8} processor {processor:7.1f} ms   clock {clock:7.1f} ms   (medians)")
    added = statistics.median(after.processor - before.processor for before, after in pairs)
    ratio = statistics.median(after.processor / before.processor for before, after in pairs)
    print(f"added    processor {added:7.1f} ms   ratio {ratio:.3f}   (limit {LIMIT_MS:g} ms)")
    return int(added >= LIMIT_MS)


if __name__ == "__main__":
    sys.exit(main())
