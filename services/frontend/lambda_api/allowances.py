"""What a function with its own credentials may do at the API: what its deploy file allows."""

from services.frontend.lambda_api.call import Call
from services.frontend.lambda_api.errors import ApiError
from services.frontend.lambda_api.names import named
from services.policy.permissions import Caller, Resource, why_not


def require_allowed(call: Call, caller: Caller) -> None:
    """Pass when the caller may do this operation with what its parameters name. ApiError: AccessDeniedException."""
    refusal = why_not(caller, f"lambda:{call.operation}", _resource(call))
    if refusal is not None:
        raise ApiError("AccessDeniedException", 403, refusal)


def _resource(call: Call) -> Resource:
    if call.params.get("FunctionName"):
        name = named(call)
        return Resource(call.tenant_id, name.qualified_arn, name.function_name, name.qualifier)
    for member in ("Resource", "Arn"):
        if call.params.get(member):
            return Resource(call.tenant_id, call.params[member])
    if call.params.get("LayerName"):
        return Resource(call.tenant_id, call.arn(f"layer:{call.params['LayerName']}"))
    if call.params.get("UUID"):
        return Resource(call.tenant_id, call.arn(f"event-source-mapping:{call.params['UUID']}"))
    return Resource(call.tenant_id, "*")
