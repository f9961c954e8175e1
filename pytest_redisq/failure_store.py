"""The failure store: schedules, their pictures and histories that failed, kept between runs in a folder.

It is not part of pytest's cache: clearing that cache should not discard failures that took a long search to find. Like
the `.hypothesis` folder of Hypothesis, it can be copied to other machines, and version control ignores it.
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
#: Test ids whose slugs are always different: a path, then names. All other ids get a digest, since `a/b` and `a:b`, or
#: names that differ only in case, could give the same file.
_PLAIN = re.compile(r"[a-z0-9_./]+\.py(::[a-z0-9_]+)+")


def slug(text: str) -> str:
    """`text` as part of a file name, shortened to what file systems allow. Different texts may have the same slug."""
    return re.sub(r"[^\w.-]+", "-", text).encode(errors="ignore")[:_NAME_BYTES].decode(errors="ignore")


def file_name(test: str) -> str:
    """A file name, without suffix, for the test id `test`. Different tests have different file names.

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
    """Write `text` to `path`; creates the folder if needed. Raises OSError if it cannot be written."""
    make(path.parent)
    path.write_text(text, encoding="utf-8")


def make(folder: Path) -> None:
    """Create the folder, with a .gitignore that hides it. Raises OSError if it cannot be created."""
    folder.mkdir(parents=True, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")


def failures(folder: Path) -> list[Path]:
    """The schedules and histories in `folder`, the newest first."""
    found = [path for kind in (SCHEDULE, HISTORY) for path in folder.glob(f"*{kind}")]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def choose(words: str, folder: Path) -> Path:
    """The file of the failure that `words` selects: a path, a test id, or a part of a file name.

    `folder`: the failure store. Raises RedisqError if no failure or more than one matches.
    """
    with contextlib.suppress(OSError, ValueError):  # too long for a path, or no path at all
        if Path(words).is_file():
            return Path(words)
    known = failures(folder)
    # The whole test id as pytest shows it, or any part of it.
    meant = [path for path in known if path.name in (file_name(words) + SCHEDULE, file_name(words) + HISTORY)]
    meant = meant or [path for path in known if slug(words) in path.name]
    if len(meant) == 1:
        return meant[0]
    listed = "".join(f"\n  {path.name}" for path in meant or known)
    if not known:
        raise RedisqError(
            f"There are no failures in {folder}.\nWhat to do: run the failing test first, in this folder."
        )
    if not meant:
        raise RedisqError(f"No failure matches {words!r}. There are:{listed}")
    raise RedisqError(
        f"{len(meant)} failures match{f' {words!r}' if words else ''}; give a longer part of the name:{listed}"
    )
