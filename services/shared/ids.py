"""Request ids: 16 bytes that read as a UUID, say when they were made and in which shard the event lives.

Layout, most significant bit first: 48 bits, 4 bits version, 12 bits shard (high), 2 bits variant (0b10), 4 bits shard
(low), 58 bits. Version 7: minted by a frontend; the first 48 bits are milliseconds since the Unix epoch and the
last 58 are random. Version 8: derived by hashing (a client token, or a parent event and its destination), so that a
repeat gives the same id in the same shard. The shard is that of a fixed shard count: see docs/adr/0002-ids.md.
"""

import hashlib
import os
import uuid
from collections.abc import Callable

MAX_SHARDS = 1 << 16
REQUEST_ID_BYTES = 16
_MINTED = 7
_DERIVED = 8
_RANDOM_MASK = (1 << 58) - 1


def _pack(head_48: int, version: int, shard_id: int, tail_58: int) -> bytes:
    if not 0 <= shard_id < MAX_SHARDS:
        raise ValueError(f"shard_id {shard_id} is not within 0..{MAX_SHARDS - 1}")
    value = (
        (head_48 << 80) | (version << 76) | ((shard_id >> 4) << 64) | (0b10 << 62) | ((shard_id & 0xF) << 58) | tail_58
    )
    return value.to_bytes(REQUEST_ID_BYTES, "big")


def mint(wall_ms: int, shard_id: int, random_bytes: Callable[[int], bytes] = os.urandom) -> bytes:
    """A fresh, time-ordered id for an event of this shard."""
    return _pack(wall_ms & ((1 << 48) - 1), _MINTED, shard_id, int.from_bytes(random_bytes(8), "big") & _RANDOM_MASK)


def derive(tenant_id: str, purpose: str, seed: bytes, shard_count: int) -> bytes:
    """The id that this seed always gives within a tenant; its shard is named by the hash.

    `purpose` keeps kinds of seeds apart: "token" for client tokens, "destination:ARN" for chained events.
    """
    digest = hashlib.sha256(b"\x00".join((tenant_id.encode(), purpose.encode(), seed))).digest()
    head = int.from_bytes(digest[:6], "big")
    tail = int.from_bytes(digest[6:14], "big") & _RANDOM_MASK
    shard_id = int.from_bytes(digest[14:22], "big") % shard_count
    return _pack(head, _DERIVED, shard_id, tail)


def shard_of(request_id: bytes) -> int:
    """The shard that the id encodes. ValueError: not an id of this project."""
    if len(request_id) != REQUEST_ID_BYTES or request_id[6] >> 4 not in (_MINTED, _DERIVED):
        raise ValueError("not a request id of Evenflow: 16 bytes of version 7 or 8 are expected")
    return ((request_id[6] & 0xF) << 12) | (request_id[7] << 4) | ((request_id[8] >> 2) & 0xF)


def is_derived(request_id: bytes) -> bool:
    """Whether the id came from a hash (a client token or a chain) rather than from the clock."""
    return request_id[6] >> 4 == _DERIVED


def to_text(request_id: bytes) -> str:
    """The id as people and AWS's tools see it: a UUID in lower case."""
    h = request_id.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def from_text(text: str) -> bytes:
    """The id from its UUID text. ValueError: no such form, or not an id of this project."""
    request_id = uuid.UUID(text.strip()).bytes
    shard_of(request_id)
    return request_id


def new_incarnation() -> str:
    """A name for one start of a process that no other start has."""
    return os.urandom(8).hex()
