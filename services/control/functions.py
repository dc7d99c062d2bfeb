"""Functions: their code and their configuration; from a request to a change."""

import logging

from evenflow.control.v1 import control_pb2, resources_pb2

from services.control import function_specs
from services.control.async_configs import is_default
from services.control.changes import Change
from services.control.concurrency import require_concurrency, reserve
from services.control.editor import (
    MAX_PAGE_BYTES,
    FunctionEditor,
    conflict,
    page_count,
    refusal,
    require_revision,
)
from services.control.masks import take_fields
from services.control.packages import PackageStore
from services.control.sources import Sources
from services.control.state import function_resource_key
from services.control.versions import Versions
from services.policy.arns import LATEST
from services.policy.kept_fields import FIELD_NAME as KEPT_FIELDS
from services.policy.kept_fields import merge_kept
from services.policy.rules import RuleBroken
from services.policy.tag_rules import check_tags
from services.shared.errors import EvenflowError, Reason, invalid

MAX_FUNCTIONS = 100_000
DEFAULT_PAGE = 100
SHA256_BYTES = 32
CHANGEABLE = frozenset(resources_pb2.FunctionVersion.DESCRIPTOR.fields_by_name) - {
    "version",
    "code_size_bytes",
    "revision_id",
    "modified_at_ms",
}
log = logging.getLogger(__name__)


class Functions:
    """Decides changes of functions; each `decide_…` fills a change in its turn."""

    def __init__(self, editor: FunctionEditor, packages: PackageStore, versions: Versions, sources: Sources) -> None:
        self._editor = editor
        self._state = editor.state
        self._packages = packages
        self._versions = versions
        self._sources = sources

    def read(self, request: control_pb2.GetFunctionRequest) -> control_pb2.GetFunctionResponse:
        """The function with its sources. EvenflowError FUNCTION_NOT_FOUND."""
        function = self._editor.get(request.tenant_id, request.function_name)
        sources = self._state.sources_of(request.tenant_id, request.function_name)
        return control_pb2.GetFunctionResponse(function=function, revision=self._state.revision, sources=sources)

    def page(self, request: control_pb2.ListFunctionsRequest) -> control_pb2.ListFunctionsResponse:
        """Functions of a tenant by name. EvenflowError INVALID_PARAMETER: page_size or page_token."""
        count = page_count(request.page_size, request.page_token, DEFAULT_PAGE)
        answer, size_bytes = control_pb2.ListFunctionsResponse(), 0
        names = self._state.names_after(request.tenant_id, request.page_token, count + 1)
        for index, name in enumerate(names):
            function = self._state.functions[request.tenant_id, name]
            size_bytes += function.ByteSize()
            if index == count or (index and size_bytes > MAX_PAGE_BYTES):
                answer.next_page_token = names[index - 1]
                break
            answer.functions.append(function)
        return answer

    def decide_put(self, change: Change, request: control_pb2.PutFunctionRequest) -> control_pb2.PutFunctionResponse:
        """Create or replace. EvenflowError: a rule is broken, or the package is not there."""
        asked = request.function
        key = asked.tenant_id, asked.function_name
        before = self._state.functions.get(key)
        function = self._build(asked, before)
        sources_changed = self._sources.replace_deployed(change, function, request.sources)
        self._editor.store(change, function)
        if change.is_visible:
            log.info(
                "%s%s",
                "created" if before is None else "replaced",
                " with new event sources" if sources_changed else "",
                extra={"tenant_id": key[0], "function_name": key[1]},
            )
        return control_pb2.PutFunctionResponse(function=function, created=before is None)

    def decide_create(
        self, change: Change, request: control_pb2.CreateFunctionRequest
    ) -> control_pb2.CreateFunctionResponse:
        """Create, and publish if asked to. EvenflowError RESOURCE_CONFLICT: it exists; else as decide_put."""
        asked = request.function
        if self._state.function(asked.tenant_id, asked.function_name) is not None:
            raise conflict(f"Function already exist: {asked.function_name}")
        function = self._build(asked, None)
        try:
            check_tags(asked.tags)
        except RuleBroken as e:
            raise refusal(e) from None
        function.tags.update(asked.tags)
        published = self._versions.publish(function) if request.publishes else None
        self._editor.store(change, function)
        log.info("created", extra={"tenant_id": function.tenant_id, "function_name": function.function_name})
        return control_pb2.CreateFunctionResponse(function=function, published=published)

    def decide_update(
        self, change: Change, request: control_pb2.UpdateFunctionRequest
    ) -> control_pb2.UpdateFunctionResponse:
        """Change the named fields of $LATEST, publish if asked to. EvenflowError: see the contract."""
        function = self._editor.copy(request.tenant_id, request.function_name)
        require_revision(request.expected_revision_id, function.latest.revision_id, "GetFunction")
        latest = resources_pb2.FunctionVersion()
        latest.CopyFrom(function.latest)
        take_fields(latest, request.latest, request.update_mask.paths, CHANGEABLE)
        if KEPT_FIELDS in request.update_mask.paths:
            latest.kept_fields = _merged(function.latest.kept_fields, request.latest.kept_fields)
        self._take_latest(function, latest)
        published = self._versions.publish(function) if request.publishes else None
        self._editor.store(Change(change.revision) if request.dry_run else change, function)
        return control_pb2.UpdateFunctionResponse(function=function, published=published)

    def decide_delete(
        self, change: Change, request: control_pb2.DeleteFunctionRequest
    ) -> control_pb2.DeleteFunctionResponse:
        """Delete with its sources, or one version. EvenflowError: see the contract."""
        key = request.tenant_id, request.function_name
        if request.version:
            self._versions.decide_delete(change, *key, request.version)
            return control_pb2.DeleteFunctionResponse()
        self._editor.get(*key)
        change.deleted_keys.append(function_resource_key(*key))
        change.deleted_keys.extend(f"source/{source.source_id}" for source in self._state.sources_of(*key))
        log.info("deleted", extra={"tenant_id": key[0], "function_name": key[1]})
        return control_pb2.DeleteFunctionResponse()

    def _build(self, asked: resources_pb2.Function, before: resources_pb2.Function | None) -> resources_pb2.Function:
        """What a put or a create asks for, over what is kept of the function before."""
        function = resources_pb2.Function()
        if before is not None:
            function.CopyFrom(before)
        else:
            self._require_room(asked.tenant_id)
            function.tenant_id, function.function_name = asked.tenant_id, asked.function_name
            function.created_at_ms = self._editor.now_ms()
        config = resources_pb2.AsyncConfig()
        config.CopyFrom(asked.async_config)
        config.modified_at_ms = function.async_config.modified_at_ms
        if config != function.async_config:
            config.modified_at_ms = 0 if is_default(config) else self._editor.now_ms()
        function.async_config.CopyFrom(config)
        latest = resources_pb2.FunctionVersion()
        latest.CopyFrom(asked.latest)
        latest.kept_fields = _merged(b"", latest.kept_fields)
        latest.version = latest.version or LATEST
        self._take_latest(function, latest)
        if asked.HasField("reserved_concurrency"):
            reserve(function, asked.reserved_concurrency)
        require_concurrency(self._editor, function)
        return function

    def _take_latest(self, function: resources_pb2.Function, latest: resources_pb2.FunctionVersion) -> None:
        """Make this $LATEST, with a new revision id if anything is new. EvenflowError: a rule is broken."""
        before = function.latest
        latest.revision_id, latest.modified_at_ms = before.revision_id, before.modified_at_ms
        function_specs.complete(latest)
        checked = resources_pb2.Function(
            tenant_id=function.tenant_id,
            function_name=function.function_name,
            latest=latest,
            async_config=function.async_config,
        )
        function_specs.check(checked, self._editor.home(function.tenant_id))
        config = function.async_config
        self._editor.require_neighbours(
            function.tenant_id, latest.dead_letter_arn, config.on_success_arn, config.on_failure_arn
        )
        latest.code_size_bytes = self._size_of("code_sha256", latest.code_sha256)
        for layer in latest.layers:
            layer.code_size_bytes = self._size_of("layers.code_sha256", layer.code_sha256)
        if latest != before:
            latest.revision_id = self._editor.new_uuid()
            latest.modified_at_ms = function.modified_at_ms = self._editor.now_ms()
            before.CopyFrom(latest)

    def _size_of(self, field_name: str, code: bytes) -> int:
        return size_of_package(self._packages, field_name, code)

    def _require_room(self, tenant_id: str) -> None:
        if tenant_id not in self._state.tenants:
            raise invalid(f"tenant {tenant_id[:64]!r} does not exist; use 'default', or put it first")
        if len(self._state.functions) >= MAX_FUNCTIONS:
            text = f"the fleet has {MAX_FUNCTIONS:,} functions; delete some first"
            raise EvenflowError(Reason.ERROR_REASON_NO_CAPACITY, text)


def size_of_package(packages: PackageStore, field_name: str, code: bytes) -> int:
    """Bytes of a stored package. EvenflowError INVALID_PACKAGE: it is not there; INVALID_PARAMETER: that is no hash."""
    if len(code) != SHA256_BYTES:
        raise invalid(f"{field_name} must be the {SHA256_BYTES} bytes that UploadPackage answered, not {len(code)}")
    size_bytes = packages.size_of(code)
    if size_bytes is None:
        raise EvenflowError(
            Reason.ERROR_REASON_INVALID_PACKAGE,
            f"there is no package with SHA-256 {code.hex()}: upload it with UploadPackage first",
        )
    return size_bytes


def _merged(kept: bytes, changes: bytes) -> bytes:
    try:
        return merge_kept(kept, changes)
    except RuleBroken as e:
        raise refusal(e) from None
