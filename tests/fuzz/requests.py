"""Makes HTTP requests out of AWS's model: nearly right, right, and nonsense. All of it follows from one Random."""

import base64
import json
import math
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote

from services.frontend.lambda_api.api import HANDLERS
from services.frontend.lambda_api.shapes import Operation, Shape, service_model
from tests.integration.frontend.lambda_api.conftest import ACCOUNT, ROLE, make_zip

NAMES = [f"fuzz-{number}" for number in range(4)]
MAX_DEPTH = 6
# Whoever asks for these sends the door to S3, and the answer is S3's.
_LEFT_OUT = frozenset(("S3Bucket", "S3Key"))
_PACKAGE = make_zip("def handler(event, context):\n    return event\n")
_BROKEN_PACKAGE = make_zip("def handler(:\n")
# What one machine's fleet has not: taken all at once, what is left is a 503 in good order, and no fault of the door.
_MODEST: dict[str, tuple[Any, ...]] = {
    "ProvisionedConcurrentExecutions": (0, 1, -1, 2**31 - 1, 2**31, "1", None),
    "MemorySize": (0, 127, 128, 129, 256, 10_241, 32_769, 2**31, "128", None),
}
# No function is created without them, whatever the model requires.
_NEEDED = ("Runtime", "Handler")
_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "PROPFIND")
_TEXTS = (
    "", " ", "a", "$LATEST", "1", "live", "0", "-1", "x" * 300, "ä€😀", "\x00", "%00", "../..", "null", "{}", "\ud800",
    "arn:aws:lambda:us-east-1:123456789012:function:fuzz-1", "arn:aws:sqs:us-east-1:123456789012:q", "*", "a:b:c:d",
)  # fmt: skip
_NUMBERS = (0, 1, 2, -1, 3, 60, 100, 128, 900, 1_000, 10_240, 2**31 - 1, 2**31, 2**63, -(2**63), 10**30)
_ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1.5,
    -1,
    "",
    "text",
    [],
    {},
    [None],
    {"a": None},
    [[[]]],
    math.nan,
)
# Likely values of members by their names, so that many requests get beyond their bounds.
_LIKELY: dict[str, tuple[Any, ...]] = {
    "FunctionName": tuple(NAMES),
    "Qualifier": ("1", "live", "$LATEST"),
    "FunctionVersion": ("1", "$LATEST", "ALL"),
    "Name": ("live", "other"),
    "Role": (ROLE,),
    "Runtime": ("python3.11",),
    "Handler": ("app.handler",),
    "Timeout": (1, 3),
    "MemorySize": (128, 256),
    "LayerName": ("fuzz-layer",),
    "VersionNumber": (1, 2),
    "StatementId": ("s1", "s2"),
    "Action": ("lambda:InvokeFunction",),
    "Principal": ("*", "s3.amazonaws.com"),
    "EventSourceArn": (f"arn:aws:sqs:us-east-1:{ACCOUNT}:fuzz",),
    "Resource": tuple(f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}" for name in NAMES),
    "ReservedConcurrentExecutions": (0, 1, 5),
    "ProvisionedConcurrentExecutions": (1,),
    "MaximumRetryAttempts": (0,),
    "ZipFile": (_PACKAGE,),
}


@dataclass(slots=True)
class FuzzedRequest:
    """One request; `raw` stands for all of it where it is no HTTP."""

    method: str = "GET"
    url: str = "/"
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    body: bytes = b""
    raw: bytes = b""

    def encode(self) -> bytes:
        """As it goes over the wire."""
        if self.raw:
            return self.raw
        head = f"{self.method} {self.url} HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode("utf-8", "surrogatepass")
        lines = b"".join(name.encode() + b": " + value + b"\r\n" for name, value in self.headers)
        length = f"Content-Length: {len(self.body)}\r\n\r\n".encode() if self.body or self.method != "GET" else b"\r\n"
        return head + lines + length + self.body


class Fuzzer:
    """Makes requests; `url_ids`: function URLs that exist."""

    def __init__(self, random: Random, url_ids: tuple[str, ...] = ()) -> None:
        self._random = random
        self._url_ids = url_ids or ("none",)
        self._operations = sorted(service_model().operations.values(), key=lambda operation: operation.name)
        self._weights = [_weight(operation.name) for operation in self._operations]

    def next(self) -> FuzzedRequest:
        """One more."""
        chance = self._random.random()
        if chance < 0.75:
            request = self._by_model()
        elif chance < 0.85:
            request = self._at_a_url()
        elif chance < 0.97:
            request = FuzzedRequest(self._random.choice(_METHODS), self._path(), [], self._bytes())
        else:
            return FuzzedRequest(raw=self._no_http())
        request.headers += self._headers()
        return request

    def _by_model(self) -> FuzzedRequest:
        operation = self._random.choices(self._operations, self._weights)[0]
        # With every member at random hardly a request would get beyond the first refusal.
        share = self._random.choice((0.0, 0.05, 0.1, 0.4))
        labels: dict[str, str] = {}
        query: list[str] = []
        headers: list[tuple[str, bytes]] = []
        document: dict[str, Any] = {}
        body = b""
        for name, member in operation.input.members.items() if operation.input else ():
            is_needed = operation.input is not None and (name in operation.input.required or name in _NEEDED)
            if name in _LEFT_OUT or not (is_needed or self._random.random() < share):
                continue
            value = self._value(member.shape, name, 0)
            if member.location == "uri":
                labels[name] = _quote(value, "" if self._random.random() < 0.9 else "/%?")
            elif member.location == "querystring":
                query.append(f"{member.wire_name}={_quote(value)}")
            elif member.location == "header":
                headers.append((member.wire_name, _header_bytes(value)))
            elif operation.input is not None and operation.input.payload == name:
                body = self._bytes()
            else:
                document[name] = value
        if document:
            body = self._broken(json.dumps(document, default=_encode).encode())
        return FuzzedRequest(self._method(operation), self._url(operation, labels, query), headers, body)

    def _method(self, operation: Operation) -> str:
        return operation.method if self._random.random() < 0.95 else self._random.choice(_METHODS)

    def _url(self, operation: Operation, labels: dict[str, str], query: list[str]) -> str:
        path, _, fixed = operation.uri.partition("?")
        for name, value in labels.items():
            path = path.replace("{" + name + "}", value or "-")
        if self._random.random() < 0.02:
            query += [f"a{number}=1" for number in range(200)]
        fields = "&".join([part for part in (fixed, *query) if part])
        return f"{path}?{fields}" if fields else path

    def _value(self, shape: Shape, name: str, depth: int) -> Any:
        if name in _MODEST:
            return self._random.choice(_LIKELY[name] if self._random.random() < 0.8 else _MODEST[name])
        chance = self._random.random()
        if chance < 0.03:
            return self._random.choice(_ODD_VALUES)
        if name in _LIKELY and chance < 0.93:
            return self._random.choice(_LIKELY[name])
        if depth > MAX_DEPTH:
            return None
        match shape.kind:
            case "structure":
                return {
                    inner: self._value(member.shape, inner, depth + 1)
                    for inner, member in shape.members.items()
                    if inner not in _LEFT_OUT
                    and (inner in shape.required or inner in _LIKELY or self._random.random() < 0.12)
                }
            case "list":
                assert shape.member is not None
                return [self._value(shape.member, "", depth + 1) for _ in range(self._random.choice((0, 1, 1, 2, 6)))]
            case "map":
                assert shape.member is not None
                count = self._random.choice((0, 1, 1, 3))
                return {self._random.choice(_TEXTS): self._value(shape.member, "", depth + 1) for _ in range(count)}
            case "string":
                return self._random.choice(shape.enum if shape.enum and chance < 0.8 else _TEXTS)
            case "boolean":
                return self._random.random() < 0.5
            case "blob":
                return self._random.choice((_PACKAGE, _BROKEN_PACKAGE, b"", b"PK\x03\x04", self._bytes()))
            case _:
                bounds = [bound for bound in (shape.min, shape.max) if bound is not None]
                near = [int(bound) + step for bound in bounds for step in (-1, 0, 1)]
                return self._random.choice(near if near and self._random.random() < 0.7 else _NUMBERS)

    def _at_a_url(self) -> FuzzedRequest:
        url_id = self._random.choice((*self._url_ids, "none"))
        path = self._path()
        if self._random.random() < 0.5:
            return FuzzedRequest(self._random.choice(_METHODS), f"/_evenflow/url/{url_id}{path}", [], self._bytes())
        host = (f"{url_id}.lambda-url.us-east-1.localhost").encode()
        return FuzzedRequest(self._random.choice(_METHODS), path, [("Host", host)], self._bytes())

    def _path(self) -> str:
        parts = [_quote(self._random.choice(_TEXTS)) for _ in range(self._random.randrange(4))]
        begin = self._random.choice(
            ("/", "/2015-03-31/functions/", "/2018-10-31/layers/", "/_evenflow/", "/_evenflow/package/")
        )
        query = self._random.choice(("", "", "?", "?a=%zz", "?a&b=1&&=", "?Qualifier=1&Qualifier=2", "?" + "x" * 500))
        return begin + "/".join(parts) + query

    def _headers(self) -> list[tuple[str, bytes]]:
        found: list[tuple[str, bytes]] = []
        pool: tuple[tuple[str, tuple[bytes, ...]], ...] = (
            ("Content-Type", (b"application/json", b"text/plain", b"\xff", b"application/octet-stream")),
            ("X-Amz-Invocation-Type", (b"Event", b"DryRun", b"RequestResponse", b"Nonsense", b"")),
            ("X-Amz-Log-Type", (b"Tail", b"None", b"x")),
            ("X-Amz-Client-Context", (b"e30=", b"%%%", b"A" * 4_000)),
            (
                "Authorization",
                (b"AWS4-HMAC-SHA256 Credential=AK/20260101/eu-west-1/lambda/aws4_request", b"x", b"\xc3"),
            ),
            ("X-Amz-Date", (b"20260101T000000Z", b"never")),
            ("X-Amz-Security-Token", (b"EVFN.default.fuzz-1", b"\xff\xfe")),
            ("X-Amzn-Trace-Id", (b"Root=1-5759e988-bd862e3fe1be46a994272793;Lineage=9:abc", b"Root=;;;", b"x" * 2_000)),
            ("traceparent", (b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01", b"garbage", b"\xff")),
            ("Origin", (b"https://example.com", b"null")),
            ("Cookie", (b"a=b; c", b";;;")),
            ("Expect", (b"100-continue",)),
        )
        for name, values in pool:
            if self._random.random() < 0.08:
                found.append((name, self._random.choice(values)))
        return found

    def _bytes(self) -> bytes:
        return self._random.choice(
            (
                b"",
                b"{}",
                b"null",
                b'"x"',
                b"{",
                b"\xff\xfe",
                b"[" * 500,
                b'{"a": NaN}',
                b"\x00" * 100,
                self._random.randbytes(40),
            )
        )

    def _broken(self, body: bytes) -> bytes:
        if self._random.random() > 0.06 or not body:
            return body
        at = self._random.randrange(len(body))
        return self._random.choice((body[:at], body[:at] + b"\xff" + body[at:], body + body, b"[" + body + b"]"))

    def _no_http(self) -> bytes:
        return self._random.choice(
            (
                self._random.randbytes(60) + b"\r\n\r\n",
                b"GET / HTTP/9.9\r\n\r\n",
                b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n\r\n",
                b"GET / HTTP/1.1\r\nA: " + b"b" * 40_000 + b"\r\n\r\n",
                b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
                b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
                b"\r\n\r\n\r\n\r\n",
            )
        )


def _quote(value: Any, safe: str = "") -> str:
    return quote(str(value), safe=safe, errors="surrogatepass")


def _weight(name: str) -> float:
    """How often an operation comes: what is not offered seldom, what creates more often than what deletes."""
    if name == "CreateFunction":
        return 6.0
    if name in ("DeleteFunction", "DeleteAlias", "DeleteFunctionUrlConfig"):
        return 0.03
    return 1.0 if name in HANDLERS or name.startswith("Invoke") else 0.1


def _encode(value: Any) -> str:
    assert isinstance(value, bytes)
    return base64.b64encode(value).decode()


def _header_bytes(value: Any) -> bytes:
    text = str(value).encode("utf-8", "replace")
    # What would end the header is for `_no_http`.
    return text.translate(None, b"\r\n\0")
