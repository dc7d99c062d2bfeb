"""Operations on tags of functions and event source mappings."""

from collections.abc import Mapping, Sequence

from evenflow.control.v1 import control_pb2

from services.frontend.lambda_api.call import Call, Handler, Result
from services.frontend.lambda_api.errors import bad_value, missing
from services.frontend.lambda_api.names import Named, ask, ask_source, named, read

_SOURCE = "event-source-mapping:"


async def list_tags(call: Call) -> Result:
    """ListTags."""
    resource = _resource(call)
    if isinstance(resource, Named):
        return {"Tags": dict((await read(call, resource)).tags)}
    request = control_pb2.GetSourceRequest(tenant_id=call.tenant_id, source_id=resource)
    return {"Tags": dict((await ask_source(call, "GetSource", request)).source.tags)}


async def tag_resource(call: Call) -> Result:
    """TagResource."""
    return await _change(call, call.params["Tags"], ())


async def untag_resource(call: Call) -> Result:
    """UntagResource."""
    return await _change(call, {}, call.params["TagKeys"])


async def _change(call: Call, tags: Mapping[str, str], removed: Sequence[str]) -> Result:
    resource = _resource(call)
    request = control_pb2.ChangeTagsRequest(tenant_id=call.tenant_id, tags=tags, removed_keys=removed)
    if isinstance(resource, Named):
        request.function_name = resource.function_name
        await ask(call, resource, "ChangeTags", request)
    else:
        request.source_id = resource
        await ask_source(call, "ChangeTags", request)
    return {}


def _resource(call: Call) -> Named | str:
    """The function, or the id of the source, that the ARN names. bad_value."""
    arn = call.params["Resource"]
    parts = arn.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn" or parts[2] != "lambda":
        raise bad_value(f"Resource must be the ARN of a function or an event source mapping, not {arn[:200]!r}")
    if parts[5].startswith(_SOURCE):
        if parts[4] != call.account_id:
            raise missing()
        return str(parts[5].removeprefix(_SOURCE))
    name = named(call, text=arn)
    if name.qualifier:
        raise bad_value("Tags on function aliases and versions are not supported. Please specify a function ARN.")
    return name


OPERATIONS: Mapping[str, Handler] = {
    "ListTags": list_tags,
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
}
