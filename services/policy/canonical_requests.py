"""A request in AWS's canonical form: what Signature Version 4 is a signature of. Pure.

Everything is taken from the wire as bytes and decoded no more than the door decodes it, so that two requests with the
same canonical form are the same request to the door. Source: AWS, "Create a signed AWS API request".
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote, unquote_to_bytes

UNSIGNED_PAYLOAD = b"UNSIGNED-PAYLOAD"
SIGNATURE_PARAMETER = "X-Amz-Signature"
MAX_REMEMBERED_PATHS = 512
_UNRESERVED = "-_.~"


@lru_cache(MAX_REMEMBERED_PATHS)
def canonical_path(raw_path: bytes, *, encodes_twice: bool = True) -> str:
    """The path without dot segments and empty ones, encoded once more than on the wire (S3 alone does neither)."""
    if not encodes_twice:
        return raw_path.decode("latin-1") or "/"
    kept: list[bytes] = []
    for segment in raw_path.split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    path = b"/" + b"/".join(kept)
    # A path that ends in a slash keeps it.
    if kept and raw_path.endswith(b"/"):
        path += b"/"
    return quote(path, safe="/~")


def query_pairs(raw_query: bytes) -> list[tuple[bytes, bytes]]:
    """Names and values in their order, decoded once. A "+" is a space: so the doors read it."""
    pairs = []
    for part in raw_query.split(b"&"):
        if part:
            name, _, value = part.partition(b"=")
            pairs.append((_decode(name), _decode(value)))
    return pairs


def canonical_query(pairs: Iterable[tuple[bytes, bytes]], *, is_presigned: bool) -> str:
    """Encoded anew and sorted; the signature of a presigned URL is no part of what it signs."""
    encoded = sorted((quote(name, safe=_UNRESERVED), quote(value, safe=_UNRESERVED)) for name, value in pairs)
    left_out = SIGNATURE_PARAMETER if is_presigned else None
    return "&".join(f"{name}={value}" for name, value in encoded if name != left_out)


def canonical_headers(headers: Mapping[bytes, bytes], signed: Iterable[bytes]) -> bytes | None:
    """The signed headers, one a line, runs of spaces folded; None: one of them is not there."""
    lines = []
    for name in signed:
        value = headers.get(name)
        if value is None:
            return None
        lines.append(b"%b:%b\n" % (name, b" ".join(value.split())))
    return b"".join(lines)


def canonical_request(
    method: bytes, path: str, query: str, header_lines: bytes, signed: Iterable[bytes], payload_hash: bytes
) -> bytes:
    """The whole of it; `payload_hash` in hexadecimal, or UNSIGNED_PAYLOAD."""
    return b"\n".join((method, path.encode(), query.encode(), header_lines, b";".join(signed), payload_hash))


def payload_hash(body: bytes) -> bytes:
    """SHA-256 of a body in hexadecimal."""
    return sha256(body).hexdigest().encode()


def _decode(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" ")) if b"%" in text or b"+" in text else text
