"""What every change of a function goes through: a copy to change, fresh ids, the bounds of the whole, the store."""

import uuid
from collections.abc import Callable

from evenflow.control.v1 import resources_pb2

from services.control.changes import Change
from services.control.state import State, function_resource_key
from services.policy.accounts import account_of
from services.policy.arns import LATEST
from services.policy.destination_rules import Home
from services.policy.neighbour_rules import why_not
from services.policy.rules import RuleBroken
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason, invalid
from services.shared.function_view import FunctionView

# With its event sources a function is one message to followers, below gRPC's common limit of 4 MB.
MAX_FUNCTION_BYTES = 2 << 20
MAX_PAGE = 1_000
# A page of large things ends early, for the same limit.
MAX_PAGE_BYTES = 3_670_016
MAX_PAGE_TOKEN_CHARACTERS = 256
_UUID_BYTES = 16


class FunctionEditor:
    """Functions as they are, and as they are to be."""

    def __init__(self, state: State, clock: Clock, random_bytes: Callable[[int], bytes]) -> None:
        self.state = state
        self.clock = clock
        self.random_bytes = random_bytes

    def get(self, tenant_id: str, function_name: str) -> resources_pb2.Function:
        """The function. EvenflowError FUNCTION_NOT_FOUND."""
        function = self.state.function(tenant_id, function_name)
        if function is None:
            raise EvenflowError(
                Reason.ERROR_REASON_FUNCTION_NOT_FOUND,
                f"there is no function {function_name[:80]!r}: deploy it first",
                metadata={"function_name": function_name[:80]},
            )
        return function

    def copy(self, tenant_id: str, function_name: str) -> resources_pb2.Function:
        """One that may be changed and stored. EvenflowError FUNCTION_NOT_FOUND."""
        function = resources_pb2.Function()
        function.CopyFrom(self.get(tenant_id, function_name))
        return function

    def store(self, change: Change, function: resources_pb2.Function) -> None:
        """Put it into the change if it is not what is stored. EvenflowError CODE_STORAGE_EXCEEDED: it is too large."""
        before = self.state.function(function.tenant_id, function.function_name)
        if before is not None:
            function.revision = before.revision
            if function == before:
                return
        function.revision = change.revision
        size_bytes = function.ByteSize()
        if size_bytes > MAX_FUNCTION_BYTES:
            text = (
                f"the function with its {len(function.versions)} versions has {size_bytes:,} bytes of configuration; "
                f"at most {MAX_FUNCTION_BYTES:,} are kept: delete versions that nobody needs"
            )
            raise EvenflowError(Reason.ERROR_REASON_CODE_STORAGE_EXCEEDED, text)
        change.upserts.append(resource_of(function))

    def home(self, tenant_id: str) -> Home:
        """Account and region of the tenant's ARNs."""
        fleet = self.state.fleet
        return Home(account_of(tenant_id, fleet.account_id), fleet.region)

    def require_neighbours(self, tenant_id: str, *arns: str) -> None:
        """Pass when the tenant may name all of these; an empty one names nothing. EvenflowError ACCESS_DENIED."""
        tenant = self.state.tenants.get(tenant_id)
        neighbours = tenant.neighbours if tenant is not None else ()
        for arn in filter(None, arns):
            refused = why_not(tenant_id, neighbours, arn)
            if refused is not None:
                raise EvenflowError(Reason.ERROR_REASON_ACCESS_DENIED, refused)

    def new_uuid(self) -> str:
        """A random UUID in lower case."""
        return str(uuid.UUID(bytes=self.random_bytes(_UUID_BYTES), version=4))

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return self.clock.wall_ms()


def resource_of(function: resources_pb2.Function) -> resources_pb2.Resource:
    """The function under its key."""
    key = function_resource_key(function.tenant_id, function.function_name)
    return resources_pb2.Resource(key=key, function=function)


def require_qualifier(function: resources_pb2.Function, qualifier: str) -> str:
    """The qualifier, "" for $LATEST. EvenflowError RESOURCE_NOT_FOUND: no such version or alias."""
    if qualifier in ("", LATEST):
        return ""
    if not FunctionView(function).knows(qualifier):
        raise no_version(function, qualifier)
    return qualifier


def no_version(function: resources_pb2.Function, qualifier: str) -> EvenflowError:
    """The refusal of a version or alias that is not there."""
    error = not_found(f"Function not found: {function.function_name}:{qualifier[:128]}")
    error.metadata["version"] = qualifier[:128]
    return error


def require_revision(expected: str, found: str, call: str) -> None:
    """Pass when the caller names no revision id or the one that is there. EvenflowError REVISION_MISMATCH."""
    if expected and expected != found:
        text = (
            "The Revision Id provided does not match the latest Revision Id. "
            f"Call the {call} API to retrieve the latest Revision Id"
        )
        raise EvenflowError(Reason.ERROR_REASON_REVISION_MISMATCH, text)


def refusal(error: RuleBroken) -> EvenflowError:
    """A broken rule as a call's end."""
    is_runtime = error.field_name == "runtime"
    reason = Reason.ERROR_REASON_RUNTIME_UNSUPPORTED if is_runtime else Reason.ERROR_REASON_INVALID_PARAMETER
    return EvenflowError(reason, str(error), metadata={"field": error.field_name})


def not_found(text: str) -> EvenflowError:
    """RESOURCE_NOT_FOUND."""
    return EvenflowError(Reason.ERROR_REASON_RESOURCE_NOT_FOUND, text)


def conflict(text: str) -> EvenflowError:
    """RESOURCE_CONFLICT."""
    return EvenflowError(Reason.ERROR_REASON_RESOURCE_CONFLICT, text)


def page_count(page_size: int, page_token: str, default: int) -> int:
    """How many a page may have. EvenflowError INVALID_PARAMETER."""
    if page_size > MAX_PAGE:
        raise invalid(f"page_size must be within 0 to {MAX_PAGE:,}, not {page_size:,}")
    if len(page_token) > MAX_PAGE_TOKEN_CHARACTERS:
        raise invalid("page_token must be one that a response gave")
    return page_size or default
