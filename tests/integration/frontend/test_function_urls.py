"""Function URLs: what the function gets, what the caller gets."""

import asyncio
import base64
import dataclasses
import http.client
import json
from typing import Any

import pytest
from evenflow.common.v1 import errors_pb2, event_pb2
from evenflow.control.v1 import resources_pb2

from services.shared.errors import Reason
from tests.integration.frontend.conftest import ACCESS_KEY, Rig, make_function, resource
from tests.kit.signing import sign

URL_ID = "abcdefghijklmnopqrstuvwxyz234567"
HOST = f"{URL_ID}.lambda-url.us-east-1.localhost:9000"
ORIGIN = {"Origin": "https://example.com"}


@dataclasses.dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, list[str]]
    body: bytes

    def header(self, name: str) -> str:
        return ",".join(self.headers.get(name, []))


def for_all(**more: str) -> resources_pb2.PermissionStatement:
    """What AWS's console adds for a URL of auth type NONE."""
    fields = {"principal": "*", "function_url_auth_type": "NONE", **more}
    return resources_pb2.PermissionStatement(statement_id="all", action="lambda:InvokeFunctionUrl", **fields)


def put_url(rig: Rig, **more: Any) -> None:
    """Give the function a URL that is open to all, or to who signs."""
    url = resources_pb2.FunctionUrl(**{"url_id": URL_ID, "auth_type": "NONE", "invoke_mode": "BUFFERED", **more})
    rig.configuration.put(resource(function=make_function("echo", urls=[url], permissions=[for_all()])))


async def ask(
    rig: Rig, method: str = "GET", path: str = "/", body: bytes = b"", headers: dict[str, str] | None = None
) -> Answer:
    """One request at the URL."""

    def work() -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", rig.frontend.http.port, timeout=20)
        try:
            connection.request(method, path, body or None, {"Host": HOST, **(headers or {})})
            response = connection.getresponse()
            found: dict[str, list[str]] = {}
            for name, value in response.getheaders():
                found.setdefault(name.lower(), []).append(value)
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    return await asyncio.to_thread(work)


def answers(
    rig: Rig, result: Any, status: "event_pb2.OutcomeStatus.ValueType" = event_pb2.OUTCOME_STATUS_SUCCEEDED
) -> None:
    """What the function returns."""
    payload = result if isinstance(result, bytes) else json.dumps(result).encode()
    rig.runtime.behave = lambda _i: event_pb2.Outcome(status=status, response_payload=payload)


def event_of(rig: Rig) -> Any:
    """What the function got last."""
    return json.loads(rig.runtime.seen[-1].payload)


async def test_the_event_is_payload_format_2(rig: Rig) -> None:
    """Paths and queries as sent, parameters decoded and joined, cookies apart, headers in lower case."""
    put_url(rig)
    await ask(
        rig,
        "POST",
        "/my/p%20ath?a=1&a=2&b=%C3%A4&c",
        b'{"x":1}',
        {"Content-Type": "application/json", "Cookie": "k=v; l=w", "X-Some": "Thing", "User-Agent": "test"},
    )
    event = event_of(rig)
    context = event.pop("requestContext")
    headers = event.pop("headers")
    assert event == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/my/p%20ath",
        "rawQueryString": "a=1&a=2&b=%C3%A4&c",
        "cookies": ["k=v", "l=w"],
        "queryStringParameters": {"a": "1,2", "b": "ä", "c": ""},
        "body": '{"x":1}',
        "isBase64Encoded": False,
    }
    assert (headers["x-some"], headers["host"]) == ("Thing", HOST) and "cookie" not in headers
    assert (headers["x-forwarded-for"], headers["x-forwarded-proto"]) == ("127.0.0.1", "http")
    assert context["http"] == {
        "method": "POST",
        "path": "/my/p%20ath",
        "protocol": "HTTP/1.1",
        "sourceIp": "127.0.0.1",
        "userAgent": "test",
    }
    assert (context["apiId"], context["domainPrefix"]) == (URL_ID, URL_ID)
    assert context["domainName"] == HOST.partition(":")[0]
    assert (context["accountId"], context["stage"], context["routeKey"]) == ("anonymous", "$default", "$default")
    assert "authorizer" not in context and context["timeEpoch"] > 1_700_000_000_000


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("text/plain", b"words", ("words", False)),
        ("application/xml; charset=utf-8", b"<a/>", ("<a/>", False)),
        ("application/vnd.x+json", b"{}", ("{}", False)),
        ("application/octet-stream", b"\0\1", (base64.b64encode(b"\0\1").decode(), True)),
        ("application/x-www-form-urlencoded", b"a=b", (base64.b64encode(b"a=b").decode(), True)),
        ("text/plain", b"\xff", (base64.b64encode(b"\xff").decode(), True)),
    ],
)
async def test_bodies_are_text_or_base64(rig: Rig, kind: str, body: bytes, expected: tuple[str, bool]) -> None:
    """By their type, and only where they are text."""
    put_url(rig)
    await ask(rig, "POST", "/", body, {"Content-Type": kind})
    event = event_of(rig)
    assert (event["body"], event["isBase64Encoded"]) == expected


async def test_a_result_says_the_response(rig: Rig) -> None:
    """Status, headers, cookies and a body in base64; what frames the response stays the door's."""
    put_url(rig)
    answers(
        rig,
        {
            "statusCode": 201,
            "headers": {"X-One": "1", "X-Number": 2, "Content-Length": "9999", "Connection": "close"},
            "cookies": ["a=b; Secure", "c=d"],
            "body": base64.b64encode(b"\0bytes").decode(),
            "isBase64Encoded": True,
        },
    )
    answer = await ask(rig)
    assert (answer.status, answer.body) == (201, b"\0bytes")
    assert (answer.header("x-one"), answer.header("x-number")) == ("1", "2")
    assert answer.headers["set-cookie"] == ["a=b; Secure", "c=d"] and answer.header("content-length") == "6"
    assert answer.header("content-type") == "application/json" and answer.header("x-amzn-requestid")


@pytest.mark.parametrize("result", [{"a": 1}, "text", 5, None, [1], {"body": "no status"}])
async def test_any_other_result_is_the_body(rig: Rig, result: Any) -> None:
    """200 and the JSON itself."""
    put_url(rig)
    answers(rig, result)
    answer = await ask(rig)
    assert answer.status == 200 and json.loads(answer.body) == result
    assert answer.header("content-type") == "application/json"


@pytest.mark.parametrize(
    "result",
    [
        {"statusCode": 99},
        {"statusCode": 600},
        {"statusCode": True},
        {"statusCode": "abc"},
        {"statusCode": 200, "headers": []},
        {"statusCode": 200, "headers": {"bad name": "x"}},
        {"statusCode": 200, "headers": {"x": "a\r\nSet-Cookie: b"}},
        {"statusCode": 200, "cookies": "a"},
        {"statusCode": 200, "body": {"a": 1}},
        {"statusCode": 200, "headers": {"x": "\ud800"}},
        b"no JSON",
        {"statusCode": 200, "body": "%%%", "isBase64Encoded": True},
    ],
)
async def test_a_malformed_response_is_502(rig: Rig, result: Any) -> None:
    """Nothing of it reaches the caller."""
    put_url(rig)
    answers(rig, result)
    answer = await ask(rig)
    assert (answer.status, answer.body) == (502, b"Internal Server Error") and "set-cookie" not in answer.headers


async def test_a_functions_error_is_502_and_a_throttle_429(rig: Rig) -> None:
    """Neither tells what the function said."""
    put_url(rig)
    answers(rig, {"errorMessage": "secret"}, event_pb2.OUTCOME_STATUS_FUNCTION_ERROR)
    answer = await ask(rig)
    assert (answer.status, answer.body) == (502, b"Internal Server Error")
    refusal = errors_pb2.ErrorDetail(reason=Reason.ERROR_REASON_CONCURRENCY_EXCEEDED)
    rig.runtime.behave = lambda _i: event_pb2.Outcome(status=event_pb2.OUTCOME_STATUS_THROTTLED, refusal=refusal)
    assert (await ask(rig)).status == 429


async def test_requests_over_6_mb_are_413(rig: Rig) -> None:
    """Counted as the function gets them, and nothing runs."""
    put_url(rig)
    for size in (6_291_457, 6_291_000):
        answer = await ask(rig, "POST", "/", b"x" * size, {"Content-Type": "text/plain"})
        assert answer.status == 413
    assert not rig.runtime.seen


async def test_cors(rig: Rig) -> None:
    """A preflight is answered without the function; the URL's rules stand for what the function says."""
    rules = resources_pb2.Cors(
        allow_origins=["https://example.com"], allow_methods=["GET"], allow_headers=["x-a"], max_age_seconds=60
    )
    put_url(rig, cors=rules)
    asked = {**ORIGIN, "Access-Control-Request-Method": "GET"}
    answer = await ask(rig, "OPTIONS", headers=asked)
    assert answer.status == 200 and not rig.runtime.seen
    assert answer.header("access-control-allow-origin") == "https://example.com"
    assert (answer.header("access-control-allow-methods"), answer.header("access-control-max-age")) == ("GET", "60")
    answer = await ask(rig, "OPTIONS", headers={**asked, "Origin": "https://evil.com"})
    assert answer.status == 200 and not answer.header("access-control-allow-origin")
    answers(rig, {"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "*"}, "body": "x"})
    assert (await ask(rig, headers=ORIGIN)).headers["access-control-allow-origin"] == ["https://example.com"]
    put_url(rig)
    assert (await ask(rig, headers=ORIGIN)).headers["access-control-allow-origin"] == ["*"]
    await ask(rig, "OPTIONS", headers=asked)
    assert event_of(rig)["requestContext"]["http"]["method"] == "OPTIONS"


async def test_a_stream_comes_in_chunks(rig: Rig) -> None:
    """RESPONSE_STREAM: the payload as it is, chunked."""
    put_url(rig, invoke_mode="RESPONSE_STREAM")
    large = b'"' + b"x" * 200_000 + b'"'
    answers(rig, large)
    answer = await ask(rig)
    assert (answer.status, answer.body, answer.header("transfer-encoding")) == (200, large, "chunked")


async def test_a_url_by_path(rig: Rig) -> None:
    """For who cannot resolve names below localhost; unknown ids are 404."""
    put_url(rig)
    plain = {"Host": f"127.0.0.1:{rig.frontend.http.port}"}
    answer = await ask(rig, "GET", f"/_evenflow/url/{URL_ID}/a/b?c=d", headers=plain)
    assert answer.status == 200 and event_of(rig)["rawPath"] == "/a/b" and event_of(rig)["rawQueryString"] == "c=d"
    assert (await ask(rig, "GET", f"/_evenflow/url/{URL_ID}", headers=plain)).status == 200
    assert event_of(rig)["rawPath"] == "/"
    assert (await ask(rig, "GET", "/_evenflow/url/none/", headers=plain)).status == 404
    assert (await ask(rig, headers={"Host": "none.lambda-url.us-east-1.localhost"})).status == 404


async def test_a_path_of_the_api_at_a_url_is_the_functions(rig: Rig) -> None:
    """The Host header decides first."""
    put_url(rig)
    assert (await ask(rig, "POST", "/2015-03-31/functions/theirs/invocations")).status == 200
    assert event_of(rig)["rawPath"] == "/2015-03-31/functions/theirs/invocations"


@pytest.mark.parametrize(
    ("statement", "status"),
    [
        (None, 403),
        (for_all(), 200),
        (for_all(function_url_auth_type=""), 200),
        (for_all(function_url_auth_type="AWS_IAM"), 403),
        (for_all(qualifier="live"), 403),
        (for_all(principal="default"), 403),
        (for_all(principal="anonymous"), 403),
        (for_all(principal=""), 403),
        (for_all(source_account="123456789012"), 403),
    ],
)
async def test_a_url_is_open_to_all_only_where_the_policy_says_so(
    rig: Rig, statement: resources_pb2.PermissionStatement | None, status: int
) -> None:
    """Auth type NONE alone opens nothing, as at AWS; who is told so learns where to look."""
    url = resources_pb2.FunctionUrl(url_id=URL_ID, auth_type="NONE")
    permissions = [statement] if statement is not None else []
    rig.configuration.put(resource(function=make_function("echo", urls=[url], permissions=permissions)))
    answer = await ask(rig)
    assert (answer.status, len(rig.runtime.seen)) == (status, int(status == 200))
    if status == 403:
        assert json.loads(answer.body)["Message"].startswith("Forbidden. For troubleshooting Function URL")


async def test_a_url_that_is_gone_is_404(rig: Rig) -> None:
    """With its function's next form, or with the function."""
    put_url(rig)
    assert (await ask(rig)).status == 200
    rig.configuration.put(resource(function=make_function("echo")))
    assert (await ask(rig)).status == 404


async def test_an_iam_url_wants_a_signature(rig: Rig) -> None:
    """Unsigned requests, and signatures that prove nothing, are refused; nothing runs."""
    put_url(rig, auth_type="AWS_IAM")
    assert (await ask(rig)).status == 403
    scope = f"{ACCESS_KEY}/20260101/us-east-1/lambda/aws4_request"
    forged = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00"
    assert (await ask(rig, headers={"Authorization": forged, "X-Amz-Date": "20260101T000000Z"})).status == 403
    assert not rig.runtime.seen


async def test_a_signed_call_says_who_it_is(rig: Rig) -> None:
    """AWS_IAM: the owner's key may call; another tenant's may once the function's policy says so."""
    keys = {"default": ("AKIADEFAULT000000001", "d" * 40), "other": ("AKIAOTHER00000000001", "o" * 40)}
    for tenant_id, (key_id, secret) in keys.items():
        key = resources_pb2.AccessKey(access_key_id=key_id, secret=secret)
        rig.configuration.put(resource(tenant=resources_pb2.Tenant(tenant_id=tenant_id, access_keys=[key])))
    put_url(rig, auth_type="AWS_IAM")

    async def call_as(tenant_id: str) -> int:
        signed = sign(*keys[tenant_id], method="GET", path="/a", host=HOST)
        headers = {name.decode(): value.decode() for name, value in signed.headers.items() if name != b"host"}
        return (await ask(rig, "GET", "/a", headers=headers)).status

    assert await call_as("default") == 200
    context = event_of(rig)["requestContext"]
    assert context["accountId"] == "123456789012"
    assert context["authorizer"]["iam"]["accessKey"] == keys["default"][0]
    assert context["authorizer"]["iam"]["userArn"] == f"arn:aws:iam::123456789012:user/{keys['default'][0]}"
    assert await call_as("other") == 403
    statement = resources_pb2.PermissionStatement(
        statement_id="s", action="lambda:InvokeFunctionUrl", principal="other", function_url_auth_type="AWS_IAM"
    )
    url = resources_pb2.FunctionUrl(url_id=URL_ID, auth_type="AWS_IAM")
    rig.configuration.put(resource(function=make_function("echo", urls=[url], permissions=[statement])))
    assert await call_as("other") == 200
    assert event_of(rig)["requestContext"]["authorizer"]["iam"]["accessKey"] == keys["other"][0]


async def test_an_alias_has_a_url_of_its_own(rig: Rig) -> None:
    """It invokes what the alias points at."""
    url = resources_pb2.FunctionUrl(url_id=URL_ID, auth_type="NONE", qualifier="live")
    function = make_function(
        "echo",
        urls=[url],
        permissions=[for_all(qualifier="live")],
        versions=[resources_pb2.FunctionVersion(version="1", timeout_ms=1_000)],
        aliases=[resources_pb2.Alias(name="live", function_version="1")],
    )
    rig.configuration.put(resource(function=function))
    await ask(rig)
    assert rig.runtime.seen[-1].version == "1" and rig.runtime.seen[-1].invoked_function_arn.endswith(":echo:live")
