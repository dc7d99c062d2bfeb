"""Who may call a strict door, over HTTP with unmodified boto3 and over gRPC; what functions may do with their own."""

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

import grpc
import pytest
from botocore.exceptions import ClientError
from evenflow.control.v1 import resources_pb2
from evenflow.frontend.v1 import frontend_pb2

from services.policy.accounts import account_of
from services.shared import ids
from services.shared.credentials import Credentials, fleet_secret, function_credentials
from services.shared.errors import EvenflowError, Reason
from tests.integration.frontend.conftest import TOKEN, Rig, make_function, resource
from tests.kit.signing import WireRequest, sign

KEYS = {"default": ("AKIADEFAULT000000001", "d" * 40), "other": ("AKIAOTHER00000000001", "o" * 40)}
ACCOUNT = account_of("other", "123456789012")
THEIRS = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:theirs"
Submission = frontend_pb2.EventSubmission


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Strict, but for tests that say otherwise."""
    return {"auth_mode": "strict"}


@pytest.fixture
def keys(rig: Rig) -> Rig:
    """Both tenants have a key with a secret, and one without."""
    for tenant_id, (key_id, secret) in KEYS.items():
        put_tenant(rig, tenant_id, (key_id, secret), (f"AKIANOSECRET{tenant_id.upper()}", ""))
    return rig


def put_tenant(rig: Rig, tenant_id: str, *pairs: tuple[str, str]) -> None:
    keys = [resources_pb2.AccessKey(access_key_id=key_id, secret=secret) for key_id, secret in pairs]
    tenant = resources_pb2.Tenant(tenant_id=tenant_id, access_keys=keys)
    rig.configuration.put(resources_pb2.Resource(key=f"tenant/{tenant_id}", tenant=tenant))


async def invoke(client: Any, **arguments: Any) -> Any:
    return await asyncio.to_thread(lambda: client.invoke(**arguments))


async def code_of(client: Any, **arguments: Any) -> tuple[int, str]:
    """Status and error code of a refused call."""
    with pytest.raises(ClientError) as caught:
        await invoke(client, **arguments)
    response: Any = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


async def send(rig: Rig, request: WireRequest) -> tuple[int, dict[str, Any]]:
    """A request as it is, on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.frontend.http.port)
    headers = {b"content-length": str(len(request.body)).encode(), **request.headers, b"connection": b"close"}
    lines = b"".join(b"%b: %b\r\n" % pair for pair in headers.items())
    writer.write(b"%b %b HTTP/1.1\r\n%b\r\n%b" % (request.method, request.url, lines, request.body))
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body else {}


async def test_a_known_key_invokes_in_every_way(keys: Rig) -> None:
    """Event, RequestResponse and DryRun, with any name and payload that has to be encoded; each as its own tenant."""
    ours, theirs = keys.boto(*KEYS["default"]), keys.boto(*KEYS["other"])
    answer = await invoke(ours, FunctionName="echo", InvocationType="Event", Payload=b'{"a": "\xc3\xa4"}')
    assert keys.queue.events[ids.from_text(answer["ResponseMetadata"]["RequestId"])].tenant_id == "default"
    answer = await invoke(theirs, FunctionName=f"{THEIRS}:$LATEST", LogType="Tail", ClientContext="e30=")
    assert answer["StatusCode"] == 200
    assert keys.runtime.seen[-1].tenant_id == "other"
    assert (await invoke(ours, FunctionName="echo", InvocationType="DryRun"))["StatusCode"] == 204


async def test_who_is_not_proven_is_refused_as_aws_does(keys: Rig) -> None:
    """A wrong secret, nobody's key, a key without a secret, a session token that is nobody's; nothing ran."""
    cases = [
        (KEYS["default"][0], "wrong", None, "InvalidSignatureException"),
        ("AKIANOBODY0000000001", "secret", None, "UnrecognizedClientException"),
        ("AKIANOSECRETDEFAULT", "", None, "UnrecognizedClientException"),
        (*KEYS["default"], "token", "UnrecognizedClientException"),
    ]
    for key_id, secret, token, code in cases:
        client = keys.boto(key_id, secret or "x", token)
        assert await code_of(client, FunctionName="echo") == (403, code)
        assert await code_of(client, FunctionName="echo", InvocationType="Event") == (403, code)
    assert not keys.queue.events and not keys.runtime.seen


async def test_what_is_not_signed_gets_no_further_than_the_health_check(keys: Rig) -> None:
    """Every path asks for a signature but the health check's."""
    base = f"http://127.0.0.1:{keys.frontend.http.port}"
    with await asyncio.to_thread(urllib.request.urlopen, f"{base}/_evenflow/health") as answer:
        assert answer.status == 200
    for path in (b"/2015-03-31/functions/echo/invocations", b"/2015-03-31/functions", b"/nowhere"):
        request = WireRequest(b"POST", path, b"", {b"host": b"x"}, b"{}")
        status, body = await send(keys, request)
        assert (status, body["message"]) == (403, "Missing Authentication Token")


@pytest.mark.parametrize("change", ["body", "path", "query", "header", "time"])
async def test_a_request_that_was_changed_on_its_way_is_refused(keys: Rig, change: str) -> None:
    """The same request unchanged is accepted."""
    path = "/2015-03-31/functions/echo/invocations"
    headers = {"X-Amz-Invocation-Type": "Event"}
    host = f"127.0.0.1:{keys.frontend.http.port}"
    request = sign(*KEYS["default"], path=path, headers=headers, body=b"1", host=host)
    status, _ = await send(keys, request)
    assert status == 202
    if change == "body":
        request.body = b"2"
    elif change == "path":
        request.raw_path = request.raw_path.replace(b"echo", b"else")
    elif change == "query":
        request.raw_query = b"Qualifier=1"
    elif change == "header":
        request.headers[b"x-amz-invocation-type"] = b"DryRun"
    else:
        request.headers[b"x-amz-date"] = b"20200101T000000Z"
    status, body = await send(keys, request)
    assert status == 403
    assert "ignature" in body["message"] or "Date" in body["message"]
    assert len(keys.queue.events) == 1


async def test_a_header_that_comes_twice_must_have_been_signed_twice(keys: Rig) -> None:
    """Whichever of the two the door acts on; before or after the signed one."""
    host = f"127.0.0.1:{keys.frontend.http.port}"
    path = "/2015-03-31/functions/echo/invocations"
    request = sign(*KEYS["default"], path=path, headers={"X-Amz-Invocation-Type": "DryRun"}, host=host)
    # A dictionary of bytes keeps both spellings, the wire too; names are compared in lower case.
    first = {b"X-Amz-Invocation-Type": b"Event", **request.headers}
    last = {**request.headers, b"X-Amz-Invocation-Type": b"Event"}
    for headers in (first, last):
        assert (await send(keys, WireRequest(b"POST", request.raw_path, b"", headers)))[0] == 403
    assert (await send(keys, request))[0] == 204
    both = sign(*KEYS["default"], path=path, headers={"X-Custom": "a,b"}, host=host)
    del both.headers[b"x-custom"]
    twice = {b"x-custom": b"a", **both.headers, b"X-Custom": b"b"}
    assert (await send(keys, WireRequest(b"POST", path.encode(), b"", twice)))[0] == 200
    assert not keys.queue.events


async def test_a_presigned_url_is_good_for_what_it_says(keys: Rig) -> None:
    """For whoever has it, without a key; not with anything else in it."""
    client = keys.boto(*KEYS["other"])
    url = client.generate_presigned_url("invoke", Params={"FunctionName": "theirs"}, ExpiresIn=60, HttpMethod="POST")

    def post(url: str) -> int:
        request = urllib.request.Request(url, data=b"", method="POST")
        # What urllib would add of its own is not signed, and need not be.
        try:
            with urllib.request.urlopen(request) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as e:
            return int(e.code)

    assert await asyncio.to_thread(post, url) == 200
    assert keys.runtime.seen[-1].tenant_id == "other"
    assert await asyncio.to_thread(post, url.replace("theirs", "echo")) == 403
    assert await asyncio.to_thread(post, url.replace("X-Amz-Expires=60", "X-Amz-Expires=61")) == 403


async def test_a_body_of_who_is_unknown_is_not_kept(keys: Rig) -> None:
    """The door's memory is for callers that it knows; they are told why."""
    client = keys.boto("AKIANOBODY0000000001", "secret")
    big = b'"' + b"x" * 1_000_000 + b'"'
    assert await code_of(client, FunctionName="echo", Payload=big) == (403, "UnrecognizedClientException")
    too_big = b'"' + b"x" * 6_300_000 + b'"'
    assert (await code_of(keys.boto(*KEYS["default"]), FunctionName="echo", Payload=too_big))[0] == 413
    assert keys.frontend.http.connections.buffered_bytes == 0


def bearer(key_id: str, secret: str, token: str = "") -> Any:
    metadata = (("authorization", f"Bearer {key_id}:{secret}"),)
    return (*metadata, ("x-amz-security-token", token)) if token else metadata


async def refusal_of(call: Any) -> EvenflowError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return EvenflowError.from_rpc_error(caught.value)


async def test_the_grpc_door_asks_for_the_secret(keys: Rig) -> None:
    """Every method; the fleet's own token needs no key."""
    one = frontend_pb2.InvokeAsyncRequest(event=Submission(function_name="echo"))
    batch = frontend_pb2.PublishBatchRequest(events=[Submission(function_name="echo")])
    answer = await keys.public.InvokeAsync(one, metadata=bearer(*KEYS["default"]))
    assert keys.queue.events[answer.request_id].tenant_id == "default"
    await keys.inner.InvokeAsync(one, metadata=keys.fleet_metadata)
    question = frontend_pb2.GetEventRequest(request_id=answer.request_id)
    assert (await keys.public.GetEvent(question, metadata=bearer(*KEYS["default"]))).function_name == "echo"
    not_theirs = await refusal_of(keys.public.GetEvent(question, metadata=bearer(*KEYS["other"])))
    assert not_theirs.reason == Reason.ERROR_REASON_EVENT_NOT_FOUND
    key_id, secret = KEYS["default"]
    missing, unknown = Reason.ERROR_REASON_MISSING_AUTHENTICATION, Reason.ERROR_REASON_UNAUTHENTICATED
    for metadata, reason in (
        ((), missing),
        ((("authorization", "Basic eDp5"),), missing),
        (bearer(key_id, "wrong"), unknown),
        (bearer(key_id, ""), unknown),
        (bearer("AKIANOSECRETDEFAULT", ""), unknown),
        (bearer(key_id, secret, "token"), unknown),
    ):
        calls = [
            keys.public.Invoke(frontend_pb2.InvokeRequest(function_name="echo"), metadata=metadata),
            keys.public.InvokeAsync(one, metadata=metadata),
            keys.public.PublishBatch(batch, metadata=metadata),
            keys.public.GetEvent(question, metadata=metadata),
        ]
        assert {(await refusal_of(call)).reason for call in calls} == {reason}
        stream = keys.public.Publish(metadata=metadata)
        assert (await refusal_of(stream.read())).reason == reason
    assert len(keys.queue.events) == 2 and not keys.runtime.seen


async def test_a_revoked_key_ends_a_stream_that_is_open(keys: Rig) -> None:
    """The next batch is refused, the stream with it."""
    stream = keys.public.Publish(metadata=bearer(*KEYS["default"]))
    batch = frontend_pb2.PublishRequest(batch_id=1, events=[Submission(function_name="echo")])
    await stream.write(batch)
    assert (await stream.read()).results[0].request_id
    put_tenant(keys, "default")
    batch.batch_id = 2
    await stream.write(batch)
    assert (await refusal_of(stream.read())).reason == Reason.ERROR_REASON_UNAUTHENTICATED
    assert len(keys.queue.events) == 1


async def test_another_tenants_function_is_called_by_its_arn_where_its_policy_says_so(keys: Rig) -> None:
    """It runs and counts as its owner's; without the statement nobody learns whether it is there."""
    ours = keys.boto(*KEYS["default"])
    nowhere = [THEIRS, THEIRS.replace("theirs", "nothing"), THEIRS.replace(ACCOUNT, "999999999999")]
    for name in nowhere:
        for kind in ("Event", "RequestResponse", "DryRun"):
            assert await code_of(ours, FunctionName=name, InvocationType=kind) == (403, "AccessDeniedException")
    statement = resources_pb2.PermissionStatement(
        statement_id="s", action="lambda:InvokeFunction", principal="123456789012"
    )
    keys.configuration.put(resource(function=make_function("theirs", "other", permissions=[statement])))
    answer = await invoke(ours, FunctionName=THEIRS, InvocationType="Event")
    event = keys.queue.events[ids.from_text(answer["ResponseMetadata"]["RequestId"])]
    assert (event.tenant_id, event.function_name) == ("other", "theirs")
    await invoke(ours, FunctionName=THEIRS)
    ran = keys.runtime.seen[-1]
    assert (ran.tenant_id, ran.invoked_function_arn) == ("other", THEIRS)
    for name in nowhere[1:]:
        assert await code_of(ours, FunctionName=name) == (403, "AccessDeniedException")
    # What is open to one is not open to all, and the owner sees the event, the caller does not.
    question = frontend_pb2.GetEventRequest(request_id=event.request_id)
    assert (await keys.public.GetEvent(question, metadata=bearer(*KEYS["other"]))).function_name == "theirs"
    with pytest.raises(grpc.aio.AioRpcError):
        await keys.public.GetEvent(question, metadata=bearer(*KEYS["default"]))


def credentials_of(tenant_id: str, name: str, version: str = "$LATEST") -> Credentials:
    return function_credentials(fleet_secret(TOKEN), tenant_id, name, version)


def as_tuple(credentials: Credentials) -> tuple[str, str, str]:
    return credentials.access_key_id, credentials.secret_access_key, credentials.session_token


@pytest.mark.parametrize("overrides", [{"auth_mode": "strict"}, {"auth_mode": "open"}])
async def test_a_function_may_do_what_its_deploy_file_allows(keys: Rig) -> None:
    """In both modes; each version by its own list. A function without a list may do nothing."""
    caller = make_function("caller")
    caller.latest.allows.add(action="lambda:InvokeFunction", resource="echo")
    caller.versions.add(version="1", timeout_ms=3_000)
    keys.configuration.put(resource(function=caller), resource(function=make_function("third")))
    latest = keys.boto(*as_tuple(credentials_of("default", "caller")))
    assert (await invoke(latest, FunctionName="echo"))["StatusCode"] == 200
    assert await code_of(latest, FunctionName="third") == (403, "AccessDeniedException")
    first = keys.boto(*as_tuple(credentials_of("default", "caller", "1")))
    assert await code_of(first, FunctionName="echo") == (403, "AccessDeniedException")
    metadata = bearer(*as_tuple(credentials_of("default", "caller")))
    one = frontend_pb2.InvokeAsyncRequest(event=Submission(function_name="echo"))
    assert (await keys.public.InvokeAsync(one, metadata=metadata)).request_id
    question = frontend_pb2.GetEventRequest(request_id=next(iter(keys.queue.events)))
    refused = await refusal_of(keys.public.GetEvent(question, metadata=metadata))
    assert refused.reason == Reason.ERROR_REASON_ACCESS_DENIED


@pytest.mark.parametrize("overrides", [{"auth_mode": "open"}])
async def test_an_open_door_takes_no_function_that_is_none(keys: Rig) -> None:
    """It would be the default tenant otherwise; over gRPC, too."""
    gone = as_tuple(credentials_of("other", "gone"))
    assert await code_of(keys.boto(*gone), FunctionName="echo") == (403, "UnrecognizedClientException")
    one = frontend_pb2.InvokeAsyncRequest(event=Submission(function_name="echo"))
    refused = await refusal_of(keys.public.InvokeAsync(one, metadata=bearer(*gone)))
    assert refused.reason == Reason.ERROR_REASON_UNAUTHENTICATED


@pytest.mark.parametrize("overrides", [{"auth_mode": "open"}, {"auth_mode": "strict"}])
async def test_the_fleets_token_counts_at_its_own_sockets_alone(keys: Rig) -> None:
    """Whoever has it gains nothing by it at the public port."""
    one = frontend_pb2.InvokeAsyncRequest(event=Submission(function_name="theirs", tenant_id="other"))
    assert (await keys.inner.InvokeAsync(one, metadata=keys.fleet_metadata)).request_id
    refused = await refusal_of(keys.public.InvokeAsync(one, metadata=keys.fleet_metadata))
    denied = (Reason.ERROR_REASON_ACCESS_DENIED, Reason.ERROR_REASON_MISSING_AUTHENTICATION)
    assert refused.reason in denied


async def test_credentials_of_a_function_end_with_it_and_cannot_be_made_up(keys: Rig) -> None:
    """A function that is gone, a version that is not there, another fleet's secret, a token that was changed."""
    keys.configuration.put(resource(function=make_function("caller")))
    mine = credentials_of("default", "caller")
    forged = function_credentials(fleet_secret("f" * 40), "default", "caller")
    for credentials in (
        credentials_of("default", "gone"),
        credentials_of("default", "caller", "9"),
        forged,
        Credentials(mine.access_key_id, mine.secret_access_key, mine.session_token.replace("caller", "echoed")),
        Credentials(mine.access_key_id, mine.secret_access_key, ""),
    ):
        key_id, secret, token = as_tuple(credentials)
        code = await code_of(keys.boto(key_id, secret, token or None), FunctionName="echo")
        assert code == (403, "UnrecognizedClientException")
    # The right token under the wrong secret is a wrong signature.
    client = keys.boto(mine.access_key_id, "x" * 40, mine.session_token)
    assert await code_of(client, FunctionName="echo") == (403, "InvalidSignatureException")
