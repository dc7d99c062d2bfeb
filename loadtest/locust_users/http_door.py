"""The HTTP door as the users call it: the AWS Lambda API over kept-alive connections of geventhttpclient."""

import json
import uuid
from typing import Any

import botocore.auth
import botocore.awsrequest
import botocore.credentials
from geventhttpclient import HTTPClient
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS

from loadtest.locust_users.answers import Answer, NotTaken, check_error_type

EVENT = "Event"
REQUEST_RESPONSE = "RequestResponse"
_SERVICE = "lambda"
_REGION = "us-east-1"
_ACCEPTED = 202
_OK = 200
# botocore ships no type information.
_auth: Any = botocore.auth
_request: Any = botocore.awsrequest.AWSRequest
_credentials: Any = botocore.credentials.Credentials


class HttpDoor:
    """Sends to one function over at most `connections` at once; more wait for one."""

    def __init__(self, url: str, function: str, connections: int, answer_seconds: float) -> None:
        """`url`: http://HOST:PORT."""
        self._url = url.rstrip("/")
        self._path = f"/2015-03-31/functions/{function}/invocations"
        self._client = HTTPClient.from_url(
            self._url, concurrency=connections, connection_timeout=answer_seconds, network_timeout=answer_seconds
        )
        self._signers: dict[str, Any] = {}

    def send(self, kind: str, payload: bytes, key: str) -> Answer:
        """One event, EVENT or REQUEST_RESPONSE; key: "ID:SECRET", or empty for no signature. NotTaken: it failed."""
        headers = {"X-Amz-Invocation-Type": kind, "Content-Type": "application/json"}
        if key:
            self._sign(headers, payload, key)
        try:
            response = self._client.request("POST", self._path, body=payload, headers=headers)
            body = bytes(response.read())
        except FAILURE_EXCEPTIONS as e:
            raise NotTaken(f"connection: {type(e).__name__}") from e
        if response.status_code != (_ACCEPTED if kind == EVENT else _OK):
            raise NotTaken(f"{response.status_code} {response.get('x-amzn-errortype') or ''}".strip())
        if response.get("x-amz-function-error"):
            check_error_type(_error_type(body))
        if kind != EVENT:
            return Answer(size_bytes=len(body))
        return Answer((uuid.UUID(str(response.get("x-amzn-requestid"))).bytes,), len(body))

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def _sign(self, headers: dict[str, str], payload: bytes, key: str) -> None:
        signer = self._signers.get(key)
        if signer is None:
            key_id, _, secret = key.partition(":")
            signer = self._signers[key] = _auth.SigV4Auth(_credentials(key_id, secret), _SERVICE, _REGION)
        request = _request(method="POST", url=self._url + self._path, data=payload, headers=headers)
        signer.add_auth(request)
        headers.update(request.headers.items())


def _error_type(body: bytes) -> str:
    try:
        told = json.loads(body)
    except ValueError:
        return "no JSON"
    return str(told.get("errorType", "unnamed")) if isinstance(told, dict) else "unnamed"
