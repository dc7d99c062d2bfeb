"""Functions, their event sources and their reserved concurrency: from a request to a change."""

import logging
from collections.abc import Callable, Sequence

from evenflow.control.v1 import control_pb2, resources_pb2

from services.control.changes import Change
from services.control.packages import PackageStore
from services.control.state import FunctionKey, State, function_resource_key
from services.policy import function_rules
from services.policy.function_rules import BucketSourceSpec, FunctionSpec, Home, RuleBroken
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason, invalid

MAX_FUNCTIONS = 100_000
MAX_PAGE = 1_000
DEFAULT_PAGE = 100
# A page of large functions ends early, below gRPC's common limit of 4 MB.
MAX_PAGE_BYTES = 3_670_016
SHA256_BYTES = 32
log = logging.getLogger(__name__)


class Functions:
    """Decides changes of functions; each `decide_…` fills a change in its turn."""

    def __init__(self, state: State, packages: PackageStore, clock: Clock, new_source_id: Callable[[], str]) -> None:
        self._state = state
        self._packages = packages
        self._clock = clock
        self._new_source_id = new_source_id

    def get(self, tenant_id: str, function_name: str) -> resources_pb2.Function:
        """The function. EvenflowError FUNCTION_NOT_FOUND."""
        function = self._state.function(tenant_id, function_name)
        if function is None:
            raise EvenflowError(
                Reason.ERROR_REASON_FUNCTION_NOT_FOUND,
                f"there is no function {function_name[:80]!r}: deploy it first",
                metadata={"function_name": function_name[:80]},
            )
        return function

    def page(self, request: control_pb2.ListFunctionsRequest) -> control_pb2.ListFunctionsResponse:
        """Functions of a tenant by name. EvenflowError INVALID_PARAMETER: page_size or page_token."""
        if request.page_size > MAX_PAGE:
            raise invalid(f"page_size must be within 0 to {MAX_PAGE:,}, not {request.page_size:,}")
        if len(request.page_token) > 64:
            raise invalid("page_token must be one that a response gave")
        count = request.page_size or DEFAULT_PAGE
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
        home = Home(self._state.fleet.account_id, self._state.fleet.region)
        spec = function_rules.complete(_spec_of(asked))
        sources = [_source_spec_of(source, asked) for source in request.sources]
        try:
            function_rules.check_function(spec, home)
            function_rules.check_sources(sources)
        except RuleBroken as e:
            raise _refusal(e) from None
        if asked.tenant_id not in self._state.tenants:
            raise invalid(f"tenant {asked.tenant_id[:64]!r} does not exist; use 'default', or put it first")
        key = asked.tenant_id, asked.function_name
        before = self._state.functions.get(key)
        if before is None and len(self._state.functions) >= MAX_FUNCTIONS:
            raise EvenflowError(
                Reason.ERROR_REASON_NO_CAPACITY, f"the fleet has {MAX_FUNCTIONS:,} functions; delete some first"
            )
        reserved = _reservation_of(asked) if asked.HasField("reserved_concurrency") else _reservation_of(before)
        self._check_reservation(key, reserved)
        function = self._build(asked, spec, before, reserved)
        sources_changed = self._replace_sources(change, key, sources)
        if before is not None and _is_same(before, function):
            # Nothing new: warm sandboxes stay, and the time of the last change.
            return control_pb2.PutFunctionResponse(function=before)
        function.revision = change.revision
        function.modified_at_ms = self._clock.wall_ms()
        change.upserts.append(_resource(function))
        log.info(
            "%s%s",
            "created" if before is None else "replaced",
            " with new event sources" if sources_changed else "",
            extra={"tenant_id": key[0], "function_name": key[1]},
        )
        return control_pb2.PutFunctionResponse(function=function, created=before is None)

    def decide_delete(self, change: Change, tenant_id: str, function_name: str) -> None:
        """Delete with its sources. EvenflowError FUNCTION_NOT_FOUND."""
        self.get(tenant_id, function_name)
        change.deleted_keys.append(function_resource_key(tenant_id, function_name))
        sources = self._state.sources_of(tenant_id, function_name)
        change.deleted_keys.extend(f"source/{source.source_id}" for source in sources)
        log.info("deleted", extra={"tenant_id": tenant_id, "function_name": function_name})

    def decide_concurrency(
        self, change: Change, tenant_id: str, function_name: str, reserved: int | None
    ) -> resources_pb2.Function:
        """Reserve, or lift the reservation. EvenflowError: too much, or no such function."""
        before = self.get(tenant_id, function_name)
        self._check_reservation((tenant_id, function_name), reserved)
        if _reservation_of(before) == reserved:
            return before
        function = resources_pb2.Function()
        function.CopyFrom(before)
        function.ClearField("reserved_concurrency")
        if reserved is not None:
            function.reserved_concurrency = reserved
        function.revision = change.revision
        change.upserts.append(_resource(function))
        return function

    def _build(
        self,
        asked: resources_pb2.Function,
        spec: FunctionSpec,
        before: resources_pb2.Function | None,
        reserved: int | None,
    ) -> resources_pb2.Function:
        function = resources_pb2.Function()
        function.CopyFrom(asked)
        function.ClearField("reserved_concurrency")
        if reserved is not None:
            function.reserved_concurrency = reserved
        latest = function.latest
        latest.version, latest.timeout_ms, latest.memory_mb = spec.version, spec.timeout_ms, spec.memory_mb
        latest.code_size_bytes = self._size_of("code_sha256", latest.code_sha256)
        for layer in latest.layers:
            layer.code_size_bytes = self._size_of("layers.code_sha256", layer.code_sha256)
        function.async_config.SetInParent()
        function.created_at_ms = before.created_at_ms if before is not None else self._clock.wall_ms()
        return function

    def _size_of(self, field_name: str, code: bytes) -> int:
        if len(code) != SHA256_BYTES:
            raise invalid(f"{field_name} must be the {SHA256_BYTES} bytes that UploadPackage answered, not {len(code)}")
        size_bytes = self._packages.size_of(code)
        if size_bytes is None:
            raise EvenflowError(
                Reason.ERROR_REASON_INVALID_PACKAGE,
                f"there is no package with SHA-256 {code.hex()}: upload it with UploadPackage first",
            )
        return size_bytes

    def _check_reservation(self, key: FunctionKey, reserved: int | None) -> None:
        if reserved is None:
            return
        others = self._state.total_reserved - (_reservation_of(self._state.functions.get(key)) or 0)
        try:
            function_rules.check_reservation(reserved, others, self._state.fleet.account_concurrency)
        except RuleBroken as e:
            raise _refusal(e) from None

    def _replace_sources(self, change: Change, key: FunctionKey, specs: Sequence[BucketSourceSpec]) -> bool:
        left = {_spec_of_source(source): source for source in self._state.sources_of(*key)}
        added = [spec for spec in specs if left.pop(spec, None) is None]
        change.deleted_keys.extend(f"source/{source.source_id}" for source in left.values())
        for spec in added:
            source = resources_pb2.EventSource(
                source_id=self._new_source_id(),
                tenant_id=key[0],
                function_name=key[1],
                bucket=resources_pb2.BucketSource(
                    bucket=spec.bucket, events=spec.events, key_prefix=spec.key_prefix, key_suffix=spec.key_suffix
                ),
            )
            change.upserts.append(resources_pb2.Resource(key=f"source/{source.source_id}", source=source))
        return bool(added or left)


def _resource(function: resources_pb2.Function) -> resources_pb2.Resource:
    key = function_resource_key(function.tenant_id, function.function_name)
    return resources_pb2.Resource(key=key, function=function)


def _reservation_of(function: resources_pb2.Function | None) -> int | None:
    if function is None or not function.HasField("reserved_concurrency"):
        return None
    return function.reserved_concurrency


def _is_same(before: resources_pb2.Function, after: resources_pb2.Function) -> bool:
    compared = resources_pb2.Function()
    compared.CopyFrom(after)
    compared.revision, compared.modified_at_ms = before.revision, before.modified_at_ms
    return compared == before


def packages_of(version: resources_pb2.FunctionVersion) -> list[bytes]:
    """SHA-256 of every package that a version needs: its code and its layers."""
    return [version.code_sha256, *(layer.code_sha256 for layer in version.layers)]


def _spec_of(function: resources_pb2.Function) -> FunctionSpec:
    version, config = function.latest, function.async_config
    return FunctionSpec(
        function_name=function.function_name,
        version=version.version,
        handler=version.handler,
        runtime=version.runtime,
        timeout_ms=version.timeout_ms,
        memory_mb=version.memory_mb,
        environment=dict(version.environment),
        buckets=[grant.bucket for grant in version.buckets],
        layers=[layer.name for layer in version.layers],
        snap_start=version.snap_start,
        description=version.description,
        maximum_retry_attempts=(config.maximum_retry_attempts if config.HasField("maximum_retry_attempts") else None),
        maximum_event_age_seconds=(
            config.maximum_event_age_seconds if config.HasField("maximum_event_age_seconds") else None
        ),
        on_success_arn=config.on_success_arn,
        on_failure_arn=config.on_failure_arn,
    )


def _source_spec_of(source: resources_pb2.EventSource, function: resources_pb2.Function) -> BucketSourceSpec:
    if source.tenant_id not in ("", function.tenant_id) or source.function_name not in ("", function.function_name):
        raise invalid("sources: each belongs to the function that is put; leave tenant_id and function_name empty")
    if source.WhichOneof("kind") != "bucket":
        raise invalid("sources: each must say what it listens to: a bucket")
    return _spec_of_source(source)


def _spec_of_source(source: resources_pb2.EventSource) -> BucketSourceSpec:
    bucket = source.bucket
    return BucketSourceSpec(bucket.bucket, tuple(bucket.events), bucket.key_prefix, bucket.key_suffix)


def _refusal(error: RuleBroken) -> EvenflowError:
    is_runtime = error.field_name == "runtime"
    reason = Reason.ERROR_REASON_RUNTIME_UNSUPPORTED if is_runtime else Reason.ERROR_REASON_INVALID_PARAMETER
    return EvenflowError(reason, str(error), metadata={"field": error.field_name})
