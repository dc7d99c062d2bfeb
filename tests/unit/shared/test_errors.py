"""The error table: every reason has its row, and a refusal arrives as it left."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from evenflow.common.v1 import errors_pb2

from services.shared.channels import GrpcServer, Peer
from services.shared.errors import MAX_MESSAGE_BYTES, TABLE, EvenflowError, Reason, abort, invalid

C = grpc.StatusCode
REASONS = dict(errors_pb2.ErrorReason.items())
# The contract, once more and by hand: a change of it shows here. reason -> (gRPC, HTTP, AWS, retryable).
EXPECTED = {
    "UNSPECIFIED": (C.UNKNOWN, 500, "ServiceException", True),
    "INVALID_PARAMETER": (C.INVALID_ARGUMENT, 400, "InvalidParameterValueException", False),
    "INVALID_REQUEST_CONTENT": (C.INVALID_ARGUMENT, 400, "InvalidRequestContentException", False),
    "REQUEST_TOO_LARGE": (C.INVALID_ARGUMENT, 413, "RequestTooLargeException", False),
    "FUNCTION_NOT_FOUND": (C.NOT_FOUND, 404, "ResourceNotFoundException", False),
    "EVENT_NOT_FOUND": (C.NOT_FOUND, 404, "ResourceNotFoundException", False),
    "TOKEN_REUSED": (C.ALREADY_EXISTS, 409, "ResourceConflictException", False),
    "RESOURCE_CONFLICT": (C.ABORTED, 409, "ResourceConflictException", False),
    "INVALID_PACKAGE": (C.INVALID_ARGUMENT, 400, "InvalidParameterValueException", False),
    "RUNTIME_UNSUPPORTED": (C.INVALID_ARGUMENT, 400, "InvalidParameterValueException", False),
    "UNAUTHENTICATED": (C.UNAUTHENTICATED, 403, "UnrecognizedClientException", False),
    "ACCESS_DENIED": (C.PERMISSION_DENIED, 403, "AccessDeniedException", False),
    "RESERVED_CONCURRENCY_EXCEEDED": (C.RESOURCE_EXHAUSTED, 429, "TooManyRequestsException", True),
    "CONCURRENCY_EXCEEDED": (C.RESOURCE_EXHAUSTED, 429, "TooManyRequestsException", True),
    "TENANT_QUEUE_FULL": (C.RESOURCE_EXHAUSTED, 429, "TooManyRequestsException", True),
    "SHARD_FULL": (C.RESOURCE_EXHAUSTED, 429, "TooManyRequestsException", True),
    "SHARD_MAP_STALE": (C.FAILED_PRECONDITION, 503, "ServiceException", True),
    "SHARD_UNAVAILABLE": (C.UNAVAILABLE, 503, "ServiceException", True),
    "OUTCOME_UNKNOWN": (C.UNAVAILABLE, 503, "ServiceException", True),
    "RECEIPT_EXPIRED": (C.FAILED_PRECONDITION, 409, "ResourceConflictException", False),
    "DISK_FULL": (C.RESOURCE_EXHAUSTED, 503, "ServiceException", True),
    "NO_CAPACITY": (C.UNAVAILABLE, 503, "ServiceException", True),
    "DRAINING": (C.UNAVAILABLE, 503, "ServiceException", True),
    "CREDIT_EXCEEDED": (C.RESOURCE_EXHAUSTED, 503, "ServiceException", True),
    "UNAVAILABLE": (C.UNAVAILABLE, 503, "ServiceException", True),
    "INTERNAL": (C.INTERNAL, 500, "ServiceException", True),
    "NOT_IMPLEMENTED": (C.UNIMPLEMENTED, 501, "NotImplementedException", False),
    "DEADLINE_EXCEEDED": (C.DEADLINE_EXCEEDED, 504, "ServiceException", True),
    "RESOURCE_NOT_FOUND": (C.NOT_FOUND, 404, "ResourceNotFoundException", False),
    "REVISION_MISMATCH": (C.FAILED_PRECONDITION, 412, "PreconditionFailedException", False),
    "CODE_STORAGE_EXCEEDED": (C.RESOURCE_EXHAUSTED, 400, "CodeStorageExceededException", False),
    "POLICY_TOO_LONG": (C.RESOURCE_EXHAUSTED, 400, "PolicyLengthExceededException", False),
    "PROVISIONED_NOT_FOUND": (C.NOT_FOUND, 404, "ProvisionedConcurrencyConfigNotFoundException", False),
    "RESOURCE_IN_USE": (C.FAILED_PRECONDITION, 400, "ResourceInUseException", False),
    "INVALID_SIGNATURE": (C.UNAUTHENTICATED, 403, "InvalidSignatureException", False),
    "MISSING_AUTHENTICATION": (C.UNAUTHENTICATED, 403, "MissingAuthenticationTokenException", False),
    "RECURSION_STOPPED": (C.FAILED_PRECONDITION, 400, "RecursiveInvocationException", False),
}


def test_every_reason_of_the_contract_has_a_row() -> None:
    """None is forgotten when one is added."""
    assert set(TABLE) == set(REASONS.values())
    assert {name.removeprefix("ERROR_REASON_") for name in REASONS} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_reason_looks_as_promised_on_each_door(name: str) -> None:
    kind = TABLE[REASONS[f"ERROR_REASON_{name}"]]
    assert (kind.grpc_code, kind.http_status, kind.aws_code, kind.retryable) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_only_what_is_nobodys_fault_may_be_repeated(name: str) -> None:
    """A 4xx is final but for 429; a 5xx may pass, but for what is not offered."""
    kind = TABLE[REASONS[f"ERROR_REASON_{name}"]]
    assert kind.retryable == (kind.http_status == 429 or (kind.http_status >= 500 and kind.http_status != 501))


async def test_every_refusal_arrives_over_grpc_as_it_left(run_dir: Path) -> None:
    """Reason, text, wait and facts, in the status details of a real call; the code is the table's."""
    sent: list[EvenflowError] = []

    async def refuse(_request: bytes, context: Any) -> bytes:
        await abort(context, sent[-1])

    server = GrpcServer(None, [])
    handlers: dict[str, Any] = {"Refuse": grpc.unary_unary_rpc_method_handler(refuse)}
    server.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Refusals", handlers),))
    server.bind(f"unix:{run_dir}/s.sock")
    await server.start()
    peer = Peer.dial(f"unix:{run_dir}/s.sock", "")
    refused_call: Any = peer.channel.unary_unary("/test.Refusals/Refuse")
    try:
        for name, reason in REASONS.items():
            sent.append(EvenflowError(reason, f"{name} ü", 250, {"limit": "7"}))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await refused_call(b"")
            assert refused.value.code() is TABLE[reason].grpc_code
            assert EvenflowError.from_rpc_error(refused.value) == sent[-1]
    finally:
        await peer.close()
        await server.stop(0)


def test_a_long_message_is_cut_between_characters() -> None:
    """At most 1,024 bytes travel, still UTF-8."""
    detail = EvenflowError(Reason.ERROR_REASON_INTERNAL, "ü" * 1_000).to_detail()
    assert len(detail.message.encode()) <= MAX_MESSAGE_BYTES and set(detail.message) == {"ü"}


def test_a_reason_of_a_newer_version_counts_as_internal() -> None:
    """It is still an error with its text."""
    error = EvenflowError.from_detail(errors_pb2.ErrorDetail(reason=9_999, message="new"))  # type: ignore[arg-type]
    assert error.reason == Reason.ERROR_REASON_INTERNAL and str(error) == "new"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (C.UNAVAILABLE, Reason.ERROR_REASON_UNAVAILABLE),
        (C.CANCELLED, Reason.ERROR_REASON_UNAVAILABLE),
        (C.DEADLINE_EXCEEDED, Reason.ERROR_REASON_DEADLINE_EXCEEDED),
        (C.UNAUTHENTICATED, Reason.ERROR_REASON_UNAUTHENTICATED),
        (C.RESOURCE_EXHAUSTED, Reason.ERROR_REASON_REQUEST_TOO_LARGE),
        (C.DATA_LOSS, Reason.ERROR_REASON_INTERNAL),
    ],
)
def test_an_error_without_our_detail_gets_the_nearest_reason(code: grpc.StatusCode, reason: int) -> None:
    """gRPC's own refusals, and those of somebody else's server."""
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "text")
    found = EvenflowError.from_rpc_error(error)
    assert found.reason == reason and found.message == "text"


def test_a_bad_parameter_names_its_facts() -> None:
    """The shorthand keeps them."""
    assert invalid("bad", field="x").metadata == {"field": "x"}
    assert invalid("bad").kind.http_status == 400
