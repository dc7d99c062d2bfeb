"""ControlService's own words: what is changed reaches followers in order, repeats are safe, old callers are served."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from evenflow.control.v1 import control_pb2

from services.shared.errors import EvenflowError
from tests.contract.clients import UNKNOWN_FIELD
from tests.contract.control.test_following import hello_of, snapshot_of, watch
from tests.contract.kit import End, end_of, read, refusal_of
from tests.contract.services import serving
from tests.integration.control.kit import function_of, package

pytestmark = pytest.mark.asyncio(loop_scope="module")
ENDS = ("real",)
C = control_pb2
PACKAGE = package()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def end(request: pytest.FixtureRequest) -> AsyncIterator[End]:
    async with serving("ControlService") as found:
        yield found.seen_by(request.param.partition(" by ")[2])


async def upload(end: End, *parts: bytes) -> bytes:
    """A package in these parts; its hash. EvenflowError."""
    requests = iter([C.UploadPackageRequest(chunk=part) for part in parts])
    found: bytes = (await end.ask("UploadPackage", requests)).code_sha256
    return found


async def test_a_package_is_kept_by_its_hash_and_read_as_it_came(end: End) -> None:
    """Again, it is the same one; in parts of any size within the bound."""
    half = len(PACKAGE) // 2
    sha = await upload(end, PACKAGE[:half], PACKAGE[half:])
    assert sha == hashlib.sha256(PACKAGE).digest() == await upload(end, PACKAGE)
    parts = end.stub.DownloadPackage(C.DownloadPackageRequest(code_sha256=sha), metadata=end.metadata)
    assert b"".join([part.chunk async for part in parts]) == PACKAGE


async def test_bad_packages_are_refused(end: End) -> None:
    """No zip, nothing at all, a part beyond its bound, a hash of no package's length."""
    assert await refusal_of(upload(end, b"no zip")) == "INVALID_PACKAGE"
    for parts in ((), (b"x" * ((1 << 20) + 1),)):
        assert await refusal_of(upload(end, *parts)) in ("INVALID_PACKAGE", "INVALID_PARAMETER", "REQUEST_TOO_LARGE")
    short = end.stub.DownloadPackage(C.DownloadPackageRequest(code_sha256=b"short"), metadata=end.metadata)
    assert await end_of(short) == "INVALID_PARAMETER"


async def test_changes_reach_a_follower_in_order_and_repeats_change_nothing(end: End) -> None:
    """Each with a higher revision, after the snapshot; a delete by its key."""
    sha = await upload(end, PACKAGE)
    call = watch(end)
    _, revision = await snapshot_of(call)
    put = C.PutFunctionRequest(function=function_of("followed", sha))
    made = await end.ask("PutFunction", put)
    again = await end.ask("PutFunction", put)
    assert made.created and not again.created
    delete = C.DeleteFunctionRequest(tenant_id="default", function_name="followed")
    await end.ask("DeleteFunction", delete)
    key, seen = "function/default/followed", []
    async with asyncio.timeout(20):
        while key not in (change := await read(call)).deleted_keys:
            assert change.revision > revision and not change.in_snapshot
            revision = change.revision
            seen += [one.key for one in change.upserts]
    assert key in seen
    call.cancel()
    assert await refusal_of(end.ask("DeleteFunction", delete)) == "FUNCTION_NOT_FOUND"


async def test_an_older_caller_reads_and_puts_a_function(end: End) -> None:
    """What it does not know has its defaults; unknown fields of a newer one are passed over."""
    sha = await upload(end, PACKAGE)
    function = function_of("older", sha, timeout_ms=7_000, environment={"AB": "c"})
    await end.ask("PutFunction", C.PutFunctionRequest(function=function).SerializeToString() + UNKNOWN_FIELD)
    found = (await end.ask("GetFunction", C.GetFunctionRequest(tenant_id="default", function_name="older"))).function
    assert (found.latest.timeout_ms, dict(found.latest.environment)) == (7_000, {"AB": "c"})
    listed = await end.ask("ListFunctions", C.ListFunctionsRequest(tenant_id="default", page_size=1_000))
    assert "older" in [one.function_name for one in listed.functions]


async def test_another_start_of_a_node_ends_the_stream_of_the_first(end: End) -> None:
    """It is proven dead."""
    first, second = end.open("Join"), end.open("Join")
    await first.write(hello_of("runtime-7", "a"))
    await read(first)
    await second.write(hello_of("runtime-7", "b"))
    assert (await read(second)).HasField("welcome")
    try:
        await end_of(first)
    except (EvenflowError, AssertionError) as e:
        raise AssertionError("it goes on or ends without a type") from e
    second.cancel()


async def test_a_message_beyond_grpcs_bound_ends_its_call_alone(end: End) -> None:
    request = C.PutFunctionRequest(function=function_of("large", b"x" * 32, environment={"A": "x" * (9 << 20)}))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await end.stub.PutFunction(request, metadata=end.metadata)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await upload(end, PACKAGE)
