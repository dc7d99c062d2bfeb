"""Code that a request brings, or says where to find in S3."""

from collections.abc import Mapping
from typing import Any

from services.frontend.lambda_api.call import Call
from services.frontend.lambda_api.errors import ApiError, bad_value
from services.frontend.lambda_api.links import Package
from services.policy.neighbour_rules import s3_arn, why_not
from services.shared.errors import EvenflowError, Reason

MAX_PACKAGE_BYTES = 52_428_800
_NO_CODE = "Please provide a source for function code."


async def store(call: Call, code: Mapping[str, Any]) -> bytes:
    """Store the package that the members of `code` give; its SHA-256. bad_value; EvenflowError INVALID_PACKAGE."""
    return await call.control.upload(await _fetch(call, code))


async def _fetch(call: Call, code: Mapping[str, Any]) -> bytes:
    package = code.get("ZipFile")
    bucket, key = code.get("S3Bucket"), code.get("S3Key")
    if code.get("ImageUri"):
        raise bad_value("ImageUri is not offered by Evenflow: bring the code as ZipFile, or as S3Bucket and S3Key")
    if package is not None and (bucket or key):
        raise bad_value("Please do not provide other FunctionCode parameters when providing a ZipFile.")
    if package is not None:
        if len(package) > MAX_PACKAGE_BYTES:
            raise ApiError(
                "RequestTooLargeException", 413, f"Zipped size must be smaller than {MAX_PACKAGE_BYTES} bytes"
            )
        return bytes(package)
    if not bucket or not key:
        raise bad_value(_NO_CODE)
    refused = why_not(call.tenant_id, call.neighbours, s3_arn(bucket, key))
    if refused is not None:
        raise EvenflowError(Reason.ERROR_REASON_ACCESS_DENIED, refused)
    try:
        return await call.objects.read_object(bucket, key, MAX_PACKAGE_BYTES, code.get("S3ObjectVersion") or "")
    except EvenflowError as e:
        if e.reason == Reason.ERROR_REASON_REQUEST_TOO_LARGE:
            raise bad_value(f"Unzipped size must be smaller: {e.message}") from None
        if e.kind.http_status < 500:
            raise bad_value(f"Error occurred while GetObject. S3 Error Message: {e.message}") from None
        raise


def location(call: Call, code_sha256: bytes, size_bytes: int) -> str:
    """A link to the package, good for ten minutes."""
    return call.links.make(call.authority, Package(code_sha256, size_bytes), call.wall_ms)
