"""The fleet's configuration as a node knows it: resources by key, indexed for reading."""

from evenflow.control.v1 import resources_pb2

from services.policy.accounts import DEFAULT_TENANT, account_of
from services.shared.function_view import FunctionView

# In ARNs while the fleet's identity is not known.
UNKNOWN_ACCOUNT = "000000000000"
FunctionKey = tuple[str, str]


class ConfigView:
    """What is known of the fleet; read-only for everybody but the follower."""

    def __init__(self, *, keeps_secrets: bool = True) -> None:
        """`keeps_secrets`: those of access keys; only who verifies signatures needs them."""
        self._keeps_secrets = keeps_secrets
        self.revision = 0
        self.fleet: resources_pb2.Fleet | None = None
        self.shard_map: resources_pb2.ShardMap | None = None
        self.functions: dict[FunctionKey, resources_pb2.Function] = {}
        self.sources: dict[str, resources_pb2.EventSource] = {}
        self.members: dict[str, resources_pb2.Member] = {}
        self.tenants: dict[str, resources_pb2.Tenant] = {}
        # By tenant, name and number; deleted ones whose number is only remembered included.
        self.layers: dict[tuple[str, str, int], resources_pb2.LayerVersion] = {}
        # Which function a URL id means.
        self.function_of_url: dict[str, FunctionKey] = {}
        self.tenant_of_key: dict[str, str] = {}
        self.secret_of_key: dict[str, str] = {}
        self._tenant_of_account: dict[str, str] = {}
        self._resources: dict[str, resources_pb2.Resource] = {}
        # Made when first asked for, of functions that are there.
        self._function_views: dict[FunctionKey, FunctionView] = {}

    def upsert(self, resource: resources_pb2.Resource) -> None:
        """Take a new or changed resource; a kind this version does not know is passed over."""
        if not self._keeps_secrets and resource.HasField("tenant"):
            resource = _without_secrets(resource)
        self._resources[resource.key] = resource
        match resource.WhichOneof("kind"):
            case "fleet":
                self.fleet = resource.fleet
            case "shard_map":
                self.shard_map = resource.shard_map
            case "function":
                self._put_function(resource.function)
            case "source":
                self.sources[resource.source.source_id] = resource.source
            case "layer":
                self.layers[_layer_key(resource.layer)] = resource.layer
            case "member":
                self.members[resource.member.node_id] = resource.member
            case "tenant":
                tenant_id = resource.tenant.tenant_id
                self._forget_tenant(tenant_id)
                self.tenants[tenant_id] = resource.tenant
                self._tenant_of_account[account_of(tenant_id, "")] = tenant_id
                for key in resource.tenant.access_keys:
                    self.tenant_of_key[key.access_key_id] = tenant_id
                    self.secret_of_key[key.access_key_id] = key.secret

    def delete(self, key: str) -> None:
        """Forget a resource."""
        resource = self._resources.pop(key, None)
        if resource is None:
            return
        match resource.WhichOneof("kind"):
            case "function":
                self._forget_function((resource.function.tenant_id, resource.function.function_name))
            case "source":
                self.sources.pop(resource.source.source_id, None)
            case "layer":
                self.layers.pop(_layer_key(resource.layer), None)
            case "member":
                self.members.pop(resource.member.node_id, None)
            case "tenant":
                self._forget_tenant(resource.tenant.tenant_id)

    def function_view(self, tenant_id: str, function_name: str) -> FunctionView | None:
        """The function's versions and aliases, the same object until the function changes; None: it is not known."""
        key = (tenant_id, function_name)
        found = self._function_views.get(key)
        if found is None and key in self.functions:
            found = self._function_views[key] = FunctionView(self.functions[key])
        return found

    def members_of(self, role: "resources_pb2.NodeRole.ValueType") -> list[resources_pb2.Member]:
        """Nodes of a role that may be talked to, by node id: all but those that are gone."""
        gone = resources_pb2.MEMBER_STATE_GONE
        return [m for _, m in sorted(self.members.items()) if m.role == role and m.state != gone and m.address]

    def resources(self) -> list[resources_pb2.Resource]:
        """Everything, for the snapshot on disk."""
        return list(self._resources.values())

    def account_of(self, tenant_id: str) -> str:
        """The account id in ARNs of a tenant's things."""
        return account_of(tenant_id, (self.fleet.account_id if self.fleet is not None else "") or UNKNOWN_ACCOUNT)

    def tenant_of_account(self, account_id: str) -> str | None:
        """Whose account this is; None: nobody's."""
        if account_id == self.account_of(DEFAULT_TENANT):
            return DEFAULT_TENANT
        return self._tenant_of_account.get(account_id)

    def _put_function(self, function: resources_pb2.Function) -> None:
        key = (function.tenant_id, function.function_name)
        self._forget_function(key)
        self.functions[key] = function
        for url in function.urls:
            self.function_of_url[url.url_id] = key

    def _forget_function(self, key: FunctionKey) -> None:
        self._function_views.pop(key, None)
        before = self.functions.pop(key, None)
        for url in before.urls if before is not None else ():
            if self.function_of_url.get(url.url_id) == key:
                del self.function_of_url[url.url_id]

    def _forget_tenant(self, tenant_id: str) -> None:
        before = self.tenants.pop(tenant_id, None)
        if before is None:
            return
        self._tenant_of_account.pop(account_of(tenant_id, ""), None)
        for key in before.access_keys:
            # A key that moved to another tenant since is that one's.
            if self.tenant_of_key.get(key.access_key_id) == tenant_id:
                del self.tenant_of_key[key.access_key_id]
                self.secret_of_key.pop(key.access_key_id, None)


def _layer_key(layer: resources_pb2.LayerVersion) -> tuple[str, str, int]:
    return layer.tenant_id, layer.layer_name, layer.version


def _without_secrets(resource: resources_pb2.Resource) -> resources_pb2.Resource:
    bare = resources_pb2.Resource()
    bare.CopyFrom(resource)
    for key in bare.tenant.access_keys:
        key.ClearField("secret")
    return bare
