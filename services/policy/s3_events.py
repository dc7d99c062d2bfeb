"""Bucket events: which objects a source wants, and the S3 notification that tells of one. Pure.

The shape is that of S3's event message structure, version 2.1 (Amazon S3 user guide, "Event message structure").
Everything in it follows from the object itself, so that a repeat after a crash is the same to the byte.
"""

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote_plus

from services.policy.records import iso_ms

# S3's own bound, in bytes of UTF-8.
MAX_KEY_BYTES = 1_024
CREATED_BY_PUT = "ObjectCreated:Put"
_WANTS_PUT = frozenset({"s3:ObjectCreated:*", "s3:ObjectCreated:Put"})
# What fires is a put of a file on this machine.
_SOURCE_ADDRESS = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """What makes an object this object and no other: its key, and the file it is.

    A rewrite of the same key has another modification time, size or inode, and so is another object.
    """

    key: str
    inode: int
    mtime_ns: int
    size_bytes: int

    @property
    def identity(self) -> str:
        """The file without its key, as a short text."""
        return f"{self.inode}:{self.mtime_ns}:{self.size_bytes}"


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """A source's filter rules; empty texts let every key pass."""

    prefix: str = ""
    suffix: str = ""

    def passes(self, key: str) -> bool:
        """Whether the key begins and ends as wanted; the two may overlap, as in S3."""
        return key.startswith(self.prefix) and key.endswith(self.suffix)


def wants_created(events: Iterable[str]) -> bool:
    """Whether these event names of a source include the put of an object."""
    return not _WANTS_PUT.isdisjoint(events)


def is_hidden(path: str) -> bool:
    """Whether any part of a path below a bucket's folder begins with a dot: no object, as with half-written files."""
    return path.startswith(".") or "/." in path


def check_key(path: str) -> str:
    """The key of the file at this path below its bucket's folder. ValueError: S3 would have no such key."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise ValueError(f"the name {path!r} is not UTF-8") from None
    if size > MAX_KEY_BYTES:
        raise ValueError(f"the key {path[:80]!r}... has {size} bytes; at most {MAX_KEY_BYTES} are allowed")
    return path


def is_object(path: str) -> bool:
    """Whether a file at this path counts as an object: not hidden, and with a name that S3 would take."""
    if is_hidden(path):
        return False
    try:
        check_key(path)
    except ValueError:
        return False
    return True


def client_token(source_id: str, version: ObjectVersion) -> str:
    """The token of the object's event: 64 characters, the same whoever finds the object and however often."""
    return _seed(source_id, version).hex()


def created_event(
    *,
    source_id: str,
    bucket: str,
    region: str,
    account_id: str,
    version: ObjectVersion,
    arrived_ns: int,
    md5_hex: str,
) -> bytes:
    """The notification of one created object as UTF-8 JSON, at most some 5 KB.

    `arrived_ns`: when the file got its name or its last byte, nanoseconds since the Unix epoch.
    """
    seed = _seed(source_id, version)
    owner = {"principalId": account_id}
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": iso_ms(arrived_ns // 1_000_000),
        "eventName": CREATED_BY_PUT,
        "userIdentity": {"principalId": f"AWS:{account_id}"},
        "requestParameters": {"sourceIPAddress": _SOURCE_ADDRESS},
        "responseElements": {
            "x-amz-request-id": seed[:8].hex().upper(),
            "x-amz-id-2": base64.b64encode(hashlib.sha384(seed).digest()).decode(),
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": source_id,
            "bucket": {"name": bucket, "ownerIdentity": owner, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {
                # As S3 does it: slashes stay, a space is a plus.
                "key": quote_plus(version.key, safe="/"),
                "size": version.size_bytes,
                "eTag": md5_hex,
                # Of two events of one key the later one has the greater text.
                "sequencer": f"{max(0, arrived_ns):018X}",
            },
        },
    }
    return json.dumps({"Records": [record]}, separators=(",", ":")).encode()


def _seed(source_id: str, version: ObjectVersion) -> bytes:
    # No part holds a zero byte: a file's name cannot.
    return hashlib.sha256(b"\0".join(t.encode() for t in (source_id, version.key, version.identity))).digest()
