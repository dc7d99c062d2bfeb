"""Operations on functions: create, read, change, delete, list."""

from collections.abc import Mapping
from typing import Any

from evenflow.control.v1 import control_pb2, resources_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from services.frontend.lambda_api import code
from services.frontend.lambda_api.call import Call, Handler, Result
from services.frontend.lambda_api.configuration import describe, keep, read_configuration, with_states
from services.frontend.lambda_api.errors import FUNCTION_REVISION, bad_value
from services.frontend.lambda_api.names import Named, ask, named, read_version, unqualified
from services.frontend.lambda_api.paging import make_marker, read_marker, size_of
from services.policy.arns import LATEST
from services.shared.errors import Reason
from services.shared.function_view import FunctionView

_WRITE_TEXTS: dict[int, str] = {Reason.ERROR_REASON_REVISION_MISMATCH: FUNCTION_REVISION}


async def create_function(call: Call) -> Result:
    """CreateFunction."""
    name = unqualified(call)
    if (call.params.get("PackageType") or "Zip") != "Zip":
        raise bad_value("PackageType Image is not offered by Evenflow: bring the code as a Zip")
    if not call.params.get("Runtime") or not call.params.get("Handler"):
        raise bad_value("Runtime and Handler are mandatory parameters for functions created with deployment packages.")
    latest = resources_pb2.FunctionVersion(version=LATEST)
    await read_configuration(call, latest)
    latest.code_sha256 = await code.store(call, call.params["Code"])
    function = resources_pb2.Function(
        tenant_id=call.tenant_id, function_name=name.function_name, latest=latest, tags=call.params.get("Tags")
    )
    request = control_pb2.CreateFunctionRequest(function=function, publishes=bool(call.params.get("Publish")))
    texts: dict[int, str] = {Reason.ERROR_REASON_RESOURCE_CONFLICT: f"Function already exist: {name.function_name}"}
    answer = await ask(call, name, "CreateFunction", request, texts)
    await call.control.refresh(call.tenant_id, name.function_name)
    return with_states(_written(call, answer), is_new=True)


async def get_function(call: Call) -> Result:
    """GetFunction."""
    name = named(call)
    view, version = await read_version(call, name)
    result: dict[str, Any] = {
        "Configuration": with_states(describe(call, view.function, version, name.qualifier)),
        "Code": {
            "RepositoryType": "S3",
            "Location": code.location(call, version.code_sha256, version.code_size_bytes),
        },
    }
    if view.function.tags:
        result["Tags"] = dict(view.function.tags)
    if view.function.HasField("reserved_concurrency"):
        result["Concurrency"] = {"ReservedConcurrentExecutions": view.function.reserved_concurrency}
    return result


async def get_function_configuration(call: Call) -> Result:
    """GetFunctionConfiguration."""
    name = named(call)
    view, version = await read_version(call, name)
    return with_states(describe(call, view.function, version, name.qualifier))


async def update_function_code(call: Call) -> Result:
    """UpdateFunctionCode."""
    name = unqualified(call)
    if call.params.get("PublishTo"):
        raise bad_value("PublishTo is not offered by Evenflow: leave it out")
    latest = resources_pb2.FunctionVersion()
    mask = ["code_sha256"]
    if call.params.get("Architectures"):
        keep(latest, {"Architectures": call.params["Architectures"]})
        mask.append("kept_fields")
    latest.code_sha256 = await code.store(call, call.params)
    return await _update(call, name, latest, mask)


async def update_function_configuration(call: Call) -> Result:
    """UpdateFunctionConfiguration."""
    name = unqualified(call)
    latest = resources_pb2.FunctionVersion()
    return await _update(call, name, latest, await read_configuration(call, latest))


async def delete_function(call: Call) -> Result:
    """DeleteFunction."""
    name = named(call)
    if name.qualifier == LATEST:
        raise bad_value("$LATEST version cannot be deleted without deleting the function.")
    if name.qualifier and not name.qualifier.isdecimal():
        raise bad_value("Deletion of aliases is not currently supported.")
    request = control_pb2.DeleteFunctionRequest(
        tenant_id=call.tenant_id, function_name=name.function_name, version=name.qualifier
    )
    await ask(call, name, "DeleteFunction", request)
    await call.control.refresh(call.tenant_id, name.function_name)
    return {"StatusCode": 204}


async def list_functions(call: Call) -> Result:
    """ListFunctions. A marker says which page of control's and how many of its items came before."""
    size, is_all = size_of(call.params), call.params.get("FunctionVersion") == "ALL"
    token, skipped = _read_place(call.params.get("Marker") or "")
    found: list[dict[str, Any]] = []
    while True:
        request = control_pb2.ListFunctionsRequest(tenant_id=call.tenant_id, page_size=size, page_token=token)
        page = await call.control.call("ListFunctions", request)
        items = [item for function in page.functions for item in _listed(function, is_all)][skipped:]
        room = size - len(found)
        found += [
            describe(call, function, version, version.version if is_all else "") for function, version in items[:room]
        ]
        if len(items) > room:
            return {"Functions": found, "NextMarker": make_marker(f"{skipped + room} {token}")}
        token, skipped = page.next_page_token, 0
        if not token:
            return {"Functions": found}
        if len(found) == size:
            return {"Functions": found, "NextMarker": make_marker(f"0 {token}")}


def _read_place(marker: str) -> tuple[str, int]:
    if not marker:
        return "", 0
    skipped, _, token = read_marker(marker).partition(" ")
    if not skipped.isdecimal() or len(skipped) > 9:
        raise bad_value("Marker must be what the page before answered as NextMarker")
    return token, int(skipped)


def _listed(
    function: resources_pb2.Function, is_all: bool
) -> list[tuple[resources_pb2.Function, resources_pb2.FunctionVersion]]:
    versions = [function.latest, *(function.versions if is_all else ())]
    return [(function, version) for version in versions]


async def _update(call: Call, name: Named, latest: resources_pb2.FunctionVersion, mask: list[str]) -> Result:
    request = control_pb2.UpdateFunctionRequest(
        tenant_id=call.tenant_id,
        function_name=name.function_name,
        latest=latest,
        update_mask=FieldMask(paths=mask),
        expected_revision_id=call.params.get("RevisionId") or "",
        publishes=bool(call.params.get("Publish")),
        dry_run=bool(call.params.get("DryRun")),
    )
    answer = await ask(call, name, "UpdateFunction", request, _WRITE_TEXTS)
    await call.control.refresh(call.tenant_id, name.function_name)
    return with_states(_written(call, answer), is_updated=True)


def _written(call: Call, answer: Any) -> dict[str, Any]:
    """What was published, or else $LATEST."""
    view = FunctionView(answer.function)
    if answer.HasField("published"):
        return describe(call, view.function, answer.published, answer.published.version)
    return describe(call, view.function, view.function.latest)


OPERATIONS: Mapping[str, Handler] = {
    "CreateFunction": create_function,
    "GetFunction": get_function,
    "GetFunctionConfiguration": get_function_configuration,
    "UpdateFunctionCode": update_function_code,
    "UpdateFunctionConfiguration": update_function_configuration,
    "DeleteFunction": delete_function,
    "ListFunctions": list_functions,
}
