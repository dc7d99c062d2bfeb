"""Every call of every contract, on every service and every fake: what holds whatever the call is.

The token is asked for; a message that says nothing, garbage, one of a version to come, and one beyond the bound are
answered or refused with a type; and the service goes on.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.message import Message

from services.shared.channels import MAX_MESSAGE_BYTES
from services.shared.errors import EvenflowError, has_detail
from tests.contract.clients import MODULES, UNKNOWN_FIELD
from tests.contract.kit import WITHIN_SECONDS, End, code_of, error_of, name_of, read, typed
from tests.contract.services import SERVICES, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
# The scripted control answers as its test says, and is held to nothing but what it says by itself.
KINDS = [f"{name} {kind}" for name, (_, kinds) in SERVICES.items() for kind in kinds if kind != "scripted"]
# Streams that go on until their reader goes: their first message is an answer.
ENDLESS = ("Watch", "WatchDepths")
CALLS = {service: list(MODULES[service].DESCRIPTOR.services_by_name[service].methods_by_name) for service in SERVICES}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=KINDS)
async def served(request: pytest.FixtureRequest) -> AsyncIterator[End]:
    service, _, kind = request.param.partition(" ")
    async with serving(service, kind) as end:
        yield end


async def outcome_of(end: End, method: str, message: Any, metadata: Any = None) -> grpc.aio.AioRpcError | None:
    """Send one message, or nothing at all, and end the sending; how the call failed, or None: it was answered."""
    descriptor = MODULES[end.service].DESCRIPTOR.services_by_name[end.service].methods_by_name[method]
    metadata = end.metadata if metadata is None else metadata
    asks = () if descriptor.client_streaming else (message or b"",)
    call = getattr(end.stub, method)(*asks, metadata=metadata, timeout=WITHIN_SECONDS)
    if descriptor.client_streaming and message is not None:
        # A call that was refused meanwhile takes no more: how it ended tells why.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(message)
            await call.done_writing()
    if method in ENDLESS:
        with contextlib.suppress(grpc.aio.AioRpcError):
            if await read(call) is not grpc.aio.EOF:
                call.cancel()
                return None
    code = await (code_of(call) if descriptor.server_streaming else call.code())
    return None if code is grpc.StatusCode.OK else await error_of(call)


def empty(end: End, method: str) -> Message:
    """A request that says nothing."""
    descriptor = MODULES[end.service].DESCRIPTOR.services_by_name[end.service].methods_by_name[method]
    made: Message = getattr(MODULES[end.service], descriptor.input_type.name)()
    return made


def check_typed(end: End, method: str, error: grpc.aio.AioRpcError | None, sent: str) -> None:
    """Answered, or refused with a reason of ours; UNIMPLEMENTED without one is a call that a fake leaves out."""
    if error is None or (error.code() is grpc.StatusCode.UNIMPLEMENTED and not has_detail(error)):
        return
    assert has_detail(error), f"{method} of {sent}: {error.code()} {error.details()}"
    reason = name_of(typed(error))
    assert reason != "INTERNAL", f"{method} of {sent}: {error.details()}"


async def test_every_call_asks_for_the_token(served: End) -> None:
    """And says so with a type."""
    for method in CALLS[served.service]:
        for metadata in ((), (("evenflow-fleet-token", "x" * 40),)):
            error = await outcome_of(served, method, None, metadata)
            assert error is not None, method
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                assert name_of(typed(error)) == "UNAUTHENTICATED", method


async def test_a_message_that_says_nothing_is_answered_or_refused_with_a_type(served: End) -> None:
    for method in CALLS[served.service]:
        check_typed(served, method, await outcome_of(served, method, empty(served, method)), "nothing")


async def test_every_call_is_served_by_its_service(served: End) -> None:
    """None is left to the generated refusal; only fakes may leave some out."""
    left = []
    for method in CALLS[served.service]:
        error = await outcome_of(served, method, empty(served, method))
        if error is not None and error.code() is grpc.StatusCode.UNIMPLEMENTED:
            left.append(method)
    assert left == [] or served.kind != "real"


async def test_what_a_newer_version_adds_is_passed_over(served: End) -> None:
    """The same answer with unknown fields as without."""
    for method in CALLS[served.service]:
        plain = await outcome_of(served, method, empty(served, method))
        more = await outcome_of(served, method, UNKNOWN_FIELD)
        assert (plain is None) == (more is None), method
        if plain is not None and more is not None and has_detail(plain):
            assert EvenflowError.from_rpc_error(plain).reason == EvenflowError.from_rpc_error(more).reason, method


async def test_garbage_and_what_is_too_large_end_their_call_alone(served: End) -> None:
    """gRPC's own refusals, and the next call is served as before."""
    method = CALLS[served.service][0]
    for garbage, codes in (
        (b"\xff\xff\xff\xff", (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)),
        (b"\x12" + b"\xff\xff\xff\x07" + b"x" * MAX_MESSAGE_BYTES, (grpc.StatusCode.RESOURCE_EXHAUSTED,)),
    ):
        error = await outcome_of(served, method, garbage)
        assert error is not None and error.code() in codes
        check_typed(served, method, await outcome_of(served, method, empty(served, method)), "nothing")
