"""A function's configuration: from the API's members to the contract's fields and back."""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from evenflow.control.v1 import control_pb2, resources_pb2

from services.frontend.lambda_api.call import Call
from services.frontend.lambda_api.errors import bad_bounds, bad_value, reworded
from services.frontend.lambda_api.layer_names import layer_arn, parse_layer_version_arn
from services.frontend.lambda_api.times import with_offset
from services.policy.arns import LATEST
from services.policy.function_rules import MAX_TIMEOUT_MS
from services.shared.errors import EvenflowError

DEFAULT_EPHEMERAL_STORAGE_MB = 512
# Kept and told, without effect here: they are about AWS's own surroundings.
KEPT = ("VpcConfig", "KMSKeyArn", "TracingConfig", "FileSystemConfigs", "ImageConfig", "LoggingConfig", "Architectures")
# What would run otherwise than asked for is refused rather than kept.
NOT_OFFERED = (
    "CodeSigningConfigArn",
    "TenancyConfig",
    "CapacityProviderConfig",
    "DurableConfig",
    "RuntimeConfig",
    "AcceleratorConfig",
    "PublishTo",
)
_Setter = Callable[[resources_pb2.FunctionVersion, Any], None]


def _set(field: str, scale: int = 1) -> tuple[str, _Setter]:
    def setter(version: resources_pb2.FunctionVersion, value: Any) -> None:
        setattr(version, field, value * scale if scale != 1 else value)

    return field, setter


def _set_timeout(version: resources_pb2.FunctionVersion, value: Any) -> None:
    # The model has no upper bound for it; control would speak of milliseconds.
    if value > MAX_TIMEOUT_MS // 1_000:
        raise bad_bounds(
            f"1 validation error detected: Value '{value}' at 'timeout' failed to satisfy constraint: "
            f"Member must have value less than or equal to {MAX_TIMEOUT_MS // 1_000}"
        )
    version.timeout_ms = value * 1_000


def _set_environment(version: resources_pb2.FunctionVersion, value: Any) -> None:
    version.environment.update(value.get("Variables") or {})


def _set_dead_letter(version: resources_pb2.FunctionVersion, value: Any) -> None:
    version.dead_letter_arn = value.get("TargetArn") or ""


def _set_storage(version: resources_pb2.FunctionVersion, value: Any) -> None:
    version.ephemeral_storage_mb = value["Size"]


def _set_snap_start(version: resources_pb2.FunctionVersion, value: Any) -> None:
    version.snap_start = value.get("ApplyOn") == "PublishedVersions"


# Member -> field of the contract, and how it is set.
_FIELDS: Mapping[str, tuple[str, _Setter]] = {
    "Role": _set("role"),
    "Handler": _set("handler"),
    "Runtime": _set("runtime"),
    "Description": _set("description"),
    "Timeout": ("timeout_ms", _set_timeout),
    "MemorySize": _set("memory_mb"),
    "Environment": ("environment", _set_environment),
    "DeadLetterConfig": ("dead_letter_arn", _set_dead_letter),
    "EphemeralStorage": ("ephemeral_storage_mb", _set_storage),
    "SnapStart": ("snap_start", _set_snap_start),
}


async def read_configuration(call: Call, version: resources_pb2.FunctionVersion) -> list[str]:
    """Set the fields that the request's members give; their names, for a mask. bad_value: what is not offered."""
    for name in NOT_OFFERED:
        if call.params.get(name):
            raise bad_value(f"{name} is not offered by Evenflow: leave it out")
    mask: list[str] = []
    for name, (field, setter) in _FIELDS.items():
        if call.params.get(name) is not None:
            setter(version, call.params[name])
            mask.append(field)
    if call.params.get("Layers") is not None:
        version.layers.extend([await _layer(call, arn) for arn in call.params["Layers"]])
        mask.append("layers")
    kept = {name: call.params[name] for name in KEPT if call.params.get(name) is not None}
    if kept:
        keep(version, kept)
        mask.append("kept_fields")
    return mask


def keep(version: resources_pb2.FunctionVersion, members: Mapping[str, Any]) -> None:
    """Set what is kept without effect."""
    version.kept_fields = json.dumps(members, sort_keys=True).encode()


async def _layer(call: Call, arn: str) -> resources_pb2.Layer:
    reference = parse_layer_version_arn(arn)
    absent = bad_value(f"Layer version {arn} does not exist.")
    if reference.account_id != call.account_id:
        raise absent
    request = control_pb2.GetLayerRequest(
        tenant_id=call.tenant_id, layer_name=reference.layer_name, version=reference.version
    )
    try:
        found = (await call.control.call("GetLayer", request)).layer
    except EvenflowError as e:
        if e.kind.http_status == 404:
            raise absent from None
        raise reworded(e, {}) from None
    # The name is what the function's configuration tells, so it has the version in it.
    return resources_pb2.Layer(
        name=f"{reference.layer_name}:{reference.version}",
        code_sha256=found.code_sha256,
        code_size_bytes=found.code_size_bytes,
    )


def describe(
    call: Call, function: resources_pb2.Function, version: resources_pb2.FunctionVersion, qualifier: str = ""
) -> dict[str, Any]:
    """FunctionConfiguration without its states, as lists have it. `qualifier`: what its ARN says; empty: nothing."""
    kept: Mapping[str, Any] = json.loads(version.kept_fields) if version.kept_fields else {}
    arn = call.arn(f"function:{function.function_name}")
    snap_start = {"ApplyOn": "PublishedVersions" if version.snap_start else "None", "OptimizationStatus": "Off"}
    if version.snap_start and version.version != LATEST:
        snap_start["OptimizationStatus"] = "On"
    log_group = f"/aws/lambda/{function.function_name}"
    described: dict[str, Any] = {
        "FunctionName": function.function_name,
        "FunctionArn": f"{arn}:{qualifier}" if qualifier else arn,
        "Runtime": version.runtime,
        "Role": version.role,
        "Handler": version.handler,
        "CodeSize": version.code_size_bytes,
        "Description": version.description,
        # Shorter than a second only when another tool deployed it so: AWS knows whole ones.
        "Timeout": -(-version.timeout_ms // 1_000),
        "MemorySize": version.memory_mb,
        "LastModified": with_offset(version.modified_at_ms or function.modified_at_ms),
        "CodeSha256": base64.b64encode(version.code_sha256).decode(),
        "Version": version.version or LATEST,
        "TracingConfig": kept.get("TracingConfig") or {"Mode": "PassThrough"},
        "RevisionId": version.revision_id,
        "PackageType": "Zip",
        "Architectures": kept.get("Architectures") or ["x86_64"],
        "EphemeralStorage": {"Size": version.ephemeral_storage_mb or DEFAULT_EPHEMERAL_STORAGE_MB},
        "SnapStart": snap_start,
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": log_group, **kept.get("LoggingConfig", {})},
    }
    if version.environment:
        described["Environment"] = {"Variables": dict(version.environment)}
    if version.dead_letter_arn:
        described["DeadLetterConfig"] = {"TargetArn": version.dead_letter_arn}
    if version.layers:
        described["Layers"] = [
            {"Arn": layer_arn(call, layer.name), "CodeSize": layer.code_size_bytes} for layer in version.layers
        ]
    if version.version not in ("", LATEST):
        described["MasterArn"] = f"{arn}:{LATEST}"
    if kept.get("VpcConfig"):
        described["VpcConfig"] = {"VpcId": "", "SubnetIds": [], "SecurityGroupIds": [], **kept["VpcConfig"]}
    if kept.get("ImageConfig"):
        described["ImageConfigResponse"] = {"ImageConfig": kept["ImageConfig"]}
    described.update({name: kept[name] for name in ("KMSKeyArn", "FileSystemConfigs") if kept.get(name)})
    return described


def with_states(described: dict[str, Any], *, is_new: bool = False, is_updated: bool = False) -> dict[str, Any]:
    """The same with the states: those of the moment of the change in its own answer, else those of what runs."""
    if is_new:
        described |= {
            "State": "Pending",
            "StateReason": "The function is being created.",
            "StateReasonCode": "Creating",
        }
    else:
        described |= {"State": "Active", "LastUpdateStatus": "Successful"}
    if is_updated:
        described |= {
            "LastUpdateStatus": "InProgress",
            "LastUpdateStatusReason": "The function is being updated.",
        }
    return described
