"""A seat is what a sandbox sits on: its uid and its /tmp; kept over a crash, cleared when it changes hands."""

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

MAX_SEATS = 1_024


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
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)

    def take(self) -> Seat | None:
        """A seat with an empty /tmp; None: all are taken."""
        if not self._free:
            return None
        number = self._free.pop()
        uid = None if self._first_uid is None else self._first_uid + number
        path = self._folder / str(number)
        path.mkdir(exist_ok=True)
        os.chmod(path, 0o1777 if uid is not None else 0o700)
        return Seat(number, uid, str(path))

    def give_back(self, seat: Seat) -> None:
        """Clear it, off the loop, and let it be used again."""
        if not os.path.isdir(seat.tmp_dir) or not os.listdir(seat.tmp_dir):
            self._free.append(seat.number)
            return
        task = asyncio.create_task(self._clear(seat), name="clear /tmp")
        self._clearing.add(task)
        task.add_done_callback(self._clearing.discard)

    async def close(self) -> None:
        """Wait for what is being cleared, and remove the rest."""
        await asyncio.gather(*self._clearing, return_exceptions=True)
        await asyncio.to_thread(shutil.rmtree, self._folder, True)

    async def _clear(self, seat: Seat) -> None:
        await asyncio.to_thread(shutil.rmtree, seat.tmp_dir, True)
        self._free.append(seat.number)
