"""Saves a shard whose file lost its name while it was open: the connection still has all of it."""

import os
import time
from pathlib import Path

import apsw

from services.queue.database import Database
from services.queue.install import sync_file
from services.queue.paths import sync_directory

STEP_PAGES = 4_096
SPARE_BYTES = 16 << 20


def rescue(database: Database, directory: Path, shard_id: int) -> Path | None:
    """A whole copy beside the lost file, durable; None: it could not be made. Takes as long as the file is large."""
    at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = directory / f"shard-{shard_id:04d}.rescued-{at}.db"
    needed = int(database.value("PRAGMA page_count") or 0) * int(database.value("PRAGMA page_size")) + SPARE_BYTES
    space = os.statvfs(directory)
    if path.exists() or space.f_bavail * space.f_frsize < needed:
        return None
    try:
        target = apsw.Connection(str(path))
        try:
            target.execute("PRAGMA synchronous = OFF")
            target.execute("PRAGMA journal_mode = OFF")
            with target.backup("main", database.connection, "main") as backup:
                while not backup.step(STEP_PAGES):
                    pass
        finally:
            target.close()
        path.chmod(0o600)
        sync_file(path)
        sync_directory(directory)
    except (apsw.Error, OSError):
        path.unlink(missing_ok=True)
        return None
    return path
