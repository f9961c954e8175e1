"""The engines that drive the connections of one process, and what they drive."""

from typing import Literal, TypeAlias, get_args

#: What drives the connections of a process: one epoll loop for all, or a Locust user for each.
Engine: TypeAlias = Literal["epoll", "locust"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
