"""`python -m pytest_redisq`: the `redisq` command, where its script is not on PATH."""

from __future__ import annotations

from pytest_redisq.cli import main

if __name__ == "__main__":
    main(prog_name="redisq")
