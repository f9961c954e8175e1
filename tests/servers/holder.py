"""A process that holds a server: python -m tests.servers.holder SETTINGS-AS-JSON RUN-ID, or "-" for one of its own.

It prints the URL and the server's folder as soon as it has the server, and stays until its standard input ends.
"""

from __future__ import annotations

import json
import sys

from pytest_redisq.options import Settings
from pytest_redisq.servers import Server, start
from pytest_redisq.servers.share import share


def main() -> None:
    settings, run_id = Settings(**json.loads(sys.argv[1])), sys.argv[2]
    if run_id == "-":
        server = start(settings)
        hold(server)
        server.stop()
    else:
        with share(settings, run_id) as server:
            hold(server)


def hold(server: Server) -> None:
    print(server.url, server.supervisor and server.supervisor.directory, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
