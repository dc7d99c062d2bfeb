"""A seat is what a sandbox sits on: its uid and its /tmp; kept over a crash, cleared when it changes hands."""

import asyncio
import logging
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

MAX_SEATS = 1_024
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seat:
    """uid None: the host's own user."""

    number: int
    uid: int | None
    tmp_dir: str


class Seats:
    """Hands out seats; a seat is used again only when its /tmp is gone."""

    def __init__(self, folder: Path, first_uid: int | None) -> None:
        self._folder = folder
        self._first_uid = first_uid
        self._free = list(range(MAX_SEATS - 1, -1, -1))
        self._clearing: set[asyncio.Task[None]] = set()

    def prepare(self) -> None:
        """Remove what a killed host left."""
        _remove(self._folder)
        self._folder.mkdir(parents=True)
        # A sandbox with a user of its own passes through, and sees nobody else's.
        self._folder.chmod(0o711)

    def take(self) -> Seat | None:
        """A seat with an empty /tmp; None: all are taken."""
        if not self._free:
            return None
        number = self._free.pop()
        uid = None if self._first_uid is None else self._first_uid + number
        path = self._folder / str(number)
        path.mkdir(mode=0o700, exist_ok=True)
        if uid is not None:
            os.chown(path, uid, uid)
        return Seat(number, uid, str(path))

    def give_back(self, seat: Seat) -> None:
        """Clear it, off the loop, and let it be used again."""
        if _is_empty(seat.tmp_dir):
            self._free.append(seat.number)
            return
        task = asyncio.create_task(self._clear(seat), name="clear /tmp")
        self._clearing.add(task)
        task.add_done_callback(self._clearing.discard)

    async def close(self) -> None:
        """Wait for what is being cleared, and remove the rest."""
        await asyncio.gather(*self._clearing, return_exceptions=True)
        await asyncio.to_thread(_remove, self._folder)

    async def _clear(self, seat: Seat) -> None:
        await asyncio.to_thread(_remove, Path(seat.tmp_dir))
        if os.path.isdir(seat.tmp_dir):
            log.error("%s cannot be removed; its seat is not used any more", seat.tmp_dir)
        else:
            self._free.append(seat.number)


def _is_empty(path: str) -> bool:
    """A folder with nothing in it, with the rights that it had when it was handed out."""
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is None and os.stat(path).st_mode & 0o777 == 0o700
    except OSError:
        return False


def _remove(folder: Path) -> None:
    """All of it, whatever a handler made of it."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:
        # Deeper than Python follows: the commands below do not recurse, and do not leave the folder either.
        pass
    if folder.exists():
        # A handler with the host's own user may have closed folders to it.
        subprocess.run(["chmod", "-R", "u+rwx", "--", str(folder)], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", "--", str(folder)], check=False, stderr=subprocess.DEVNULL)
