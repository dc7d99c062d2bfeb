"""Which function, version or alias a request names, and how its ARN is written in the answer."""

from dataclasses import dataclass
from typing import Any

from evenflow.control.v1 import control_pb2, resources_pb2

from services.frontend.lambda_api.call import Call
from services.frontend.lambda_api.errors import ApiError, bad_value, missing, reworded
from services.policy.arns import LATEST, parse_reference
from services.shared.errors import EvenflowError, Reason
from services.shared.function_view import FunctionView


@dataclass(frozen=True, slots=True)
class Named:
    """A function as the request names it; `qualifier` is empty where it gives none."""

    function_name: str
    qualifier: str
    # Unqualified, in the request's region.
    arn: str

    @property
    def qualified_arn(self) -> str:
        """With the qualifier that was given."""
        return f"{self.arn}:{self.qualifier}" if self.qualifier else self.arn

    def arn_of(self, qualifier: str) -> str:
        """With another one."""
        return f"{self.arn}:{qualifier}"


def named(call: Call, member: str = "FunctionName", *, text: str | None = None) -> Named:
    """The function that a parameter names, by name, partial ARN or ARN. bad_value; missing: of another account."""
    given = call.params[member] if text is None else text
    asked = call.params.get("Qualifier") or ""
    try:
        reference = parse_reference(given)
    except ValueError as e:
        raise bad_value(str(e)) from None
    inside = reference.qualifier if reference.qualifier != LATEST or given.endswith(f":{LATEST}") else ""
    if inside and asked and inside != asked:
        raise bad_value("The derived qualifier from the function name does not match the specified qualifier.")
    found = Named(reference.function_name, inside or asked, call.arn(f"function:{reference.function_name}"))
    if reference.account_id not in (None, call.account_id):
        arn = found.qualified_arn.replace(f":{call.account_id}:", f":{reference.account_id}:", 1)
        raise missing(f"Function not found: {arn}")
    return found


def unqualified(call: Call) -> Named:
    """As named, for operations on the whole function: "$LATEST" is let pass, a version or alias is not. bad_value."""
    found = named(call)
    if found.qualifier not in ("", LATEST):
        raise bad_value(f"{call.operation} takes the function itself, not its version or alias {found.qualifier!r}")
    return found


async def read(call: Call, function: Named) -> resources_pb2.Function:
    """The function as control has it now. missing."""
    request = control_pb2.GetFunctionRequest(tenant_id=call.tenant_id, function_name=function.function_name)
    answer = await ask(call, function, "GetFunction", request)
    found: resources_pb2.Function = answer.function
    return found


async def read_version(call: Call, function: Named) -> tuple[FunctionView, resources_pb2.FunctionVersion]:
    """The function and the version that its qualifier names (an alias: the one it points at first). missing."""
    view = FunctionView(await read(call, function))
    pointer = view.aliases.get(function.qualifier)
    version = view.version(pointer.version if pointer else function.qualifier)
    if version is None:
        raise not_found(function)
    return view, version


async def require(call: Call, function: Named) -> FunctionView:
    """The function, which must have the qualifier that is named. missing."""
    view = FunctionView(await read(call, function))
    if not view.knows(function.qualifier):
        raise not_found(function)
    return view


async def ask(call: Call, function: Named, method: str, request: object, texts: dict[int, str] | None = None) -> Any:
    """One call to control about a function; its refusals in AWS's words, `texts` by reason. EvenflowError, ApiError."""
    try:
        return await call.control.call(method, request)
    except EvenflowError as e:
        words = {Reason.ERROR_REASON_FUNCTION_NOT_FOUND: not_found(function).text, **(texts or {})}
        raise reworded(e, words) from None


def not_found(function: Named) -> ApiError:
    """As AWS says it."""
    return missing(f"Function not found: {function.qualified_arn}")


async def ask_source(call: Call, method: str, request: object) -> Any:
    """Control's answer on an event source. ApiError ResourceNotFoundException: there is none; EvenflowError."""
    try:
        return await call.control.call(method, request)
    except EvenflowError as e:
        if e.kind.http_status == 404:
            raise missing() from None
        raise
