"""Refusals of the Lambda API by their AWS names; those of control come as EvenflowError."""

from dataclasses import dataclass

from services.shared.errors import EvenflowError, Reason

MAX_TEXT_CHARACTERS = 8_192
RATE_EXCEEDED_SECONDS = 1


@dataclass(slots=True)
class ApiError(Exception):
    """An error of the Lambda API: its name, HTTP status and text. `reason`: of a throttle alone."""

    code: str
    status: int
    text: str
    reason: str = ""

    def __str__(self) -> str:
        return self.text


def bad_value(text: str) -> ApiError:
    """A parameter that keeps the model's bounds and makes no sense all the same."""
    return ApiError("InvalidParameterValueException", 400, text)


def bad_bounds(text: str) -> ApiError:
    """A parameter that breaks the model's bounds."""
    return ApiError("ValidationException", 400, text)


def missing(text: str = "The resource you requested does not exist.") -> ApiError:
    """A function, or what belongs to it, is not there."""
    return ApiError("ResourceNotFoundException", 404, text)


def not_offered(operation: str) -> ApiError:
    """An operation of AWS's model that Evenflow does not have."""
    return ApiError("NotImplementedException", 501, f"{operation} is not offered by Evenflow.")


def too_many(reason: str = "CallerRateLimitExceeded") -> ApiError:
    """The door has as many requests of its API in hand as it may."""
    return ApiError("TooManyRequestsException", 429, "Rate Exceeded.", reason)


def reworded(error: EvenflowError, texts: "dict[int, str]") -> EvenflowError | ApiError:
    """The same refusal with AWS's sentence where there is one for its reason."""
    text = texts.get(error.reason)
    if text is None:
        return error
    return ApiError(error.kind.aws_code, error.kind.http_status, text)


REVISION_TEXT = (
    "The Revision Id provided does not match the latest Revision Id. "
    "Call the {read} API to retrieve the latest Revision Id"
)
FUNCTION_REVISION = REVISION_TEXT.format(read="GetFunction/GetAlias")
NOT_FOUND_REASONS = (Reason.ERROR_REASON_FUNCTION_NOT_FOUND, Reason.ERROR_REASON_RESOURCE_NOT_FOUND)
