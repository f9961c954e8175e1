"""What became of a fault that a run was given: part of the history, so that a verdict can rest on it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRecord:
    """A fault that struck, one part of it (such as the restart after a kill), or a fault that never struck.

    Parameters:

    * `fault`: its spelling, such as "drop:connections@50".
    * `words`: what happened, such as "3 connections of workers were closed by the server".
    * `at_ns`: when, by the history's clock; None if its moment never came.
    * `struck`: number of things that it struck. 0: the run went on as if there were no fault.
    * `killed`: the workers that the fault ended.
    """

    fault: str
    words: str = ""
    at_ns: int | None = None
    struck: int = 0
    killed: tuple[str, ...] = ()

    @property
    def void(self) -> str:
        """Why this fault proves nothing; empty if it struck something."""
        if self.struck:
            return ""
        return f"{self.fault} {'never struck' if self.at_ns is None else 'struck nothing'}: {self.words}"
