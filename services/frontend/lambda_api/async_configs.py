"""Operations on how async events are treated: FunctionEventInvokeConfig."""

from collections.abc import Mapping
from typing import Any

from evenflow.control.v1 import control_pb2, resources_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from services.frontend.lambda_api.call import Call, Handler, Result
from services.frontend.lambda_api.errors import bad_value, missing
from services.frontend.lambda_api.names import Named, ask, named, read, require
from services.frontend.lambda_api.paging import page_of
from services.policy.arns import LATEST
from services.policy.function_rules import MAX_EVENT_AGE_SECONDS, MAX_RETRY_ATTEMPTS
from services.shared.errors import Reason

_NOTHING = "You must specify at least one of error handling or destination setting."


async def put_config(call: Call) -> Result:
    """PutFunctionEventInvokeConfig: replaces all of it."""
    config, mask = _config(call)
    if not mask:
        raise bad_value(_NOTHING)
    return await _put(call, config, control_pb2.PUT_MODE_UNSPECIFIED, [])


async def update_config(call: Call) -> Result:
    """UpdateFunctionEventInvokeConfig: merges."""
    config, mask = _config(call)
    if not mask:
        raise bad_value(_NOTHING)
    return await _put(call, config, control_pb2.PUT_MODE_CHANGE, mask)


async def get_config(call: Call) -> Result:
    """GetFunctionEventInvokeConfig."""
    name = named(call)
    view = await require(call, name)
    config = view.async_config(name.qualifier)
    if not config.modified_at_ms:
        raise missing(_absent(name))
    return _describe(name, name.qualifier, config)


async def delete_config(call: Call) -> Result:
    """DeleteFunctionEventInvokeConfig."""
    name = named(call)
    await require(call, name)
    request = control_pb2.DeleteAsyncConfigRequest(
        tenant_id=call.tenant_id, function_name=name.function_name, qualifier=name.qualifier
    )
    texts: dict[int, str] = {Reason.ERROR_REASON_RESOURCE_NOT_FOUND: _absent(name)}
    await ask(call, name, "DeleteAsyncConfig", request, texts)
    await call.control.refresh(call.tenant_id, name.function_name)
    return {}


async def list_configs(call: Call) -> Result:
    """ListFunctionEventInvokeConfigs: $LATEST's, then the others by qualifier."""
    name = named(call)
    function = await read(call, name)
    found = [(LATEST, function.async_config), *sorted(function.qualified_async_configs.items())]
    configs = [(qualifier, config) for qualifier, config in found if config.modified_at_ms]
    page, marker = page_of(configs, lambda one: one[0], call.params)
    return {
        "FunctionEventInvokeConfigs": [_describe(name, qualifier, config) for qualifier, config in page],
        "NextMarker": marker,
    }


async def _put(
    call: Call, config: resources_pb2.AsyncConfig, mode: "control_pb2.PutMode.ValueType", mask: list[str]
) -> Result:
    name = named(call)
    await require(call, name)
    request = control_pb2.PutAsyncConfigRequest(
        tenant_id=call.tenant_id,
        function_name=name.function_name,
        qualifier=name.qualifier,
        config=config,
        mode=mode,
        update_mask=FieldMask(paths=mask),
    )
    texts: dict[int, str] = {Reason.ERROR_REASON_RESOURCE_NOT_FOUND: _absent(name)}
    answer = await ask(call, name, "PutAsyncConfig", request, texts)
    await call.control.refresh(call.tenant_id, name.function_name)
    return _describe(name, name.qualifier, answer.config)


def _config(call: Call) -> tuple[resources_pb2.AsyncConfig, list[str]]:
    config, mask = resources_pb2.AsyncConfig(), []
    numbers = {
        "MaximumRetryAttempts": "maximum_retry_attempts",
        "MaximumEventAgeInSeconds": "maximum_event_age_seconds",
    }
    for member, field in numbers.items():
        if call.params.get(member) is not None:
            setattr(config, field, call.params[member])
            mask.append(field)
    destinations = call.params.get("DestinationConfig")
    if destinations is not None:
        for member, field in (("OnSuccess", "on_success_arn"), ("OnFailure", "on_failure_arn")):
            # A side that is given empty loses its destination; one that is not given keeps it.
            if destinations.get(member) is not None:
                setattr(config, field, destinations[member].get("Destination") or "")
                mask.append(field)
    return config, mask


def _describe(name: Named, qualifier: str, config: resources_pb2.AsyncConfig) -> dict[str, Any]:
    retries, age = MAX_RETRY_ATTEMPTS, MAX_EVENT_AGE_SECONDS
    if config.HasField("maximum_retry_attempts"):
        retries = config.maximum_retry_attempts
    if config.HasField("maximum_event_age_seconds"):
        age = config.maximum_event_age_seconds
    destinations = {
        member: {"Destination": arn} if arn else {}
        for member, arn in (("OnSuccess", config.on_success_arn), ("OnFailure", config.on_failure_arn))
    }
    return {
        "LastModified": config.modified_at_ms / 1_000,
        "FunctionArn": name.arn_of(qualifier or LATEST),
        "MaximumRetryAttempts": retries,
        "MaximumEventAgeInSeconds": age,
        "DestinationConfig": destinations,
    }


def _absent(name: Named) -> str:
    return f"The function {name.arn_of(name.qualifier or LATEST)} doesn't have an EventInvokeConfig"


OPERATIONS: Mapping[str, Handler] = {
    "PutFunctionEventInvokeConfig": put_config,
    "UpdateFunctionEventInvokeConfig": update_config,
    "GetFunctionEventInvokeConfig": get_config,
    "DeleteFunctionEventInvokeConfig": delete_config,
    "ListFunctionEventInvokeConfigs": list_configs,
}
