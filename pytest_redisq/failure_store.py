"""What failed, kept between runs in a folder beside the tests: schedules, their pictures, and histories.

Not in pytest's cache: who clears that wants the tests run anew, and not to search anew for what a search has found.
Like Hypothesis's `.hypothesis`, the folder can be carried from machine to machine, and version control is blind to it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from pathlib import Path

from pytest_redisq.errors import RedisqError

#: Below pytest's root folder.
FOLDER = ".redisq"
#: The kinds of files that can be run or judged again.
SCHEDULE, HISTORY = ".schedule.json", ".jsonl"


#: The most bytes of a file's name, without the suffix that says its kind: file systems take 255 with it.
_NAME_BYTES = 160
#: Test ids whose slugs cannot be alike: a path, then names. All others get a digest, since `a/b` and `a:b`, or names
#: that differ in case alone, may come to the same file.
_PLAIN = re.compile(r"[a-z0-9_./]+\.py(::[a-z0-9_]+)+")


def slug(text: str) -> str:
    """`text` as a part of a file's name, cut to what file systems take. Different texts may have the same slug."""
    return re.sub(r"[^\w.-]+", "-", text).encode(errors="ignore")[:_NAME_BYTES].decode(errors="ignore")


def file_name(test: str) -> str:
    """A file's name for `test`, as pytest calls it: another one for each test, without what says the file's kind.

    >>> file_name("tests/test_a.py::test_b")
    'tests-test_a.py-test_b'
    >>> file_name("test_a.py::test_b[x/y]"), file_name("test_a.py::test_b[x:y]")
    ('test_a.py-test_b-x-y--fe8c3149', 'test_a.py-test_b-x-y--20110bea')
    """
    if _PLAIN.fullmatch(test) and len(test) <= _NAME_BYTES:
        return slug(test)
    digest = hashlib.sha256(test.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{slug(test)}-{digest}"


def write(path: Path, text: str) -> None:
    """Makes the folder where it is not there yet. Raises OSError where nothing can be written."""
    make(path.parent)
    path.write_text(text, encoding="utf-8")


def make(folder: Path) -> None:
    """Raises OSError where it cannot be made."""
    folder.mkdir(parents=True, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")


def failures(folder: Path) -> list[Path]:
    """What failed in the last runs: schedules and histories, the newest first."""
    found = [path for kind in (SCHEDULE, HISTORY) for path in folder.glob(f"*{kind}")]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def choose(words: str, folder: Path) -> Path:
    """The failure that is meant: a file, or the one whose name has these words in it.

    Raises RedisqError where there is none, or more than one.
    """
    with contextlib.suppress(OSError, ValueError):  # too long for a path, or no path at all
        if Path(words).is_file():
            return Path(words)
    known = failures(folder)
    # A test's whole name as pytest shows it, or any part of it.
    meant = [path for path in known if path.name in (file_name(words) + SCHEDULE, file_name(words) + HISTORY)]
    meant = meant or [path for path in known if slug(words) in path.name]
    if len(meant) == 1:
        return meant[0]
    listed = "".join(f"\n  {path.name}" for path in meant or known)
    if not known:
        raise RedisqError(
            f"Nothing that failed is in {folder}.\nWhat to do: run the failing test first, in this folder."
        )
    if not meant:
        raise RedisqError(f"No failure is called {words!r}. There are:{listed}")
    raise RedisqError(
        f"{len(meant)} failures are meant{f' by {words!r}' if words else ''}; say more of a name:{listed}"
    )
