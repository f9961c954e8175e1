"""The server's script cache as the actors of one execution see it. Other clients of the server keep their scripts.

Law: after `forget` an actor sees what it would see after SCRIPT FLUSH. One exception: EVALSHA in a transaction still
finds its script, because only the server can answer in the middle of an EXEC.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

#: The reply to an unknown script.
NOSCRIPT = b"-NOSCRIPT No matching script. Please use EVAL.\r\n"

#: The texts of all scripts that actors of this process have sent, by their hashes: the server still knows them in a
#: later exploration.
_TEXTS: dict[bytes, bytes] = {}


class ScriptCache:
    """`known`: the hashes of the scripts that were loaded since `forget`; None: nothing was forgotten."""

    def __init__(self) -> None:
        self.known: set[bytes] | None = None

    def text(self, sha: bytes) -> bytes | None:
        """The text of a script that an actor of this process has sent; None if none has."""
        return _TEXTS.get(sha.lower())

    def forget(self) -> None:
        """Forget all scripts."""
        self.known = set()

    def reset(self) -> None:
        """Undo `forget`, for the next execution."""
        self.known = None

    def answer(self, args: Sequence[bytes]) -> bytes | None:
        """The reply to a command that uses a forgotten script; None: the server must answer."""
        match [args[0].upper(), *args[1:]]:
            case [b"EVAL" | b"EVAL_RO", script, *_]:
                self._learn(script)
            case [b"SCRIPT", sub, script] if sub.upper() == b"LOAD":
                self._learn(script)
        if self.known is None:
            return None
        match [args[0].upper(), *args[1:]]:
            case [b"EVALSHA" | b"EVALSHA_RO", sha, *_] if sha.lower() not in self.known:
                return NOSCRIPT
            case [b"SCRIPT", sub, *shas] if sub.upper() == b"EXISTS" and shas:
                return b"*%d\r\n" % len(shas) + b"".join(b":%d\r\n" % (sha.lower() in self.known) for sha in shas)
            case [b"SCRIPT", sub, *_] if sub.upper() == b"FLUSH":
                self.forget()
        return None

    def _learn(self, script: bytes) -> None:
        sha = hashlib.sha1(script, usedforsecurity=False).hexdigest().encode()
        _TEXTS[sha] = script
        if self.known is not None:
            self.known.add(sha)
