"""The /tmp folders of a template's forks: made before there is one, as Landlock's rules cannot grow later."""

import logging
import os
import shutil
from pathlib import Path

from services.runtime.seats import Seat

SUFFIX = ".forks"
log = logging.getLogger(__name__)


class ForkTmps:
    """So many folders beside the template's own; each is used by one fork at a time, and emptied in between."""

    def __init__(self, seat: Seat, count: int) -> None:
        """OSError: they cannot be made."""
        self._seat = seat
        self._folder = Path(seat.tmp_dir + SUFFIX)
        self._folder.mkdir(mode=0o711, exist_ok=True)
        self.paths = [str(self._folder / str(number)) for number in range(count)]
        for path in self.paths:
            os.makedirs(path, mode=0o700, exist_ok=True)
            self._own(path)
        self._free = self.paths[::-1]

    def take(self) -> Seat | None:
        """The template's seat, with an empty /tmp; None: all are in use."""
        if not self._free:
            return None
        return Seat(self._seat.number, self._seat.uid, self._free.pop())

    def give_back(self, path: str) -> None:
        """Empty it, and let it be used again; to be called off the loop. One that cannot be emptied is used no more."""
        try:
            # The folder itself stays: the rules are about this one, not about its name.
            _empty(path)
            self._own(path)
        except OSError as e:
            log.error("%s cannot be emptied and is not used any more: %s", path, e)
        else:
            self._free.append(path)

    def remove(self) -> None:
        """All of them, with what is in them; off the loop."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _own(self, path: str) -> None:
        uid = self._seat.uid
        if uid is not None:
            os.chown(path, uid, uid)
        os.chmod(path, 0o700)


def _empty(path: str) -> None:
    for name in os.listxattr(path):
        os.removexattr(path, name)
    with os.scandir(path) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
