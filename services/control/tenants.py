"""Tenants: whose functions and events are kept apart. Pure but for the state that it reads."""

import re

from evenflow.control.v1 import control_pb2, resources_pb2

from services.control.changes import Change
from services.control.state import State
from services.shared.errors import EvenflowError, Reason, invalid

MAX_TENANTS = 10_000
MAX_KEYS = 100
MAX_QUOTA_MILLIONTHS = 1_000_000
_TENANT_ID = re.compile(r"[a-z0-9-]{1,64}")
_KEY_ID = re.compile(r"[A-Z0-9]{16,128}")


def decide_put_tenant(change: Change, asked: resources_pb2.Tenant, state: State) -> control_pb2.PutTenantResponse:
    """Create or replace. EvenflowError INVALID_PARAMETER: a rule is broken; NO_CAPACITY: there are too many."""
    tenant_id = asked.tenant_id
    if not _TENANT_ID.fullmatch(tenant_id):
        raise invalid(f"tenant_id must be 1 to 64 characters of [a-z0-9-], not {tenant_id[:64]!r}", field="tenant_id")
    if asked.quota_millionths > MAX_QUOTA_MILLIONTHS:
        text = f"quota_millionths is at most {MAX_QUOTA_MILLIONTHS:,}, all of the traffic"
        raise invalid(text, field="quota_millionths")
    _check_keys(asked, state)
    before = state.tenants.get(tenant_id)
    if before is None and len(state.tenants) >= MAX_TENANTS:
        raise EvenflowError(Reason.ERROR_REASON_NO_CAPACITY, f"the fleet has {MAX_TENANTS:,} tenants already")
    if before != asked:
        change.upserts.append(resources_pb2.Resource(key=f"tenant/{tenant_id}", tenant=asked))
    return control_pb2.PutTenantResponse(created=before is None)


def _check_keys(asked: resources_pb2.Tenant, state: State) -> None:
    keys = [key.access_key_id for key in asked.access_keys]
    if len(keys) > MAX_KEYS or len(set(keys)) != len(keys):
        raise invalid(f"access_keys: at most {MAX_KEYS}, each once", field="access_keys")
    for key in keys:
        if not _KEY_ID.fullmatch(key):
            raise invalid("access_key_id must be 16 to 128 characters of [A-Z0-9]", field="access_keys")
    for other in state.tenants.values():
        if other.tenant_id != asked.tenant_id and any(key.access_key_id in keys for key in other.access_keys):
            raise invalid("an access key belongs to one tenant: another one has it already", field="access_keys")
