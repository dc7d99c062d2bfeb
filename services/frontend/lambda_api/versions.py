"""Operations on published versions and on aliases."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from evenflow.control.v1 import control_pb2, resources_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from services.frontend.lambda_api.call import Call, Handler, Result
from services.frontend.lambda_api.configuration import describe, with_states
from services.frontend.lambda_api.errors import FUNCTION_REVISION, REVISION_TEXT, bad_value, missing
from services.frontend.lambda_api.names import Named, ask, named, read, unqualified
from services.frontend.lambda_api.paging import page_of
from services.policy.arns import LATEST
from services.shared.errors import EvenflowError, Reason

_ALIAS_REVISION = REVISION_TEXT.format(read="GetAlias")


async def publish_version(call: Call) -> Result:
    """PublishVersion."""
    name = unqualified(call)
    if call.params.get("PublishTo"):
        raise bad_value("PublishTo is not offered by Evenflow: leave it out")
    request = control_pb2.PublishVersionRequest(
        tenant_id=call.tenant_id,
        function_name=name.function_name,
        description=call.params.get("Description") or "",
        expected_code_sha256=_code_sha256(call.params.get("CodeSha256") or ""),
        expected_revision_id=call.params.get("RevisionId") or "",
    )
    texts: dict[int, str] = {Reason.ERROR_REASON_REVISION_MISMATCH: FUNCTION_REVISION}
    answer = await ask(call, name, "PublishVersion", request, texts)
    await call.control.refresh(call.tenant_id, name.function_name)
    described = describe(call, answer.function, answer.published, answer.published.version)
    return with_states(described, is_new=True)


async def list_versions_by_function(call: Call) -> Result:
    """ListVersionsByFunction: $LATEST, then the published ones from the oldest on."""
    name = named(call)
    function = await read(call, name)
    versions = [function.latest, *function.versions]
    page, marker = page_of(versions, lambda version: version.version or LATEST, call.params)
    return {
        "Versions": [describe(call, function, version, version.version or LATEST) for version in page],
        "NextMarker": marker,
    }


async def create_alias(call: Call) -> Result:
    """CreateAlias."""
    name = unqualified(call)
    alias = _alias(call)
    arn = name.arn_of(alias.name)
    texts: dict[int, str] = {
        Reason.ERROR_REASON_RESOURCE_CONFLICT: f"Alias already exists: {arn}",
    }
    return await _put(call, name, alias, control_pb2.PUT_MODE_CREATE, [], texts)


async def update_alias(call: Call) -> Result:
    """UpdateAlias: what is given changes."""
    name = unqualified(call)
    fields = {
        "FunctionVersion": "function_version",
        "Description": "description",
        "RoutingConfig": "additional_version_weights",
    }
    mask = [field for member, field in fields.items() if call.params.get(member) is not None]
    alias = _alias(call)
    texts: dict[int, str] = {Reason.ERROR_REASON_REVISION_MISMATCH: _ALIAS_REVISION}
    return await _put(call, name, alias, control_pb2.PUT_MODE_CHANGE, mask, texts)


async def get_alias(call: Call) -> Result:
    """GetAlias."""
    name = unqualified(call)
    function = await read(call, name)
    for alias in function.aliases:
        if alias.name == call.params["Name"]:
            return _describe(name, alias)
    raise missing(_no_alias(name, call.params["Name"]))


async def delete_alias(call: Call) -> Result:
    """DeleteAlias."""
    name = unqualified(call)
    request = control_pb2.DeleteAliasRequest(
        tenant_id=call.tenant_id, function_name=name.function_name, name=call.params["Name"]
    )
    await ask(call, name, "DeleteAlias", request)
    await call.control.refresh(call.tenant_id, name.function_name)
    return {}


async def list_aliases(call: Call) -> Result:
    """ListAliases, by name; of one version those that send traffic to it."""
    name = unqualified(call)
    function = await read(call, name)
    wanted = call.params.get("FunctionVersion")
    aliases = [
        alias
        for alias in function.aliases
        if wanted is None or wanted == alias.function_version or wanted in alias.additional_version_weights
    ]
    page, marker = page_of(aliases, lambda alias: alias.name, call.params)
    return {"Aliases": [_describe(name, alias) for alias in page], "NextMarker": marker}


async def _put(
    call: Call,
    name: Named,
    alias: resources_pb2.Alias,
    mode: "control_pb2.PutMode.ValueType",
    mask: list[str],
    texts: dict[int, str],
) -> Result:
    request = control_pb2.PutAliasRequest(
        tenant_id=call.tenant_id,
        function_name=name.function_name,
        alias=alias,
        mode=mode,
        update_mask=FieldMask(paths=mask),
        expected_revision_id=call.params.get("RevisionId") or "",
    )
    try:
        answer = await ask(call, name, "PutAlias", request, texts)
    except EvenflowError as e:
        if e.reason != Reason.ERROR_REASON_RESOURCE_NOT_FOUND:
            raise
        version = e.metadata.get("version")
        text = f"Function not found: {name.arn_of(version)}" if version else _no_alias(name, alias.name)
        raise missing(text) from None
    await call.control.refresh(call.tenant_id, name.function_name)
    return _describe(name, answer.alias)


def _alias(call: Call) -> resources_pb2.Alias:
    routing = call.params.get("RoutingConfig") or {}
    return resources_pb2.Alias(
        name=call.params["Name"],
        function_version=call.params.get("FunctionVersion") or "",
        description=call.params.get("Description") or "",
        additional_version_weights=routing.get("AdditionalVersionWeights"),
    )


def _describe(name: Named, alias: resources_pb2.Alias) -> dict[str, Any]:
    described: dict[str, Any] = {
        "AliasArn": name.arn_of(alias.name),
        "Name": alias.name,
        "FunctionVersion": alias.function_version,
        "Description": alias.description,
        "RevisionId": alias.revision_id,
    }
    if alias.additional_version_weights:
        described["RoutingConfig"] = {"AdditionalVersionWeights": dict(alias.additional_version_weights)}
    return described


def _no_alias(name: Named, alias: str) -> str:
    return f"Cannot find alias arn: {name.arn_of(alias)}"


def _code_sha256(text: str) -> bytes:
    if not text:
        return b""
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != 32:
        raise bad_value("CodeSha256 must be a SHA-256 in base64, as GetFunctionConfiguration tells it")
    return found


OPERATIONS: Mapping[str, Handler] = {
    "PublishVersion": publish_version,
    "ListVersionsByFunction": list_versions_by_function,
    "CreateAlias": create_alias,
    "UpdateAlias": update_alias,
    "GetAlias": get_alias,
    "DeleteAlias": delete_alias,
    "ListAliases": list_aliases,
}
