"""How a command fails: one line for a person, an exit code for a script."""

import grpc
from evenflow.common.v1 import errors_pb2

from services.shared.errors import EvenflowError, Reason

EXIT_FAILED = 1
EXIT_USAGE = 2
_REASON_PREFIX = "ERROR_REASON_"


class CliError(Exception):
    """Ends a command with one line on stderr."""

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


def reason_name(reason: int) -> str:
    """`FUNCTION_NOT_FOUND` for a reason; the number for one that this version does not know."""
    try:
        return errors_pb2.ErrorReason.Name(reason).removeprefix(_REASON_PREFIX)  # type: ignore[arg-type]
    except ValueError:
        return str(reason)


def describe_refusal(error: EvenflowError) -> str:
    """One line: the typed reason and its sentence."""
    message = " ".join(error.message.split())
    if error.reason == Reason.ERROR_REASON_UNAVAILABLE and "failed to connect" in message.lower():
        message = "a service of the fleet does not answer now: try again, or look at the logs folder of its data"
    return f"{reason_name(error.reason)}: {message}"


def from_rpc(error: grpc.RpcError) -> EvenflowError:
    """The typed refusal of a failed call of either gRPC API."""
    refusal: EvenflowError = EvenflowError.from_rpc_error(error)  # type: ignore[arg-type]  # same methods, no base class
    return refusal
