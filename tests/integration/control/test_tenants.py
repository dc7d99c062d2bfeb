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


async def test_a_secret_is_told_once_and_followers_get_it(run_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No list has it, no log; it is there after a restart; a list that is put back keeps it."""
    async with running(run_dir) as control, client(run_dir) as c:
        await c.call("PutTenant", put("team-a"))
        create = control_pb2.CreateAccessKeyRequest(tenant_id="team-a")
        made = [(await c.call("CreateAccessKey", create)).access_key for _ in range(2)]
        assert len({key.secret for key in made}) == len({key.access_key_id for key in made}) == 2
        for key in made:
            assert len(key.secret) == 40 and key.access_key_id.startswith("AKIA") and len(key.access_key_id) == 20
            assert key.created_at_ms > 0
        assert list(control.state.tenants["team-a"].access_keys) == made
        listed = await c.call("ListTenants", control_pb2.ListTenantsRequest())
        assert [t.tenant_id for t in listed.tenants] == ["default", "team-a"]
        assert [key.access_key_id for key in listed.tenants[1].access_keys] == [key.access_key_id for key in made]
        assert not any(key.secret for tenant in listed.tenants for key in tenant.access_keys)
        # What was listed may be put back.
        await c.call("PutTenant", control_pb2.PutTenantRequest(tenant=listed.tenants[1]))
    async with running(run_dir) as control, client(run_dir) as c:
        assert list(control.state.tenants["team-a"].access_keys) == made
        gone = control_pb2.DeleteAccessKeyRequest(tenant_id="team-a", access_key_id=made[0].access_key_id)
        await c.call("DeleteAccessKey", gone)
        assert list(control.state.tenants["team-a"].access_keys) == made[1:]
        with pytest.raises(EvenflowError, match="no access key") as refused:
            await c.call("DeleteAccessKey", gone)
        assert refused.value.reason == Reason.ERROR_REASON_RESOURCE_NOT_FOUND
    assert not any(key.secret in caplog.text for key in made)


async def test_a_tenant_goes_when_it_has_nothing(run_dir: Path) -> None:
    """Functions and layers are in the way; the default tenant stays; keys are at most 100."""
    async with running(run_dir) as control, client(run_dir) as c:
        delete = control_pb2.DeleteTenantRequest(tenant_id="team-a")
        await c.call("PutTenant", put("team-a"))
        code = await c.upload(package())
        await c.call("PutFunction", control_pb2.PutFunctionRequest(function=function_of("f", code, tenant_id="team-a")))
        layer = resources_pb2.LayerVersion(tenant_id="team-a", layer_name="l", code_sha256=code)
        await c.call("PublishLayer", control_pb2.PublishLayerRequest(layer=layer))
        with pytest.raises(EvenflowError, match="has functions and layers: delete them first") as refused:
            await c.call("DeleteTenant", delete)
        assert refused.value.reason == Reason.ERROR_REASON_RESOURCE_IN_USE
        await c.call("DeleteFunction", control_pb2.DeleteFunctionRequest(tenant_id="team-a", function_name="f"))
        await c.call("DeleteLayer", control_pb2.DeleteLayerRequest(tenant_id="team-a", layer_name="l", version=1))
        await c.call("DeleteTenant", delete)
        assert not any("team-a" in key for key in control.state.resources)
        for tenant_id, reason in (
            ("team-a", Reason.ERROR_REASON_RESOURCE_NOT_FOUND),
            ("default", Reason.ERROR_REASON_INVALID_PARAMETER),
        ):
            with pytest.raises(EvenflowError) as refused:
                await c.call("DeleteTenant", control_pb2.DeleteTenantRequest(tenant_id=tenant_id))
            assert refused.value.reason == reason
        with pytest.raises(EvenflowError, match="no tenant"):
            await c.call("CreateAccessKey", control_pb2.CreateAccessKeyRequest(tenant_id="team-a"))
        await c.call("PutTenant", put("team-b", *(f"AKIA{n:012d}" for n in range(100))))
        with pytest.raises(EvenflowError, match="has 100 access keys") as refused:
            await c.call("CreateAccessKey", control_pb2.CreateAccessKeyRequest(tenant_id="team-b"))
        assert refused.value.reason == Reason.ERROR_REASON_NO_CAPACITY
