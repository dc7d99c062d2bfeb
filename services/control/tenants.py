"""Tenants: whose functions and events are kept apart, and the keys that their requests are signed with.

A secret is told once, by the answer to CreateAccessKey. Followers get it, to verify signatures; no list has it, no log.
"""

import base64
import re
from collections.abc import Callable

from evenflow.control.v1 import control_pb2, resources_pb2

from services.control.changes import Change
from services.control.editor import not_found, page_count, refusal
from services.control.state import State
from services.policy.accounts import DEFAULT_TENANT, account_of
from services.policy.neighbour_rules import check_neighbours
from services.policy.rules import RuleBroken
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason, invalid

MAX_TENANTS = 10_000
MAX_KEYS = 100
MAX_QUOTA_MILLIONTHS = 1_000_000
DEFAULT_PAGE = 100
# As AWS's ids of lasting keys begin; those of functions' own credentials begin with EVFN.
KEY_ID_PREFIX = "AKIA"
KEY_ID_RANDOM_BYTES = 10
SECRET_BYTES = 30
SECRET_CHARACTERS = 40
_TENANT_ID = re.compile(r"[a-z0-9-]{1,64}")
_KEY_ID = re.compile(r"[A-Z0-9]{16,128}")
_SECRET = re.compile(r"[!-~]{40}")


class Tenants:
    """Decides changes of tenants; each `decide_…` fills a change in its turn. `random_bytes`: fit for secrets."""

    def __init__(self, state: State, clock: Clock, random_bytes: Callable[[int], bytes]) -> None:
        self._state = state
        self._clock = clock
        self._random_bytes = random_bytes

    def decide_put(self, change: Change, request: control_pb2.PutTenantRequest) -> control_pb2.PutTenantResponse:
        """Create or replace; a key that the tenant has already and that comes without a secret keeps its own.

        EvenflowError INVALID_PARAMETER: a rule is broken; NO_CAPACITY: there are too many.
        """
        asked = request.tenant
        tenant_id = asked.tenant_id
        if not _TENANT_ID.fullmatch(tenant_id):
            raise invalid(
                f"tenant_id must be 1 to 64 characters of [a-z0-9-], not {tenant_id[:64]!r}", field="tenant_id"
            )
        if asked.quota_millionths > MAX_QUOTA_MILLIONTHS:
            text = f"quota_millionths is at most {MAX_QUOTA_MILLIONTHS:,}, all of the traffic"
            raise invalid(text, field="quota_millionths")
        try:
            check_neighbours(asked.neighbours)
        except RuleBroken as e:
            raise refusal(e) from None
        self._check_keys(asked)
        before = self._state.tenants.get(tenant_id)
        if before is None:
            self._require_room(tenant_id)
        tenant = resources_pb2.Tenant()
        tenant.CopyFrom(asked)
        known = {key.access_key_id: key for key in before.access_keys} if before is not None else {}
        for key in tenant.access_keys:
            held = known.get(key.access_key_id)
            key.created_at_ms = held.created_at_ms if held is not None else self._clock.wall_ms()
            if held is not None and not key.secret:
                key.secret = held.secret
        if before != tenant:
            change.upserts.append(_resource(tenant))
        return control_pb2.PutTenantResponse(created=before is None)

    def decide_delete(
        self, change: Change, request: control_pb2.DeleteTenantRequest
    ) -> control_pb2.DeleteTenantResponse:
        """See the contract. EvenflowError also INVALID_PARAMETER: the default tenant stays."""
        tenant_id = self._get(request.tenant_id).tenant_id
        if tenant_id == DEFAULT_TENANT:
            raise invalid(f"tenant {DEFAULT_TENANT!r} cannot be deleted: requests without a key belong to it")
        layers = [layer for name in self._state.layer_names(tenant_id) for layer in self._layers_of(tenant_id, name)]
        has = {
            "functions": bool(self._state.names_after(tenant_id, "", 1)),
            "layers": any(not layer.is_deleted for layer in layers),
            "event sources": bool(self._state.source_ids_after(tenant_id, "")),
        }
        if any(has.values()):
            what = " and ".join(name for name, is_there in has.items() if is_there)
            text = f"tenant {tenant_id!r} has {what}: delete them first"
            raise EvenflowError(Reason.ERROR_REASON_RESOURCE_IN_USE, text)
        change.deleted_keys.append(f"tenant/{tenant_id}")
        # Numbers of deleted layer versions are of no use without a tenant.
        change.deleted_keys.extend(f"layer/{tenant_id}/{layer.layer_name}/{layer.version}" for layer in layers)
        return control_pb2.DeleteTenantResponse()

    def page(self, request: control_pb2.ListTenantsRequest) -> control_pb2.ListTenantsResponse:
        """Tenants by id, with their keys' ids, never a secret. EvenflowError INVALID_PARAMETER."""
        count = page_count(request.page_size, request.page_token, DEFAULT_PAGE)
        answer = control_pb2.ListTenantsResponse()
        for tenant_id in sorted(one for one in self._state.tenants if one > request.page_token):
            if len(answer.tenants) == count:
                answer.next_page_token = answer.tenants[-1].tenant_id
                break
            told = answer.tenants.add()
            told.CopyFrom(self._state.tenants[tenant_id])
            for key in told.access_keys:
                key.ClearField("secret")
        return answer

    def decide_create_key(
        self, change: Change, request: control_pb2.CreateAccessKeyRequest
    ) -> control_pb2.CreateAccessKeyResponse:
        """See the contract."""
        tenant = self._copy(request.tenant_id)
        if len(tenant.access_keys) >= MAX_KEYS:
            text = f"tenant {tenant.tenant_id!r} has {MAX_KEYS} access keys, the most it may have: delete one first"
            raise EvenflowError(Reason.ERROR_REASON_NO_CAPACITY, text)
        key = resources_pb2.AccessKey(
            access_key_id=KEY_ID_PREFIX + base64.b32encode(self._random_bytes(KEY_ID_RANDOM_BYTES)).decode(),
            secret=base64.b64encode(self._random_bytes(SECRET_BYTES)).decode(),
            created_at_ms=self._clock.wall_ms(),
        )
        tenant.access_keys.append(key)
        change.upserts.append(_resource(tenant))
        return control_pb2.CreateAccessKeyResponse(access_key=key)

    def decide_delete_key(
        self, change: Change, request: control_pb2.DeleteAccessKeyRequest
    ) -> control_pb2.DeleteAccessKeyResponse:
        """See the contract."""
        tenant = self._copy(request.tenant_id)
        left = [key for key in tenant.access_keys if key.access_key_id != request.access_key_id]
        if len(left) == len(tenant.access_keys):
            raise not_found(f"tenant {tenant.tenant_id!r} has no access key {request.access_key_id[:128]!r}")
        del tenant.access_keys[:]
        tenant.access_keys.extend(left)
        change.upserts.append(_resource(tenant))
        return control_pb2.DeleteAccessKeyResponse()

    def _require_room(self, tenant_id: str) -> None:
        if len(self._state.tenants) >= MAX_TENANTS:
            raise EvenflowError(Reason.ERROR_REASON_NO_CAPACITY, f"the fleet has {MAX_TENANTS:,} tenants already")
        account_id = self._state.fleet.account_id
        mine = account_of(tenant_id, account_id)
        if any(account_of(other, account_id) == mine for other in self._state.tenants):
            raise invalid(f"tenant_id {tenant_id!r}: its account {mine} is another tenant's already; choose another id")

    def _get(self, tenant_id: str) -> resources_pb2.Tenant:
        tenant = self._state.tenants.get(tenant_id)
        if tenant is None:
            raise not_found(f"there is no tenant {tenant_id[:64]!r}")
        return tenant

    def _copy(self, tenant_id: str) -> resources_pb2.Tenant:
        tenant = resources_pb2.Tenant()
        tenant.CopyFrom(self._get(tenant_id))
        return tenant

    def _layers_of(self, tenant_id: str, layer_name: str) -> list[resources_pb2.LayerVersion]:
        return list(self._state.layers_of(tenant_id, layer_name).values())

    def _check_keys(self, asked: resources_pb2.Tenant) -> None:
        keys = [key.access_key_id for key in asked.access_keys]
        if len(keys) > MAX_KEYS or len(set(keys)) != len(keys):
            raise invalid(f"access_keys: at most {MAX_KEYS}, each once", field="access_keys")
        for key in asked.access_keys:
            if not _KEY_ID.fullmatch(key.access_key_id):
                raise invalid("access_key_id must be 16 to 128 characters of [A-Z0-9]", field="access_keys")
            if key.secret and not _SECRET.fullmatch(key.secret):
                text = f"a secret has {SECRET_CHARACTERS} printable characters; better let CreateAccessKey make it"
                raise invalid(text, field="access_keys")
        for other in self._state.tenants.values():
            if other.tenant_id != asked.tenant_id and any(key.access_key_id in keys for key in other.access_keys):
                raise invalid("an access key belongs to one tenant: another one has it already", field="access_keys")


def _resource(tenant: resources_pb2.Tenant) -> resources_pb2.Resource:
    return resources_pb2.Resource(key=f"tenant/{tenant.tenant_id}", tenant=tenant)
