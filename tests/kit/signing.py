"""Requests signed by botocore's own signers, as they arrive on the wire."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials

# botocore ships no type information.
_auth: Any = botocore.auth
_request: Any = botocore.awsrequest.AWSRequest
_credentials: Any = botocore.credentials.Credentials
HOST = "127.0.0.1:9000"
REGION = "eu-central-1"


@dataclass
class WireRequest:
    """What a door sees of one request; header names in lower case."""

    method: bytes
    raw_path: bytes
    raw_query: bytes
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""

    @property
    def url(self) -> bytes:
        """Path and query as in the request line."""
        return self.raw_path + (b"?" + self.raw_query if self.raw_query else b"")


def sign(
    key_id: str,
    secret: str,
    *,
    method: str = "POST",
    path: str = "/",
    params: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    token: str | None = None,
    at: datetime | None = None,
    expires_seconds: int | None = None,
    service: str = "lambda",
    host: str = HOST,
) -> WireRequest:
    """A signed request; presigned when it expires. `path`: as it stands in the URL, encoded; `params`: not encoded."""
    request = _request(method, f"http://{host}{path}", headers or {}, body, params or {})
    credentials = _credentials(key_id, secret, token)
    if expires_seconds is None:
        signer = _auth.SigV4Auth(credentials, service, REGION)
    else:
        signer = _auth.SigV4QueryAuth(credentials, service, REGION, expires=expires_seconds)
    with mock.patch("botocore.auth.get_current_datetime", return_value=at or datetime.now(UTC)):
        signer.add_auth(request)
    prepared = request.prepare()
    parts = urlsplit(prepared.url)
    wire = {
        name.lower().encode(): value if isinstance(value, bytes) else value.encode("latin-1")
        for name, value in prepared.headers.items()
    }
    wire.setdefault(b"host", host.encode())
    return WireRequest(method.encode(), parts.path.encode(), parts.query.encode(), wire, body)
