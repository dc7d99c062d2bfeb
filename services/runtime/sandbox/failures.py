"""AWS's error objects for what goes wrong in a handler; texts as awslambdaric writes them."""

import json
import os
import traceback
from types import TracebackType
from typing import Any, NamedTuple

_OWN_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep
MAX_STACK_ENTRIES = 100
# The object must fit a frame whatever the handler put into its message.
MAX_MESSAGE_CHARACTERS = 262_144


class Fault(Exception):
    """A failure with AWS's own error type."""

    def __init__(self, error_type: str, message: str, stack: "list[str] | None" = None) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.stack = stack or []


class ErrorObject(NamedTuple):
    """Type, message and the JSON that the caller gets."""

    error_type: str
    message: str
    stack: "list[str]"
    payload: bytes


def error_object(error_type: str, message: str, stack: "list[str]", request_id: str) -> ErrorObject:
    """Puts an error object together; a message without end is cut."""
    message = message[:MAX_MESSAGE_CHARACTERS]
    fields: dict[str, Any] = {"errorMessage": message, "errorType": error_type}
    if request_id:
        fields["requestId"] = request_id
    fields["stackTrace"] = stack
    return ErrorObject(error_type or "Error", message, stack, json.dumps(fields).encode())


def of_exception(error: BaseException, request_id: str) -> ErrorObject:
    """What an exception of the handler looks like to the caller."""
    if isinstance(error, Fault):
        return error_object(error.error_type, error.message, error.stack, request_id)
    try:
        message = str(error)
    except Exception:
        message = "the exception's own text cannot be made"
    return error_object(type(error).__name__, message, _stack(error.__traceback__), request_id)


def as_log_text(error: ErrorObject) -> str:
    """What stands in the log: `[ERROR] Type: message` and the stack."""
    head = f"[ERROR] {error.error_type}: {error.message}" if error.message else f"[ERROR] {error.error_type}"
    if not error.stack:
        return head + "\n"
    return head + "\nTraceback (most recent call last):\n" + "".join(error.stack)


def _stack(trace: "TracebackType | None") -> "list[str]":
    entries = traceback.extract_tb(trace)
    first = 0
    # The frames that led to the handler are ours and the import system's.
    while first < len(entries) and (
        entries[first].filename.startswith((_OWN_FOLDER, "<frozen importlib"))
        or entries[first].filename.endswith("importlib/__init__.py")
    ):
        first += 1
    return traceback.format_list(entries[first:])[-MAX_STACK_ENTRIES:]
