"""The engines that drive the connections of one process, and the clients on these connections."""

from typing import Literal, TypeAlias, get_args

#: The engines: one epoll loop for all connections of a process, or a Locust user for each connection.
Engine: TypeAlias = Literal["epoll", "locust"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
