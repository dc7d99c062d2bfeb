"""Layers: packages that several functions share, in versions."""

from evenflow.control.v1 import control_pb2, resources_pb2

from services.control.changes import Change
from services.control.editor import MAX_PAGE_BYTES, FunctionEditor, not_found, page_count, refusal
from services.control.functions import size_of_package
from services.control.packages import PackageStore
from services.control.state import layer_resource_key
from services.policy.layer_rules import LayerSpec, check_layer
from services.policy.rules import RuleBroken
from services.shared.errors import EvenflowError, Reason, invalid

# Followers hold them all in memory.
MAX_LAYER_VERSIONS = 10_000
DEFAULT_PAGE = 50


class Layers:
    """Decides changes of layers; each `decide_…` fills a change in its turn."""

    def __init__(self, editor: FunctionEditor, packages: PackageStore) -> None:
        self._editor = editor
        self._state = editor.state
        self._packages = packages

    def decide_publish(
        self, change: Change, request: control_pb2.PublishLayerRequest
    ) -> control_pb2.PublishLayerResponse:
        """The next version. EvenflowError: see the contract; NO_CAPACITY: the fleet has 10,000 layer versions."""
        layer = resources_pb2.LayerVersion()
        layer.CopyFrom(request.layer)
        _check(layer)
        if layer.tenant_id not in self._state.tenants:
            raise invalid(f"tenant {layer.tenant_id[:64]!r} does not exist; use 'default', or put it first")
        if self._state.layer_count >= MAX_LAYER_VERSIONS:
            text = f"the fleet has {MAX_LAYER_VERSIONS:,} layer versions: delete some that nobody needs"
            raise EvenflowError(Reason.ERROR_REASON_NO_CAPACITY, text)
        layer.code_size_bytes = size_of_package(self._packages, "code_sha256", layer.code_sha256)
        before = self._state.layers_of(layer.tenant_id, layer.layer_name)
        last = max(before, default=0)
        layer.version = last + 1
        layer.created_at_ms = self._editor.now_ms()
        layer.is_deleted = False
        if last and before[last].is_deleted:
            # Its number need not be remembered any more: the next one is.
            change.deleted_keys.append(layer_resource_key(before[last]))
        change.upserts.append(resources_pb2.Resource(key=layer_resource_key(layer), layer=layer))
        return control_pb2.PublishLayerResponse(layer=layer)

    def decide_delete(self, change: Change, request: control_pb2.DeleteLayerRequest) -> control_pb2.DeleteLayerResponse:
        """See the contract. Functions keep the package."""
        versions = self._state.layers_of(request.tenant_id, request.layer_name)
        found = versions.get(request.version)
        if found is None or found.is_deleted:
            return control_pb2.DeleteLayerResponse()
        if request.version < max(versions):
            change.deleted_keys.append(layer_resource_key(found))
            return control_pb2.DeleteLayerResponse()
        stone = resources_pb2.LayerVersion(
            tenant_id=found.tenant_id, layer_name=found.layer_name, version=found.version, is_deleted=True
        )
        change.upserts.append(resources_pb2.Resource(key=layer_resource_key(stone), layer=stone))
        return control_pb2.DeleteLayerResponse()

    def read(self, request: control_pb2.GetLayerRequest) -> control_pb2.GetLayerResponse:
        """One version. EvenflowError RESOURCE_NOT_FOUND."""
        found = self._state.layers_of(request.tenant_id, request.layer_name).get(request.version)
        if found is None or found.is_deleted:
            raise not_found(f"there is no version {request.version} of a layer {request.layer_name[:140]!r}")
        return control_pb2.GetLayerResponse(layer=found)

    def page(self, request: control_pb2.ListLayersRequest) -> control_pb2.ListLayersResponse:
        """Versions of one layer, newest first, or the latest of each, by name. EvenflowError INVALID_PARAMETER."""
        count = page_count(request.page_size, request.page_token, DEFAULT_PAGE)
        token = request.page_token
        if request.layer_name:
            if token and not token.isdecimal():
                raise invalid("page_token must be one that a response gave")
            versions = self._state.layers_of(request.tenant_id, request.layer_name)
            found = [versions[number] for number in sorted(versions, reverse=True) if not token or number < int(token)]
        else:
            latest = (self._latest(request.tenant_id, name) for name in self._state.layer_names(request.tenant_id))
            found = [layer for layer in latest if layer is not None and layer.layer_name > token]
        answer, size_bytes = control_pb2.ListLayersResponse(), 0
        for layer in found:
            if layer.is_deleted:
                continue
            size_bytes += layer.ByteSize()
            if len(answer.layers) == count or (answer.layers and size_bytes > MAX_PAGE_BYTES):
                last = answer.layers[-1]
                answer.next_page_token = str(last.version) if request.layer_name else last.layer_name
                break
            answer.layers.append(layer)
        return answer

    def _latest(self, tenant_id: str, layer_name: str) -> resources_pb2.LayerVersion | None:
        versions = self._state.layers_of(tenant_id, layer_name)
        there = [number for number, layer in versions.items() if not layer.is_deleted]
        return versions[max(there)] if there else None


def _check(layer: resources_pb2.LayerVersion) -> None:
    spec = LayerSpec(
        layer_name=layer.layer_name,
        description=layer.description,
        license_info=layer.license_info,
        compatible_runtimes=list(layer.compatible_runtimes),
        compatible_architectures=list(layer.compatible_architectures),
    )
    try:
        check_layer(spec)
    except RuleBroken as e:
        raise refusal(e) from None
