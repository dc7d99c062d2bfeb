"""POST requests as a server on the loopback sends them."""

import asyncio
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class HasDoor(Protocol):
    """Something with a frontend that serves."""

    @property
    def frontend(self) -> Any: ...


async def post(rig: HasDoor, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """Post bytes as they are, anything else as JSON."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await asyncio.to_thread(_post, rig.frontend.http.port, path, sent, dict(headers or {}))


def _post(port: int, path: str, body: bytes, headers: dict[str, str]) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        return Answer(response.status, response.read())
    finally:
        connection.close()
