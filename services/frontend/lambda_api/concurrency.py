"""Operations on reserved and provisioned concurrency, recursion and the account."""

from collections.abc import Mapping
from typing import Any

from evenflow.control.v1 import control_pb2

from services.frontend.lambda_api.call import Call, Handler, Result
from services.frontend.lambda_api.code import MAX_PACKAGE_BYTES
from services.frontend.lambda_api.errors import bad_value
from services.frontend.lambda_api.names import Named, ask, named, read, require, unqualified
from services.frontend.lambda_api.paging import page_of
from services.frontend.lambda_api.times import without_fraction
from services.policy.arns import LATEST
from services.shared.errors import Reason

# AWS's own figures of an account.
TOTAL_CODE_BYTES = 80_530_636_800
UNZIPPED_CODE_BYTES = 262_144_000
_NO_PROVISIONED = "No Provisioned Concurrency Config found for this function"


async def put_concurrency(call: Call) -> Result:
    """PutFunctionConcurrency."""
    name = unqualified(call)
    request = control_pb2.PutConcurrencyRequest(
        tenant_id=call.tenant_id,
        function_name=name.function_name,
        reserved_concurrency=call.params["ReservedConcurrentExecutions"],
    )
    answer = await ask(call, name, "PutConcurrency", request)
    await call.control.refresh(call.tenant_id, name.function_name)
    return {"ReservedConcurrentExecutions": answer.function.reserved_concurrency}


async def get_concurrency(call: Call) -> Result:
    """GetFunctionConcurrency: empty where nothing is reserved."""
    function = await read(call, unqualified(call))
    if not function.HasField("reserved_concurrency"):
        return {}
    return {"ReservedConcurrentExecutions": function.reserved_concurrency}


async def delete_concurrency(call: Call) -> Result:
    """DeleteFunctionConcurrency."""
    name = unqualified(call)
    request = control_pb2.PutConcurrencyRequest(tenant_id=call.tenant_id, function_name=name.function_name)
    await ask(call, name, "PutConcurrency", request)
    await call.control.refresh(call.tenant_id, name.function_name)
    return {}


async def put_provisioned(call: Call) -> Result:
    """PutProvisionedConcurrencyConfig."""
    name = await _provisionable(call)
    answer = await _change(call, name, call.params["ProvisionedConcurrentExecutions"])
    return _describe(answer.status)


async def get_provisioned(call: Call) -> Result:
    """GetProvisionedConcurrencyConfig."""
    name = await _provisionable(call)
    for status in await _statuses(call, name, name.qualifier):
        return _describe(status)
    raise AssertionError("control answers the qualifier's status, or refuses")


async def delete_provisioned(call: Call) -> Result:
    """DeleteProvisionedConcurrencyConfig."""
    await _change(call, await _provisionable(call), None)
    return {}


async def list_provisioned(call: Call) -> Result:
    """ListProvisionedConcurrencyConfigs, by qualifier."""
    name = unqualified(call)
    statuses = sorted(await _statuses(call, name, ""), key=lambda status: str(status.qualifier))
    page, marker = page_of(statuses, lambda status: str(status.qualifier), call.params)
    return {
        "ProvisionedConcurrencyConfigs": [
            {"FunctionArn": name.arn_of(status.qualifier), **_describe(status)} for status in page
        ],
        "NextMarker": marker,
    }


async def put_recursion(call: Call) -> Result:
    """PutFunctionRecursionConfig."""
    name = unqualified(call)
    request = control_pb2.PutRecursionRequest(
        tenant_id=call.tenant_id,
        function_name=name.function_name,
        allows_recursion=call.params["RecursiveLoop"] == "Allow",
    )
    await ask(call, name, "PutRecursion", request)
    await call.control.refresh(call.tenant_id, name.function_name)
    return {"RecursiveLoop": call.params["RecursiveLoop"]}


async def get_recursion(call: Call) -> Result:
    """GetFunctionRecursionConfig."""
    function = await read(call, unqualified(call))
    return {"RecursiveLoop": "Allow" if function.allows_recursion else "Terminate"}


async def get_account_settings(call: Call) -> Result:
    """GetAccountSettings."""
    account = await call.control.call("GetAccount", control_pb2.GetAccountRequest(tenant_id=call.tenant_id))
    return {
        "AccountLimit": {
            "TotalCodeSize": TOTAL_CODE_BYTES,
            "CodeSizeUnzipped": UNZIPPED_CODE_BYTES,
            "CodeSizeZipped": MAX_PACKAGE_BYTES,
            "ConcurrentExecutions": account.account_concurrency,
            "UnreservedConcurrentExecutions": account.unreserved_concurrency,
        },
        "AccountUsage": {"TotalCodeSize": account.code_size_bytes, "FunctionCount": account.function_count},
    }


async def _provisionable(call: Call) -> Named:
    name = named(call)
    if name.qualifier in ("", LATEST):
        raise bad_value("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
    await require(call, name)
    return name


async def _change(call: Call, name: Named, requested: int | None) -> Any:
    request = control_pb2.PutProvisionedRequest(
        tenant_id=call.tenant_id, function_name=name.function_name, qualifier=name.qualifier, requested=requested
    )
    texts: dict[int, str] = {Reason.ERROR_REASON_PROVISIONED_NOT_FOUND: _NO_PROVISIONED}
    answer = await ask(call, name, "PutProvisioned", request, texts)
    await call.control.refresh(call.tenant_id, name.function_name)
    return answer


async def _statuses(call: Call, name: Named, qualifier: str) -> Any:
    request = control_pb2.ReadProvisionedRequest(
        tenant_id=call.tenant_id, function_name=name.function_name, qualifier=qualifier
    )
    texts: dict[int, str] = {Reason.ERROR_REASON_PROVISIONED_NOT_FOUND: _NO_PROVISIONED}
    return (await ask(call, name, "ReadProvisioned", request, texts)).statuses


def _describe(status: Any) -> dict[str, Any]:
    return {
        "RequestedProvisionedConcurrentExecutions": status.requested,
        "AvailableProvisionedConcurrentExecutions": status.available,
        "AllocatedProvisionedConcurrentExecutions": status.allocated,
        "Status": status.status,
        "StatusReason": status.status_reason or None,
        "LastModified": without_fraction(status.modified_at_ms),
    }


OPERATIONS: Mapping[str, Handler] = {
    "PutFunctionConcurrency": put_concurrency,
    "GetFunctionConcurrency": get_concurrency,
    "DeleteFunctionConcurrency": delete_concurrency,
    "PutProvisionedConcurrencyConfig": put_provisioned,
    "GetProvisionedConcurrencyConfig": get_provisioned,
    "DeleteProvisionedConcurrencyConfig": delete_provisioned,
    "ListProvisionedConcurrencyConfigs": list_provisioned,
    "PutFunctionRecursionConfig": put_recursion,
    "GetFunctionRecursionConfig": get_recursion,
    "GetAccountSettings": get_account_settings,
}
