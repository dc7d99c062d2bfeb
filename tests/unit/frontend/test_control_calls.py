"""What the Lambda API asks of control, against a scripted control over real gRPC."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from evenflow.control.v1 import control_pb2, control_pb2_grpc, resources_pb2

from services.frontend.lambda_api.api import ApiRequest, LambdaApi
from services.frontend.lambda_api.control_calls import PART_BYTES, ControlCalls
from services.frontend.lambda_api.errors import ApiError
from services.frontend.lambda_api.links import Links
from services.policy.permissions import Caller
from services.shared.channels import GrpcServer, Peer
from services.shared.clock import SystemClock
from services.shared.errors import EvenflowError, Reason, abort

TOKEN = "t" * 40
OWNER = Caller("default", "123456789012", "arn:aws:iam::123456789012:root")
NEIGHBOURS = {"default": (), "acme": ("arn:aws:s3:::acme-*",)}
# Any: a script serves only a part of the contract, and the stubs know no asyncio.
_Servicer: Any = control_pb2_grpc.ControlServiceServicer


class ScriptedControl(_Servicer):  # type: ignore[misc]
    """Knows one function; counts what it is asked."""

    def __init__(self) -> None:
        self.parts: list[int] = []
        self.asked: list[str] = []

    async def UploadPackage(self, requests: AsyncIterator[Any], _context: Any) -> Any:
        self.parts = [len(request.chunk) async for request in requests]
        return control_pb2.UploadPackageResponse(code_sha256=b"\1" * 32, size_bytes=sum(self.parts))

    async def PutConcurrency(self, request: Any, context: Any) -> Any:
        self.asked.append("PutConcurrency")
        if request.function_name != "here":
            await abort(context, EvenflowError(Reason.ERROR_REASON_FUNCTION_NOT_FOUND, "control's own words"))
        function = resources_pb2.Function(reserved_concurrency=request.reserved_concurrency)
        return control_pb2.PutConcurrencyResponse(function=function)

    async def UpdateFunction(self, request: Any, context: Any) -> Any:
        self.asked.append("UpdateFunction")
        await abort(context, EvenflowError(Reason.ERROR_REASON_FUNCTION_NOT_FOUND, "control's own words"))


class Follower:
    """A view that is asked to look again."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def ask_function(self, tenant_id: str, function_name: str) -> resources_pb2.Function | None:
        self.asked.append((tenant_id, function_name))
        return None


class Objects:
    """Has every object; counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def read_object(self, bucket: str, key: str, max_bytes: int, version_id: str = "") -> bytes:
        self.asked.append((bucket, key))
        return b"package"


class Rig:
    """The API on a scripted control."""

    def __init__(self, peer: Peer) -> None:
        self.follower = Follower()
        self.calls = ControlCalls(peer, self.follower)
        self.objects = Objects()
        self.api = LambdaApi(
            self.calls, self.objects, Links(TOKEN), SystemClock(), lambda: "us-east-1", NEIGHBOURS.__getitem__
        )

    async def put_concurrency(self, name: str, caller: Caller = OWNER) -> Any:
        url, body = f"/2017-10-31/functions/{name}/concurrency", b'{"ReservedConcurrentExecutions":7}'
        return await self.api.respond(ApiRequest("PUT", url, {}, body, caller, "eu-west-1", "127.0.0.1:9000"))


@pytest.fixture
async def control(run_dir: Path) -> AsyncIterator[tuple[ScriptedControl, Rig]]:
    scripted, server = ScriptedControl(), GrpcServer(TOKEN, ["evenflow.control.v1.ControlService"])
    control_pb2_grpc.add_ControlServiceServicer_to_server(scripted, server.server)
    server.bind(f"unix:{run_dir}/control.sock")
    await server.start()
    peer = Peer.dial(f"unix:{run_dir}/control.sock", TOKEN)
    yield scripted, Rig(peer)
    await peer.close()
    await server.stop(0)


async def test_a_write_is_taken_into_the_doors_view(control: tuple[ScriptedControl, Rig]) -> None:
    """An invocation that follows sees it; a refused write changes nothing."""
    _, rig = control
    response = await rig.put_concurrency("here")
    assert (response.status, response.body) == (200, b'{"ReservedConcurrentExecutions":7}')
    assert rig.follower.asked == [("default", "here")]
    with pytest.raises(ApiError) as caught:
        await rig.put_concurrency("gone")
    assert str(caught.value) == "Function not found: arn:aws:lambda:eu-west-1:123456789012:function:gone"
    assert (caught.value.code, caught.value.status) == ("ResourceNotFoundException", 404)
    assert len(rig.follower.asked) == 1


async def test_packages_travel_in_parts(control: tuple[ScriptedControl, Rig]) -> None:
    """None larger than what the contract takes."""
    scripted, rig = control
    assert await rig.calls.upload(b"x" * (2 * PART_BYTES + 1)) == b"\1" * 32
    assert scripted.parts == [PART_BYTES, PART_BYTES, 1]


async def test_a_tenants_code_comes_from_buckets_that_are_listed_for_it(control: tuple[ScriptedControl, Rig]) -> None:
    """The door's credentials open other tenants' buckets too: nothing is read of them. The default tenant has all."""
    scripted, rig = control

    async def update(tenant_id: str, bucket: str) -> None:
        body = json.dumps({"S3Bucket": bucket, "S3Key": "app.zip"}).encode()
        caller = Caller(tenant_id, "123456789012", "arn:aws:iam::123456789012:root")
        url = "/2015-03-31/functions/f/code"
        await rig.api.respond(ApiRequest("PUT", url, {}, body, caller, "eu-west-1", "127.0.0.1:9000"))

    with pytest.raises(EvenflowError, match="evenflow tenants neighbours acme") as caught:
        await update("acme", "other-code")
    assert caught.value.reason == Reason.ERROR_REASON_ACCESS_DENIED and not rig.objects.asked
    for tenant_id, bucket in (("acme", "acme-code"), ("default", "other-code")):
        with pytest.raises(ApiError, match="Function not found"):
            await update(tenant_id, bucket)
    assert rig.objects.asked == [("acme-code", "app.zip"), ("other-code", "app.zip")]
    assert scripted.asked == ["UpdateFunction"] * 2


async def test_a_function_may_what_its_deploy_file_allows(control: tuple[ScriptedControl, Rig]) -> None:
    """Control is not even asked for anything else."""
    scripted, rig = control
    allowed = resources_pb2.Allowance(action="lambda:PutFunctionConcurrency", resource="here")
    arn = "arn:aws:lambda:us-east-1:123456789012:function:caller"
    caller = Caller("default", "123456789012", "arn:aws:sts::123456789012:assumed-role/x", arn, (allowed,))
    assert (await rig.put_concurrency("here", caller)).status == 200
    with pytest.raises(ApiError) as caught:
        await rig.put_concurrency("gone", caller)
    assert (caught.value.code, scripted.asked) == ("AccessDeniedException", ["PutConcurrency"])


async def test_control_that_is_away_is_a_typed_refusal(run_dir: Path) -> None:
    """503 that may be repeated, not a fault."""
    peer = Peer.dial(f"unix:{run_dir}/nobody.sock", TOKEN)
    try:
        with pytest.raises(EvenflowError) as caught:
            async with asyncio.timeout(10):
                await Rig(peer).put_concurrency("here")
        assert caught.value.reason == Reason.ERROR_REASON_UNAVAILABLE and caught.value.kind.http_status == 503
    finally:
        await peer.close()
    assert caught.value.kind.grpc_code == grpc.StatusCode.UNAVAILABLE
