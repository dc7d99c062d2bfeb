"""What a failed call to an AWS neighbour becomes: a reason of ours, which says whether a repeat may help."""

from collections.abc import Mapping
from typing import Any

from services.shared.errors import EvenflowError, Reason

_THROTTLES = frozenset(
    (
        "KMSThrottlingException",
        "LimitExceededException",
        "OverLimit",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttled",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    )
)
_NOT_SIGNED_IN = frozenset(
    (
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    )
)
_NOT_FOUND = frozenset(
    (
        "AWS.SimpleQueueService.NonExistentQueue",
        "NoSuchBucket",
        "NoSuchKey",
        "NoSuchVersion",
        "NotFound",
        "NotFoundException",
        "QueueDoesNotExist",
        "ResourceNotFoundException",
    )
)


def translate(error: Exception) -> EvenflowError:
    """A failure of botocore as ours: `kind.retryable` says whether a repeat may help; metadata has AWS's own code."""
    import botocore.exceptions as aws

    if isinstance(error, aws.ClientError):
        return _refusal(error.response, error.operation_name)
    text = str(error)
    if isinstance(error, aws.ReadTimeoutError | aws.ConnectionClosedError):
        # It may have been done.
        return EvenflowError(Reason.ERROR_REASON_OUTCOME_UNKNOWN, text)
    if isinstance(error, aws.HTTPClientError | aws.ConnectionError):
        return EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, text)
    if isinstance(error, aws.NoCredentialsError | aws.PartialCredentialsError | aws.CredentialRetrievalError):
        return EvenflowError(
            Reason.ERROR_REASON_UNAUTHENTICATED,
            f"{text}: give this process AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role",
        )
    if isinstance(error, aws.BotoCoreError):
        return EvenflowError(Reason.ERROR_REASON_INVALID_PARAMETER, text)
    return EvenflowError(Reason.ERROR_REASON_INTERNAL, f"{type(error).__name__}: {text}")


def _refusal(response: Mapping[str, Any], operation: str) -> EvenflowError:
    told = response.get("Error") or {}
    code, message = str(told.get("Code") or "Unknown"), str(told.get("Message") or "")
    status = int((response.get("ResponseMetadata") or {}).get("HTTPStatusCode") or 0)
    if code in _THROTTLES or status == 429 or status >= 500:
        reason = Reason.ERROR_REASON_UNAVAILABLE
    elif code in _NOT_SIGNED_IN or status == 401:
        reason = Reason.ERROR_REASON_UNAUTHENTICATED
    elif code in _NOT_FOUND or status == 404:
        reason = Reason.ERROR_REASON_RESOURCE_NOT_FOUND
    elif status == 403:
        reason = Reason.ERROR_REASON_ACCESS_DENIED
    elif status == 413:
        reason = Reason.ERROR_REASON_REQUEST_TOO_LARGE
    else:
        reason = Reason.ERROR_REASON_INVALID_PARAMETER
    return EvenflowError(reason, f"{operation}: {code}: {message}", metadata={"aws_code": code, "operation": operation})
