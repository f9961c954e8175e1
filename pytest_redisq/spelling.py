"""What to say of a word that is misspelt: the one "did you mean" of all error messages."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable


def suggest(word: str, known: Iterable[str]) -> str:
    """A sentence to append to an error message: the known word nearest to `word`, or nothing.

    >>> suggest("dokcer", ["docker", "process"])
    " Did you mean 'docker'?"
    >>> suggest("mysql", ["docker", "process"])
    ''
    """
    candidates = list(known)
    # What all begin with says nothing about which was meant.
    start = len(os.path.commonprefix([word, *candidates]))  # noqa: RUF071 - characters are meant, not path components
    near = difflib.get_close_matches(word[start:], [candidate[start:] for candidate in candidates], n=1)
    return f" Did you mean {word[:start] + near[0]!r}?" if near else ""


def check_keywords(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise TypeError if `given` has a keyword argument that `where`, a function, does not take.

    `where`: the name of the function, as its user writes it. `given`: the names that were passed. `known`: the names
    that it takes.

    >>> check_keywords("redisq.run", ["producer"], ["producers", "consumers"])
    Traceback (most recent call last):
    ...
    TypeError: redisq.run() has no argument 'producer'. Did you mean 'producers'? It takes: producers, consumers.
    """
    __tracebackhide__ = True
    names = list(known)
    for name in given:
        if name not in names:
            raise TypeError(f"{where}() has no argument {name!r}.{suggest(name, names)} It takes: {', '.join(names)}.")
