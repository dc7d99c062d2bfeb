"""Operations on layers: publish, read, list, delete."""

import base64
from collections.abc import Mapping
from typing import Any

from evenflow.control.v1 import control_pb2, resources_pb2

from services.frontend.lambda_api import code
from services.frontend.lambda_api.call import Call, Handler, Result
from services.frontend.lambda_api.errors import ApiError, bad_value, missing
from services.frontend.lambda_api.layer_names import LayerReference, parse_layer_name, parse_layer_version_arn
from services.frontend.lambda_api.paging import make_marker, read_marker, size_of
from services.frontend.lambda_api.times import with_offset
from services.shared.errors import EvenflowError

MAX_VERSION = 2**63 - 1


async def publish_layer_version(call: Call) -> Result:
    """PublishLayerVersion."""
    reference = _own(call, parse_layer_name(call.params["LayerName"]))
    layer = resources_pb2.LayerVersion(
        tenant_id=call.tenant_id,
        layer_name=reference.layer_name,
        description=call.params.get("Description") or "",
        license_info=call.params.get("LicenseInfo") or "",
        compatible_runtimes=call.params.get("CompatibleRuntimes"),
        compatible_architectures=call.params.get("CompatibleArchitectures"),
        code_sha256=await code.store(call, call.params["Content"]),
    )
    answer = await call.control.call("PublishLayer", control_pb2.PublishLayerRequest(layer=layer))
    return _whole(call, answer.layer)


async def get_layer_version(call: Call) -> Result:
    """GetLayerVersion."""
    reference = parse_layer_name(call.params["LayerName"])
    return await _get(call, reference, call.params["VersionNumber"])


async def get_layer_version_by_arn(call: Call) -> Result:
    """GetLayerVersionByArn."""
    reference = parse_layer_version_arn(call.params["Arn"])
    return await _get(call, reference, reference.version)


async def delete_layer_version(call: Call) -> Result:
    """DeleteLayerVersion: functions that use it keep it."""
    reference = _own(call, parse_layer_name(call.params["LayerName"]))
    version = call.params["VersionNumber"]
    if 1 <= version <= MAX_VERSION:
        request = control_pb2.DeleteLayerRequest(
            tenant_id=call.tenant_id, layer_name=reference.layer_name, version=version
        )
        await call.control.call("DeleteLayer", request)
    return {}


async def list_layers(call: Call) -> Result:
    """ListLayers: each with its latest version."""
    layers, marker = await _list(call, "")
    found = [
        {
            "LayerName": layer.layer_name,
            "LayerArn": call.arn(f"layer:{layer.layer_name}"),
            "LatestMatchingVersion": _describe(call, layer),
        }
        for layer in layers
    ]
    return {"Layers": found, "NextMarker": marker}


async def list_layer_versions(call: Call) -> Result:
    """ListLayerVersions: the newest first."""
    reference = _own(call, parse_layer_name(call.params["LayerName"]))
    layers, marker = await _list(call, reference.layer_name)
    return {"LayerVersions": [_describe(call, layer) for layer in layers], "NextMarker": marker}


async def _list(call: Call, layer_name: str) -> tuple[list[resources_pb2.LayerVersion], str | None]:
    given = call.params.get("Marker")
    request = control_pb2.ListLayersRequest(
        tenant_id=call.tenant_id,
        layer_name=layer_name,
        page_size=size_of(call.params),
        page_token=read_marker(given) if given else "",
    )
    answer = await call.control.call("ListLayers", request)
    found = [layer for layer in answer.layers if _matches(call, layer)]
    # What is passed over makes a page shorter, not the list.
    return found, make_marker(answer.next_page_token) if answer.next_page_token else None


def _matches(call: Call, layer: resources_pb2.LayerVersion) -> bool:
    runtime, architecture = call.params.get("CompatibleRuntime"), call.params.get("CompatibleArchitecture")
    if runtime and runtime not in layer.compatible_runtimes:
        return False
    return not architecture or architecture in layer.compatible_architectures


async def _get(call: Call, reference: LayerReference, version: int) -> Result:
    if not 1 <= version <= MAX_VERSION:
        raise bad_value("Layer Version Cannot be less than 1.")
    _own(call, reference)
    request = control_pb2.GetLayerRequest(tenant_id=call.tenant_id, layer_name=reference.layer_name, version=version)
    try:
        answer = await call.control.call("GetLayer", request)
    except EvenflowError as e:
        if e.kind.http_status == 404:
            raise missing() from None
        raise
    return _whole(call, answer.layer)


def _own(call: Call, reference: LayerReference) -> LayerReference:
    if reference.account_id not in ("", call.account_id):
        raise ApiError("AccessDeniedException", 403, f"Layers of account {reference.account_id} are not of this fleet.")
    return reference


def _whole(call: Call, layer: resources_pb2.LayerVersion) -> dict[str, Any]:
    return {
        "Content": {
            "Location": code.location(call, layer.code_sha256, layer.code_size_bytes),
            "CodeSha256": base64.b64encode(layer.code_sha256).decode(),
            "CodeSize": layer.code_size_bytes,
        },
        "LayerArn": call.arn(f"layer:{layer.layer_name}"),
        **_describe(call, layer),
    }


def _describe(call: Call, layer: resources_pb2.LayerVersion) -> dict[str, Any]:
    return {
        "LayerVersionArn": call.arn(f"layer:{layer.layer_name}:{layer.version}"),
        "Version": layer.version,
        "Description": layer.description,
        "CreatedDate": with_offset(layer.created_at_ms),
        "CompatibleRuntimes": list(layer.compatible_runtimes) or None,
        "CompatibleArchitectures": list(layer.compatible_architectures) or None,
        "LicenseInfo": layer.license_info or None,
    }


OPERATIONS: Mapping[str, Handler] = {
    "PublishLayerVersion": publish_layer_version,
    "GetLayerVersion": get_layer_version,
    "GetLayerVersionByArn": get_layer_version_by_arn,
    "DeleteLayerVersion": delete_layer_version,
    "ListLayers": list_layers,
    "ListLayerVersions": list_layer_versions,
}
