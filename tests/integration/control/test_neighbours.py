"""AWS resources that a tenant may name, over a real control: the fleet reaches all of them with one set of keys."""

from pathlib import Path
from typing import Any

import pytest
from evenflow.control.v1 import control_pb2, resources_pb2

from services.shared.errors import EvenflowError, Reason
from tests.integration.control.kit import client, function_of, package, running

# The stubs know no message from a dict.
pb: Any = control_pb2
resources: Any = resources_pb2
TENANT = "acme"
NAME = {"tenant_id": TENANT, "function_name": "f"}
SQS, SNS = "arn:aws:sqs:us-east-1:123456789012:", "arn:aws:sns:us-east-1:123456789012:"
NEIGHBOURS = ["arn:aws:sqs:*:*:acme-*", f"{SNS}acme-failed"]


def requests(code: bytes, name: str) -> dict[str, tuple[str, Any]]:
    """Every way to name a resource, each with the call that does it."""
    queue, topic = f"{SQS}{name}", f"{SNS}{name}"
    source = resources.EventSource(sqs={"queue_arn": queue})
    listed = resources.EventSource(**NAME, sqs={"queue_arn": queue})
    plain = function_of("f", code, tenant_id=TENANT)
    dead = function_of("dead", code, tenant_id=TENANT)
    dead.latest.dead_letter_arn = queue
    failing = function_of("failing", code, tenant_id=TENANT)
    failing.async_config.on_failure_arn = topic
    change = pb.UpdateFunctionRequest(**NAME, update_mask={"paths": ["dead_letter_arn"]})
    change.latest.dead_letter_arn = topic
    return {
        "source": ("PutSource", pb.PutSourceRequest(source=listed, mode=pb.PUT_MODE_CREATE)),
        "deployed source": ("PutFunction", pb.PutFunctionRequest(function=plain, sources=[source])),
        "dead letters of a new function": ("CreateFunction", pb.CreateFunctionRequest(function=dead)),
        "destination of a new function": ("CreateFunction", pb.CreateFunctionRequest(function=failing)),
        "dead letters": ("UpdateFunction", change),
        "destination": (
            "PutAsyncConfig",
            pb.PutAsyncConfigRequest(**NAME, config={"on_success_arn": queue}, mode=pb.PUT_MODE_CREATE),
        ),
    }


async def test_a_tenant_names_only_neighbours_that_are_listed_for_it(run_dir: Path) -> None:
    """Another tenant's queue is nobody's to read, whichever way it is named; functions are named freely."""
    async with running(run_dir), client(run_dir) as c:
        code = await c.upload(package())
        await c.call("PutTenant", pb.PutTenantRequest(tenant={"tenant_id": TENANT, "neighbours": NEIGHBOURS}))
        await c.put("f", code, tenant_id=TENANT)
        for way, (method, request) in requests(code, "orders").items():
            with pytest.raises(EvenflowError, match="evenflow tenants neighbours acme") as refused:
                await c.call(method, request)
            assert refused.value.reason == Reason.ERROR_REASON_ACCESS_DENIED, way
        mine = requests(code, "acme-failed")
        # The deployed one is the same source as the one that is made by itself.
        await c.call(*mine.pop("deployed source"))
        await c.put("f", code, sources=[], tenant_id=TENANT)
        for method, request in mine.values():
            await c.call(method, request)


async def test_neighbours_have_the_form_of_arns(run_dir: Path) -> None:
    """Who lists tenants sees them."""
    async with running(run_dir), client(run_dir) as c:
        with pytest.raises(EvenflowError, match="no pattern of ARNs"):
            await c.call("PutTenant", pb.PutTenantRequest(tenant={"tenant_id": TENANT, "neighbours": ["acme-*"]}))
        await c.call("PutTenant", pb.PutTenantRequest(tenant={"tenant_id": TENANT, "neighbours": NEIGHBOURS}))
        told = await c.call("ListTenants", pb.ListTenantsRequest())
        assert list(told.tenants[0].neighbours) == NEIGHBOURS
