"""Tenants over a real control: put, replaced, told to followers, and what is refused."""

from pathlib import Path

import pytest
from evenflow.control.v1 import control_pb2, resources_pb2

from services.shared.errors import EvenflowError, Reason
from tests.integration.control.kit import Client, client, function_of, package, running
from tests.kit.waiting import eventually

KEY = "AKIA000000000001"


def put(tenant_id: str, *keys: str, quota_millionths: int = 0) -> control_pb2.PutTenantRequest:
    access_keys = [resources_pb2.AccessKey(access_key_id=key) for key in keys]
    return control_pb2.PutTenantRequest(
        tenant=resources_pb2.Tenant(tenant_id=tenant_id, quota_millionths=quota_millionths, access_keys=access_keys)
    )


async def refusal(c: Client, request: control_pb2.PutTenantRequest) -> EvenflowError:
    with pytest.raises(EvenflowError) as refused:
        await c.call("PutTenant", request)
    return refused.value


async def test_a_tenant_has_functions_of_its_own_and_is_there_after_a_restart(run_dir: Path) -> None:
    """Its function needs it first; a repeat changes nothing; a replacement takes the keys' place."""
    async with running(run_dir) as control, client(run_dir) as c:
        code = await c.upload(package())
        mine = control_pb2.PutFunctionRequest(function=function_of("clean", code, tenant_id="team-a"))
        with pytest.raises(EvenflowError, match="does not exist"):
            await c.call("PutFunction", mine)
        assert (await c.call("PutTenant", put("team-a", KEY, quota_millionths=500_000))).created
        revision = control.state.revision
        assert not (await c.call("PutTenant", put("team-a", KEY, quota_millionths=500_000))).created
        assert control.state.revision == revision
        assert (await c.call("PutFunction", mine)).created
    async with running(run_dir) as control, client(run_dir) as c:
        await eventually(lambda: "team-a" in control.state.tenants)
        assert control.state.tenants["team-a"].access_keys[0].access_key_id == KEY
        await c.call("PutTenant", put("team-a"))
        # The key is free again.
        assert (await c.call("PutTenant", put("team-b", KEY))).created


async def test_what_is_no_tenant_is_refused(run_dir: Path) -> None:
    """Ids, quotas and keys have their form; a key has one owner."""
    async with running(run_dir) as control, client(run_dir) as c:
        await c.call("PutTenant", put("team-a", KEY))
        revision = control.state.revision
        for request in (
            put(""),
            put("Team A"),
            put("x" * 65),
            put("team-b", quota_millionths=1_000_001),
            put("team-b", "short"),
            put("team-b", "akia000000000001"),
            put("team-b", "AKIA000000000002", "AKIA000000000002"),
            put("team-b", *(f"AKIA{n:012d}" for n in range(100, 201))),
            put("team-b", KEY),
        ):
            assert (await refusal(c, request)).reason == Reason.ERROR_REASON_INVALID_PARAMETER, request
        assert control.state.revision == revision
