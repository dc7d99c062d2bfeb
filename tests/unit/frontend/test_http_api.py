"""The bound of the API's requests at the door, and links to packages."""

import asyncio
from typing import Any, cast

import pytest

from services.frontend.http_api import MAX_API_REQUESTS, ApiDoor
from services.frontend.http_protocol import HttpConnection, HttpRequest
from services.frontend.http_replies import Replies
from services.frontend.lambda_api.api import ApiRequest, ApiResponse, LambdaApi
from services.frontend.lambda_api.control_calls import ControlCalls
from services.frontend.lambda_api.errors import ApiError
from services.frontend.lambda_api.links import LINK_SECONDS, Links, Package
from services.policy.permissions import Caller
from services.shared.clock import SystemClock
from services.shared.errors import EvenflowError, Reason
from tests.kit.waiting import eventually

CALLER = Caller("default", "123456789012", "arn:aws:iam::123456789012:root")


class SlowApi:
    """An API whose operations end when a test says so."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.requests: list[ApiRequest] = []

    async def respond(self, request: ApiRequest) -> ApiResponse:
        self.requests.append(request)
        await self.may_end.wait()
        return ApiResponse(200, [], b"{}")


class Answers:
    """A connection that keeps what it is answered."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []

    def answer(self, _request: HttpRequest, head: bytes, _body: bytes = b"") -> None:
        self.heads.append(head)


def make_door(api: SlowApi) -> tuple[ApiDoor, Replies]:
    clock = SystemClock()
    replies = Replies(cast(Any, None), clock)
    door = ApiDoor(cast(LambdaApi, api), cast(ControlCalls, None), Links("t" * 40), replies, clock, "127.0.0.1:9000")
    return door, replies


async def test_more_requests_than_the_bound_are_throttled() -> None:
    """429 beyond 64 in hand; what is owed is counted; the next is taken once one has ended; none while draining."""
    api, answers = SlowApi(), Answers()
    door, replies = make_door(api)
    connection = cast(HttpConnection, answers)
    for _ in range(MAX_API_REQUESTS):
        door.handle(connection, HttpRequest(0.0, b"/2015-03-31/functions", b"GET"), CALLER)
    assert replies.owed == MAX_API_REQUESTS
    with pytest.raises(ApiError) as caught:
        door.handle(connection, HttpRequest(0.0, b"/2015-03-31/functions", b"GET"), CALLER)
    assert (caught.value.status, caught.value.reason) == (429, "CallerRateLimitExceeded")
    api.may_end.set()
    await eventually(lambda: replies.owed == 0)
    assert len(answers.heads) == MAX_API_REQUESTS and all(b"200 OK" in head for head in answers.heads)
    door.handle(connection, HttpRequest(0.0, b"/2015-03-31/functions", b"GET"), CALLER)
    replies.is_draining = True
    with pytest.raises(EvenflowError) as refused:
        door.handle(connection, HttpRequest(0.0, b"/2015-03-31/functions", b"GET"), CALLER)
    assert refused.value.reason == Reason.ERROR_REASON_DRAINING


async def test_the_region_and_the_door_are_those_that_the_caller_named() -> None:
    """From the signature's scope and the Host header; nonsense in either is passed over."""
    api = SlowApi()
    api.may_end.set()
    door, replies = make_door(api)
    scope = b"AWS4-HMAC-SHA256 Credential=AKIA/20260101/%b/lambda/aws4_request, SignedHeaders=host"
    for host, region in (
        (b"door.example.com:80", b"eu-west-1"),
        (b"a/../b", b"nowhere"),
        (b"[::1]:9000", b"us-gov-west-1"),
    ):
        headers = {b"host": host, b"authorization": scope % region}
        door.handle(cast(HttpConnection, Answers()), HttpRequest(0.0, b"/", b"GET", headers), CALLER)
    await eventually(lambda: replies.owed == 0)
    assert [(request.authority, request.region) for request in api.requests] == [
        ("door.example.com:80", "eu-west-1"),
        ("127.0.0.1:9000", ""),
        ("[::1]:9000", "us-gov-west-1"),
    ]


def test_a_link_leads_to_its_package_for_ten_minutes() -> None:
    """Every door of the fleet reads it; another fleet's, a changed one and a late one lead nowhere."""
    package = Package(b"\1" * 32, 1_000)
    link = Links("t" * 40).make("127.0.0.1:9000", package, 1_000_000)
    token = link.rpartition("/")[2]
    assert Links("t" * 40).read(token, 1_000_000 + LINK_SECONDS * 1_000) == package
    assert Links("t" * 40).read(token, 1_000_000 + LINK_SECONDS * 1_000 + 1_000) is None
    assert Links("u" * 40).read(token, 1_000_000) is None
    for at in range(len(token)):
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        # The last character's lowest bits are padding, which decoding drops.
        assert at == len(token) - 1 or Links("t" * 40).read(changed, 1_000_000) is None
    for nonsense in ("", "ä", "%", "A" * 300):
        assert Links("t" * 40).read(nonsense, 1_000_000) is None
