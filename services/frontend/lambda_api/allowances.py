"""What a function with its own credentials may do at the API: what its deploy file allows."""

from services.frontend.lambda_api.call import Call
from services.frontend.lambda_api.errors import ApiError
from services.frontend.lambda_api.layer_names import parse_layer_name
from services.frontend.lambda_api.names import named
from services.policy.permissions import Caller, Resource, why_not


def require_allowed(call: Call, caller: Caller) -> None:
    """Pass when the caller may do this operation with all that its parameters name. ApiError: AccessDeniedException."""
    for resource in _resources(call):
        refusal = why_not(caller, f"lambda:{call.operation}", resource)
        if refusal is not None:
            raise ApiError("AccessDeniedException", 403, refusal)


def _resources(call: Call) -> list[Resource]:
    found = []
    if call.params.get("FunctionName"):
        name = named(call)
        found.append(Resource(call.tenant_id, name.qualified_arn, name.function_name, name.qualifier))
    # A source that is given to another function is about both.
    if call.params.get("UUID"):
        found.append(Resource(call.tenant_id, call.arn(f"event-source-mapping:{call.params['UUID']}")))
    if call.params.get("LayerName"):
        # By its name: an ARN inside an ARN would be what a pattern for names such as a* takes for one.
        reference = parse_layer_name(call.params["LayerName"])
        found.append(Resource(call.tenant_id, call.arn(f"layer:{reference.layer_name}")))
    found += [Resource(call.tenant_id, call.params[one]) for one in ("Resource", "Arn") if call.params.get(one)]
    return found or [Resource(call.tenant_id, "*")]
