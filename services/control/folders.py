"""Folders, and names in them that last: a file whose folder has lost its name is lost, however well it was synced."""

import os
from pathlib import Path


def make_folder(path: Path) -> None:
    """Have this folder, and those above it, for this user alone; its name, and each that was missing, is durable."""
    missing = [one for one in path.parents if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
        sync_folder(one.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    # Also when it is there: whoever made it may have been killed before this.
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make names in this folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
