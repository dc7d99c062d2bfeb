"""Where code and /tmp folders lie: beside the host's other files, or where other users may reach them."""

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from services.runtime.tiers import Isolation

PREFIX = "evenflow-sandboxes-"


def prepare(folder: Path, isolation: Isolation) -> Path:
    """The folder to use, made. OSError: it cannot be, or somebody else made it before.

    A sandbox with a user of its own and no mounts walks there itself: nobody may list it, and the code's folders have
    names that nobody guesses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isolation.has_mounts or not isolation.has_uid or _others_may_enter(folder):
        return folder
    name = PREFIX + hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    outside = Path(tempfile.gettempdir()) / name
    outside.mkdir(mode=0o711, exist_ok=True)
    found = outside.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(1, "belongs to somebody else", str(outside))
    outside.chmod(0o711)
    return outside


def leave(folder: Path, used: Path) -> None:
    """Remove what `prepare` made outside of the host's folder: nothing there is needed again."""
    if used != folder:
        shutil.rmtree(used, ignore_errors=True)


def _others_may_enter(folder: Path) -> bool:
    return all(one.stat().st_mode & stat.S_IXOTH for one in (folder, *folder.parents))
