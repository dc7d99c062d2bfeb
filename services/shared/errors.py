"""The one error table: reason -> gRPC code -> HTTP status and AWS error -> may it be repeated."""

from dataclasses import dataclass, field
from typing import NoReturn

import grpc
from evenflow.common.v1 import errors_pb2
from google.protobuf import any_pb2
from google.rpc import status_pb2
from grpc_status import rpc_status

Reason = errors_pb2.ErrorReason
MAX_MESSAGE_BYTES = 1_024


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """How one reason looks on each door. `aws_code` is the `X-Amzn-ErrorType` of the HTTP API."""

    grpc_code: grpc.StatusCode
    http_status: int
    aws_code: str
    retryable: bool


_C = grpc.StatusCode
TABLE: dict[int, ErrorKind] = {
    Reason.ERROR_REASON_UNSPECIFIED: ErrorKind(_C.UNKNOWN, 500, "ServiceException", True),
    Reason.ERROR_REASON_INVALID_PARAMETER: ErrorKind(_C.INVALID_ARGUMENT, 400, "InvalidParameterValueException", False),
    Reason.ERROR_REASON_INVALID_REQUEST_CONTENT: ErrorKind(
        _C.INVALID_ARGUMENT, 400, "InvalidRequestContentException", False
    ),
    Reason.ERROR_REASON_REQUEST_TOO_LARGE: ErrorKind(_C.INVALID_ARGUMENT, 413, "RequestTooLargeException", False),
    Reason.ERROR_REASON_FUNCTION_NOT_FOUND: ErrorKind(_C.NOT_FOUND, 404, "ResourceNotFoundException", False),
    Reason.ERROR_REASON_EVENT_NOT_FOUND: ErrorKind(_C.NOT_FOUND, 404, "ResourceNotFoundException", False),
    Reason.ERROR_REASON_TOKEN_REUSED: ErrorKind(_C.ALREADY_EXISTS, 409, "ResourceConflictException", False),
    Reason.ERROR_REASON_RESOURCE_CONFLICT: ErrorKind(_C.ABORTED, 409, "ResourceConflictException", False),
    Reason.ERROR_REASON_INVALID_PACKAGE: ErrorKind(_C.INVALID_ARGUMENT, 400, "InvalidParameterValueException", False),
    Reason.ERROR_REASON_RUNTIME_UNSUPPORTED: ErrorKind(
        _C.INVALID_ARGUMENT, 400, "InvalidParameterValueException", False
    ),
    Reason.ERROR_REASON_UNAUTHENTICATED: ErrorKind(_C.UNAUTHENTICATED, 403, "UnrecognizedClientException", False),
    Reason.ERROR_REASON_ACCESS_DENIED: ErrorKind(_C.PERMISSION_DENIED, 403, "AccessDeniedException", False),
    Reason.ERROR_REASON_RESERVED_CONCURRENCY_EXCEEDED: ErrorKind(
        _C.RESOURCE_EXHAUSTED, 429, "TooManyRequestsException", True
    ),
    Reason.ERROR_REASON_CONCURRENCY_EXCEEDED: ErrorKind(_C.RESOURCE_EXHAUSTED, 429, "TooManyRequestsException", True),
    Reason.ERROR_REASON_TENANT_QUEUE_FULL: ErrorKind(_C.RESOURCE_EXHAUSTED, 429, "TooManyRequestsException", True),
    Reason.ERROR_REASON_SHARD_FULL: ErrorKind(_C.RESOURCE_EXHAUSTED, 429, "TooManyRequestsException", True),
    Reason.ERROR_REASON_SHARD_MAP_STALE: ErrorKind(_C.FAILED_PRECONDITION, 503, "ServiceException", True),
    Reason.ERROR_REASON_SHARD_UNAVAILABLE: ErrorKind(_C.UNAVAILABLE, 503, "ServiceException", True),
    Reason.ERROR_REASON_OUTCOME_UNKNOWN: ErrorKind(_C.UNAVAILABLE, 503, "ServiceException", True),
    Reason.ERROR_REASON_RECEIPT_EXPIRED: ErrorKind(_C.FAILED_PRECONDITION, 409, "ResourceConflictException", False),
    Reason.ERROR_REASON_DISK_FULL: ErrorKind(_C.RESOURCE_EXHAUSTED, 503, "ServiceException", True),
    Reason.ERROR_REASON_NO_CAPACITY: ErrorKind(_C.UNAVAILABLE, 503, "ServiceException", True),
    Reason.ERROR_REASON_DRAINING: ErrorKind(_C.UNAVAILABLE, 503, "ServiceException", True),
    Reason.ERROR_REASON_CREDIT_EXCEEDED: ErrorKind(_C.RESOURCE_EXHAUSTED, 503, "ServiceException", True),
    Reason.ERROR_REASON_UNAVAILABLE: ErrorKind(_C.UNAVAILABLE, 503, "ServiceException", True),
    Reason.ERROR_REASON_INTERNAL: ErrorKind(_C.INTERNAL, 500, "ServiceException", True),
    Reason.ERROR_REASON_NOT_IMPLEMENTED: ErrorKind(_C.UNIMPLEMENTED, 501, "NotImplementedException", False),
    Reason.ERROR_REASON_DEADLINE_EXCEEDED: ErrorKind(_C.DEADLINE_EXCEEDED, 504, "ServiceException", True),
    Reason.ERROR_REASON_RESOURCE_NOT_FOUND: ErrorKind(_C.NOT_FOUND, 404, "ResourceNotFoundException", False),
    Reason.ERROR_REASON_REVISION_MISMATCH: ErrorKind(_C.FAILED_PRECONDITION, 412, "PreconditionFailedException", False),
    Reason.ERROR_REASON_CODE_STORAGE_EXCEEDED: ErrorKind(
        _C.RESOURCE_EXHAUSTED, 400, "CodeStorageExceededException", False
    ),
    Reason.ERROR_REASON_POLICY_TOO_LONG: ErrorKind(_C.RESOURCE_EXHAUSTED, 400, "PolicyLengthExceededException", False),
    Reason.ERROR_REASON_PROVISIONED_NOT_FOUND: ErrorKind(
        _C.NOT_FOUND, 404, "ProvisionedConcurrencyConfigNotFoundException", False
    ),
    Reason.ERROR_REASON_RESOURCE_IN_USE: ErrorKind(_C.FAILED_PRECONDITION, 400, "ResourceInUseException", False),
    Reason.ERROR_REASON_INVALID_SIGNATURE: ErrorKind(_C.UNAUTHENTICATED, 403, "InvalidSignatureException", False),
    Reason.ERROR_REASON_MISSING_AUTHENTICATION: ErrorKind(
        _C.UNAUTHENTICATED, 403, "MissingAuthenticationTokenException", False
    ),
    Reason.ERROR_REASON_RECURSION_STOPPED: ErrorKind(
        _C.FAILED_PRECONDITION, 400, "RecursiveInvocationException", False
    ),
}


# A runtime host has no room for a run: nothing ran, and it is nobody's fault.
NO_ROOM = (
    Reason.ERROR_REASON_NO_CAPACITY,
    Reason.ERROR_REASON_DRAINING,
    Reason.ERROR_REASON_CREDIT_EXCEEDED,
)
# Nothing ran, and another host may have what this one lacks, be it room or a share of the limit.
TRY_ELSEWHERE = (
    *NO_ROOM,
    Reason.ERROR_REASON_CONCURRENCY_EXCEEDED,
    Reason.ERROR_REASON_RESERVED_CONCURRENCY_EXCEEDED,
)


@dataclass(slots=True)
class EvenflowError(Exception):
    """A refusal with its typed reason; every service raises only this across its edges."""

    reason: "errors_pb2.ErrorReason.ValueType"
    message: str
    retry_after_ms: int = 0
    metadata: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message

    @property
    def kind(self) -> ErrorKind:
        """The reason's row of the table."""
        return TABLE[self.reason]

    def to_detail(self) -> errors_pb2.ErrorDetail:
        """The refusal as it travels."""
        message = self.message.encode()[:MAX_MESSAGE_BYTES].decode(errors="ignore")
        return errors_pb2.ErrorDetail(
            reason=self.reason, message=message, retry_after_ms=self.retry_after_ms, metadata=self.metadata
        )

    @classmethod
    def from_detail(cls, detail: errors_pb2.ErrorDetail) -> "EvenflowError":
        """The refusal that a peer sent inline; a reason this version does not know counts as INTERNAL."""
        reason = detail.reason if detail.reason in TABLE else Reason.ERROR_REASON_INTERNAL
        return cls(reason, detail.message, detail.retry_after_ms, dict(detail.metadata))

    @classmethod
    def from_rpc_error(cls, error: grpc.aio.AioRpcError) -> "EvenflowError":
        """The refusal of a failed call: its detail when a peer of ours sent one, else the nearest reason."""
        for key, value in error.trailing_metadata() or ():
            if key == _DETAILS_KEY and isinstance(value, bytes):
                status = status_pb2.Status.FromString(value)
                for packed in status.details:
                    detail = errors_pb2.ErrorDetail()
                    if packed.Unpack(detail):
                        return cls.from_detail(detail)
        reason = _REASON_BY_CODE.get(error.code(), Reason.ERROR_REASON_INTERNAL)
        return cls(reason, error.details() or error.code().name)


def has_detail(error: grpc.aio.AioRpcError) -> bool:
    """Whether a peer of ours said why, and not the connection."""
    return any(key == _DETAILS_KEY for key, _ in error.trailing_metadata() or ())


_DETAILS_KEY = "grpc-status-details-bin"
_REASON_BY_CODE: dict[grpc.StatusCode, "errors_pb2.ErrorReason.ValueType"] = {
    _C.UNAVAILABLE: Reason.ERROR_REASON_UNAVAILABLE,
    _C.CANCELLED: Reason.ERROR_REASON_UNAVAILABLE,
    _C.DEADLINE_EXCEEDED: Reason.ERROR_REASON_DEADLINE_EXCEEDED,
    _C.UNAUTHENTICATED: Reason.ERROR_REASON_UNAUTHENTICATED,
    _C.PERMISSION_DENIED: Reason.ERROR_REASON_ACCESS_DENIED,
    _C.UNIMPLEMENTED: Reason.ERROR_REASON_NOT_IMPLEMENTED,
    _C.INVALID_ARGUMENT: Reason.ERROR_REASON_INVALID_PARAMETER,
    _C.RESOURCE_EXHAUSTED: Reason.ERROR_REASON_REQUEST_TOO_LARGE,
}


async def abort(context: "grpc.aio.ServicerContext[object, object]", error: EvenflowError) -> NoReturn:
    """End a call with the refusal, its detail attached."""
    detail = any_pb2.Any()
    detail.Pack(error.to_detail())
    status = status_pb2.Status(code=error.kind.grpc_code.value[0], message=error.message, details=[detail])
    await context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("abort_with_status returned")


def invalid(message: str, **metadata: str) -> EvenflowError:
    """Shorthand for the refusal of a bad parameter."""
    return EvenflowError(Reason.ERROR_REASON_INVALID_PARAMETER, message, metadata=metadata)
