"""Where a bucket's objects are on this sandbox's disk, and how an object is written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

MAX_KEY_BYTES = 1024
"""Longest object key that S3 allows, in bytes of UTF-8."""


class BucketNotFound(LookupError):
    """No folder of this sandbox stands for the bucket: the deploy file does not name it for this function."""


class UnsafeKey(ValueError):
    """The object key would leave its bucket's folder, or is none that S3 would accept."""


class ObjectNotFound(LookupError):
    """The event names an object that is not in the bucket (any more)."""


def bucket_folder(bucket: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder that holds the bucket's objects.

    `EVENFLOW_BUCKET_<NAME>` (upper case, `-` and `.` as `_`) is always right where it is set; `/mnt/<NAME>`
    is where the bucket is mounted otherwise. Raises `BucketNotFound`.
    """
    variable = "EVENFLOW_BUCKET_" + bucket.upper().replace("-", "_").replace(".", "_")
    named = environment.get(variable)
    if named:
        folder = Path(named)
    elif bucket and "/" not in bucket and bucket not in (".", ".."):
        folder = Path("/mnt") / bucket
    else:
        raise BucketNotFound(f"{bucket!r} is no bucket name")
    if not folder.is_dir():
        raise BucketNotFound(
            f"bucket {bucket!r} is not at {folder} and {variable} names no other folder: "
            f"add it under [[functions.buckets]] in the deploy file"
        )
    return folder


def object_path(folder: Path, key: str) -> Path:
    """Return the path of the object `key` (already URL-decoded) inside its bucket's folder.

    Raises `UnsafeKey` for a key that is empty, longer than `MAX_KEY_BYTES`, absolute, or climbs out by `..`
    or through a symbolic link.
    """
    if not key or "\0" in key or len(key.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
        raise UnsafeKey(f"object key {key[:80]!r} is empty, too long or holds a zero byte")
    # Split by hand: PurePosixPath would quietly fold "a//b" and "a/./b" into other keys than the event named.
    if any(part in ("", ".", "..") for part in key.split("/")):
        raise UnsafeKey(f"object key {key!r} has an empty, '.' or '..' part and could leave its bucket")
    path = folder / PurePosixPath(key)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UnsafeKey(f"object key {key!r} leads out of its bucket through a symbolic link")
    return path


def write_object(folder: Path, key: str, content: bytes) -> None:
    """Write `content` as the object `key` so that a reader or watcher sees the whole of it or nothing.

    Writing the same content twice leaves the same file, as an event that is delivered at least once needs.
    """
    path = object_path(folder, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name is random because two attempts of one event may overlap: they must never share a half-written
    # file. It stays short because the object's own name may already be as long as the file system allows.
    unfinished = path.parent / f".unfinished-{secrets.token_hex(8)}"
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
