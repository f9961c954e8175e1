"""The `redisq` command, also as `python -m pytest_redisq`, where its script is not on PATH."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that `sys.argv` names.

    Its modules are imported here, so that a Ctrl-C meanwhile ends in a word and status 130, and not in a traceback.
    """
    try:
        from pytest_redisq.cli import main as command

        command(prog_name="redisq")
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
