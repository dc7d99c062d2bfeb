"""Names of a shard's files, and their durability."""

import os
import re
from pathlib import Path

_NAME = re.compile(r"shard-\d{4,}\.db")


def shard_path(directory: Path, shard_id: int) -> Path:
    """The shard's file."""
    return directory / f"shard-{shard_id:04d}.db"


def shard_files(directory: Path) -> list[Path]:
    """Every shard's file in this folder; none of those that were set aside."""
    return sorted(path for path in directory.glob("shard-*.db") if _NAME.fullmatch(path.name))


def sync_directory(path: Path) -> None:
    """Make names in this folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
