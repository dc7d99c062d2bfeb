"""Compares a bucket's folder with its journal, slice by slice, off the loop."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from services.poller.sources.folder import Walk
from services.poller.sources.journal import Journal
from services.poller.sources.watch import BucketWatch

# Files looked up, or rows checked, in one go of a thread.
SLICE = 500
T = TypeVar("T")


class Run(Protocol):
    """Has a thread do blocking work."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


class Scanner:
    """One source's scans; one at a time."""

    def __init__(
        self, root: str, journal: Journal, watch: BucketWatch, run: Run, wants: Callable[[str], bool], max_files: int
    ) -> None:
        self._root = root
        self._journal = journal
        self._watch = watch
        self._run = run
        self._wants = wants
        self._max_files = max_files
        self._problems: list[str] = []

    @property
    def journaled(self) -> int:
        """Objects in the journal."""
        return self._journal.rows

    async def sweep(self, is_ending: Callable[[], bool]) -> None:
        """Take the rows of vanished files out of the journal. A folder that is not there says nothing about them."""
        key = ""
        while not is_ending():
            key = await self._run(partial(self._sweep_slice, key))
            if not key:
                break

    async def walk(self, folder: str) -> AsyncGenerator[str, None]:
        """Paths below the folder whose objects the journal does not have. OSError: the bucket cannot be read."""
        walk = Walk(self._root, folder, self._watch.enter, self._max_files)
        is_over = False
        try:
            while not is_over:
                fresh, is_over = await self._run(partial(self._walk_slice, walk))
                for path in fresh:
                    yield path
        finally:
            walk.close()
        if walk.unusable:
            self._problems.append(f"{walk.unusable} names are no keys (not UTF-8, or too long) and are passed over")
        if walk.problem is not None:
            self._problems.append(f"a folder in it cannot be read: {walk.problem}")
        if walk.is_truncated:
            self._problems.append(f"more than {self._max_files} files: further ones wait; raise source.max_objects")

    def take_problems(self) -> list[str]:
        """What the last scan could not see."""
        problems, self._problems = self._problems, []
        return problems

    def _walk_slice(self, walk: Walk) -> tuple[list[str], bool]:
        versions = walk.next_slice(SLICE)
        wanted = [v for v in versions if self._wants(v.key)]
        return [v.key for v in self._journal.unknown(wanted)], len(versions) < SLICE

    def _sweep_slice(self, after: str) -> str:
        root = Path(self._root)
        if not root.is_dir():
            return ""
        rows = self._journal.after(after, SLICE)
        gone = [row for row in rows if not _exists(root / row[0])]
        if gone and root.is_dir():
            self._journal.forget(gone)
        return rows[-1][0] if len(rows) == SLICE else ""


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        # Not to be told now: the row stays.
        return True
    return True
