"""The configuration in memory: what is committed, indexed for reading. Resources are never changed once they are in."""

import bisect
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from evenflow.control.v1 import resources_pb2

from services.control.provisioned_totals import requests_of, total_of
from services.policy.provisioned import provisioned_key
from services.policy.sharing import ACCOUNT, limit_key

FunctionKey = tuple[str, str]


def layer_resource_key(layer: resources_pb2.LayerVersion) -> str:
    """Key of a layer version."""
    return f"layer/{layer.tenant_id}/{layer.layer_name}/{layer.version}"


def function_resource_key(tenant_id: str, function_name: str) -> str:
    """Key of a function."""
    return f"function/{tenant_id}/{function_name}"


class State:
    """Resources by key, and what is derived from them. Only `apply` changes it."""

    def __init__(self, revision: int, resources: Iterable[resources_pb2.Resource]) -> None:
        self.revision = revision
        self.fleet = resources_pb2.Fleet()
        self.shard_map = resources_pb2.ShardMap()
        self.tenants: dict[str, resources_pb2.Tenant] = {}
        self.functions: dict[FunctionKey, resources_pb2.Function] = {}
        self.sources: dict[str, resources_pb2.EventSource] = {}
        self.members: dict[str, resources_pb2.Member] = {}
        # Functions with a reservation, 0 included, by limit key.
        self.reservations: dict[str, int] = {}
        self.total_reserved = 0
        # Sandboxes to be kept ready, by limit key; and those of functions without a reservation.
        self.provisioned: dict[str, int] = {}
        self.total_provisioned = 0
        self._resources: dict[str, resources_pb2.Resource] = {}
        self._names: dict[str, list[str]] = {}
        self._sources_of: dict[FunctionKey, dict[str, resources_pb2.EventSource]] = {}
        self._source_ids: dict[str, list[str]] = {}
        self.layer_count = 0
        # Tenant -> layer's name -> number -> version.
        self._layers: dict[str, dict[str, dict[int, resources_pb2.LayerVersion]]] = {}
        self.apply(revision, resources, ())

    @property
    def resources(self) -> Mapping[str, resources_pb2.Resource]:
        """Everything by key."""
        return MappingProxyType(self._resources)

    def apply(self, revision: int, upserts: Iterable[resources_pb2.Resource], deleted_keys: Iterable[str]) -> None:
        """Take a committed change."""
        for key in deleted_keys:
            self._take_out(key)
        for resource in upserts:
            self._put_in(resource)
        self.revision = revision

    def function(self, tenant_id: str, function_name: str) -> resources_pb2.Function | None:
        """The function, if there is one."""
        return self.functions.get((tenant_id, function_name))

    def sources_of(self, tenant_id: str, function_name: str) -> list[resources_pb2.EventSource]:
        """The event sources of a function, by id."""
        return [source for _, source in sorted(self._sources_of.get((tenant_id, function_name), {}).items())]

    def names_after(self, tenant_id: str, after: str, count: int) -> list[str]:
        """At most `count` names of the tenant's functions that come after this one, in order; empty: from the first."""
        names = self._names.get(tenant_id, [])
        start = bisect.bisect_right(names, after) if after else 0
        return names[start : start + count]

    def source_ids_after(self, tenant_id: str, after: str) -> list[str]:
        """Ids of the tenant's event sources that come after this one, in order; empty: from the first."""
        ids = self._source_ids.get(tenant_id, [])
        return ids[bisect.bisect_right(ids, after) if after else 0 :]

    def layer_names(self, tenant_id: str) -> list[str]:
        """Names of a tenant's layers, in order."""
        return sorted(self._layers.get(tenant_id, {}))

    def all_layers(self) -> Iterator[resources_pb2.LayerVersion]:
        """Every layer version of every tenant."""
        return (layer for names in self._layers.values() for versions in names.values() for layer in versions.values())

    def layers_of(self, tenant_id: str, layer_name: str) -> Mapping[int, resources_pb2.LayerVersion]:
        """Versions of a layer by number, deleted ones that are remembered included."""
        return MappingProxyType(self._layers.get(tenant_id, {}).get(layer_name, {}))

    def limits(self) -> dict[str, int]:
        """Limits of which shares are given out: limit key -> invocations at once, or sandboxes to be kept ready."""
        found = {key: reserved for key, reserved in self.reservations.items() if reserved > 0}
        found.update(self.provisioned)
        found[ACCOUNT] = self.unreserved
        return found

    @property
    def unreserved(self) -> int:
        """What of the account's concurrency no function has reserved."""
        return max(0, self.fleet.account_concurrency - self.total_reserved)

    def _put_in(self, resource: resources_pb2.Resource) -> None:
        self._take_out(resource.key)
        self._resources[resource.key] = resource
        match resource.WhichOneof("kind"):
            case "fleet":
                self.fleet = resource.fleet
            case "shard_map":
                self.shard_map = resource.shard_map
            case "tenant":
                self.tenants[resource.tenant.tenant_id] = resource.tenant
            case "member":
                self.members[resource.member.node_id] = resource.member
            case "source":
                source = resource.source
                self.sources[source.source_id] = source
                self._sources_of.setdefault((source.tenant_id, source.function_name), {})[source.source_id] = source
                bisect.insort(self._source_ids.setdefault(source.tenant_id, []), source.source_id)
            case "layer":
                layer = resource.layer
                self._layers.setdefault(layer.tenant_id, {}).setdefault(layer.layer_name, {})[layer.version] = layer
                self.layer_count += 1
            case "function":
                function = resource.function
                self.functions[function.tenant_id, function.function_name] = function
                bisect.insort(self._names.setdefault(function.tenant_id, []), function.function_name)
                if function.HasField("reserved_concurrency"):
                    self._reserve(limit_key(function.tenant_id, function.function_name), function.reserved_concurrency)
                self._provision(function, 1)

    def _take_out(self, key: str) -> None:
        resource = self._resources.pop(key, None)
        match resource.WhichOneof("kind") if resource is not None else None:
            case "source":
                source = self.sources.pop(resource.source.source_id)  # type: ignore[union-attr]  # None matches no case
                self._sources_of[source.tenant_id, source.function_name].pop(source.source_id)
                _remove(self._source_ids[source.tenant_id], source.source_id)
            case "layer":
                layer = resource.layer  # type: ignore[union-attr]
                versions = self._layers[layer.tenant_id][layer.layer_name]
                del versions[layer.version]
                self.layer_count -= 1
                if not versions:
                    del self._layers[layer.tenant_id][layer.layer_name]
            case "member":
                del self.members[resource.member.node_id]  # type: ignore[union-attr]
            case "tenant":
                del self.tenants[resource.tenant.tenant_id]  # type: ignore[union-attr]
            case "function":
                function = self.functions.pop((resource.function.tenant_id, resource.function.function_name))  # type: ignore[union-attr]
                _remove(self._names[function.tenant_id], function.function_name)
                self._reserve(limit_key(function.tenant_id, function.function_name), None)
                self._provision(function, -1)

    def _provision(self, function: resources_pb2.Function, sign: int) -> None:
        for version, requests in requests_of(function).items():
            key = provisioned_key(function.tenant_id, function.function_name, version)
            if sign > 0:
                self.provisioned[key] = sum(requests.values())
            else:
                del self.provisioned[key]
        if not function.HasField("reserved_concurrency"):
            self.total_provisioned += sign * total_of(function)

    def _reserve(self, key: str, reserved: int | None) -> None:
        self.total_reserved -= self.reservations.pop(key, 0)
        if reserved is not None:
            self.reservations[key] = reserved
            self.total_reserved += reserved


def _remove(names: list[str], name: str) -> None:
    del names[bisect.bisect_left(names, name)]
