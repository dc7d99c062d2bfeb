"""Event sources: those that a deploy brings, and those that are made by themselves."""

from collections.abc import Hashable, Sequence

from evenflow.control.v1 import control_pb2, resources_pb2

from services.control import source_specs
from services.control.changes import Change
from services.control.editor import (
    MAX_PAGE_BYTES,
    FunctionEditor,
    conflict,
    not_found,
    page_count,
    refusal,
    require_qualifier,
)
from services.control.masks import take_fields
from services.control.state import FunctionKey
from services.policy.rules import RuleBroken
from services.policy.source_rules import MAX_SOURCE_BYTES, check_source_count
from services.policy.tag_rules import check_tags
from services.shared.errors import EvenflowError, Reason, invalid

# Followers hold them all in memory.
MAX_SOURCES_OF_FLEET = 100_000
DEFAULT_PAGE = 100


class Sources:
    """Decides changes of event sources; each `decide_…` fills a change in its turn."""

    def __init__(self, editor: FunctionEditor) -> None:
        self._editor = editor
        self._state = editor.state

    def replace_deployed(
        self, change: Change, function: resources_pb2.Function, asked: Sequence[resources_pb2.EventSource]
    ) -> bool:
        """Put these in the place of all that deploys made; whether anything changes.

        What is there already keeps its id. EvenflowError INVALID_PARAMETER; RESOURCE_CONFLICT: one was made by itself.
        """
        key: FunctionKey = function.tenant_id, function.function_name
        there = {source_specs.identity_of(source): source for source in self._state.sources_of(*key)}
        left = {identity: source for identity, source in there.items() if source.is_of_deploy}
        _check_count(len(asked), len(there) - len(left))
        wanted: dict[Hashable, resources_pb2.EventSource] = {}
        for one in asked:
            source = self._deployed(one, function)
            identity = source_specs.identity_of(source)
            if identity in wanted:
                raise invalid("sources: two of them are the same; leave one out", field="sources")
            if identity in there and identity not in left:
                raise conflict(f"{source_specs.text_of(source)} is a source of the function already, made by itself")
            wanted[identity] = source
        upserts = len(change.upserts)
        for identity, source in wanted.items():
            self._keep(change, source, left.pop(identity, None))
        change.deleted_keys.extend(f"source/{source.source_id}" for source in left.values())
        return bool(left) or len(change.upserts) > upserts

    def decide_put(self, change: Change, request: control_pb2.PutSourceRequest) -> control_pb2.PutSourceResponse:
        """Create or change. EvenflowError: see the contract; INVALID_PARAMETER; FUNCTION_NOT_FOUND."""
        asked = request.source
        if request.mode == control_pb2.PUT_MODE_UNSPECIFIED:
            raise invalid("mode must be PUT_MODE_CREATE or PUT_MODE_CHANGE", field="mode")
        source = resources_pb2.EventSource()
        if request.mode == control_pb2.PUT_MODE_CHANGE:
            before: resources_pb2.EventSource | None = self.get(asked.tenant_id, asked.source_id)
            source.CopyFrom(self.get(asked.tenant_id, asked.source_id))
            take_fields(source, asked, request.update_mask.paths, source_specs.changeable(source))
        else:
            before = None
            source.CopyFrom(asked)
            source.is_of_deploy = False
            try:
                check_tags(source.tags)
            except RuleBroken as e:
                raise refusal(e) from None
        function = self._editor.get(source.tenant_id, source.function_name)
        source.qualifier = require_qualifier(function, source.qualifier)
        self._check(source)
        self._require_alone(source)
        self._keep(change, source, before)
        return control_pb2.PutSourceResponse(source=source)

    def decide_delete(
        self, change: Change, request: control_pb2.DeleteSourceRequest
    ) -> control_pb2.DeleteSourceResponse:
        """See the contract."""
        source = self.get(request.tenant_id, request.source_id)
        change.deleted_keys.append(f"source/{source.source_id}")
        return control_pb2.DeleteSourceResponse(source=source)

    def read(self, request: control_pb2.GetSourceRequest) -> control_pb2.GetSourceResponse:
        """One source. EvenflowError RESOURCE_NOT_FOUND."""
        return control_pb2.GetSourceResponse(source=self.get(request.tenant_id, request.source_id))

    def page(self, request: control_pb2.ListSourcesRequest) -> control_pb2.ListSourcesResponse:
        """A tenant's sources by id. EvenflowError INVALID_PARAMETER: page_size or page_token."""
        count = page_count(request.page_size, request.page_token, DEFAULT_PAGE)
        answer, size_bytes = control_pb2.ListSourcesResponse(), 0
        for source_id in self._state.source_ids_after(request.tenant_id, request.page_token):
            source = self._state.sources[source_id]
            if request.function_name not in ("", source.function_name):
                continue
            if request.queue_arn and (source.WhichOneof("kind") != "sqs" or source.sqs.queue_arn != request.queue_arn):
                continue
            size_bytes += source.ByteSize()
            if len(answer.sources) == count or (answer.sources and size_bytes > MAX_PAGE_BYTES):
                answer.next_page_token = answer.sources[-1].source_id
                break
            answer.sources.append(source)
        return answer

    def get(self, tenant_id: str, source_id: str) -> resources_pb2.EventSource:
        """The source. EvenflowError RESOURCE_NOT_FOUND: the tenant has none of this id."""
        source = self._state.sources.get(source_id)
        if source is None or source.tenant_id != tenant_id:
            raise not_found("The resource you requested does not exist.")
        return source

    def copy(self, tenant_id: str, source_id: str) -> resources_pb2.EventSource:
        """One that may be changed and stored. EvenflowError RESOURCE_NOT_FOUND."""
        source = resources_pb2.EventSource()
        source.CopyFrom(self.get(tenant_id, source_id))
        return source

    def store(self, change: Change, source: resources_pb2.EventSource) -> None:
        """Put it into the change if it is not what is stored. EvenflowError INVALID_PARAMETER: it is too large."""
        if source.ByteSize() > MAX_SOURCE_BYTES:
            text = f"the event source has {source.ByteSize():,} bytes; at most {MAX_SOURCE_BYTES:,} are kept"
            raise invalid(f"{text}: shorten its filters, input or tags", field="source")
        if source != self._state.sources.get(source.source_id):
            change.upserts.append(resources_pb2.Resource(key=f"source/{source.source_id}", source=source))

    def _deployed(
        self, asked: resources_pb2.EventSource, function: resources_pb2.Function
    ) -> resources_pb2.EventSource:
        if asked.tenant_id not in ("", function.tenant_id) or asked.function_name not in ("", function.function_name):
            raise invalid("sources: each belongs to the function that is put; leave tenant_id and function_name empty")
        source = resources_pb2.EventSource()
        source.CopyFrom(asked)
        source.tenant_id, source.function_name = function.tenant_id, function.function_name
        source.qualifier = require_qualifier(function, source.qualifier)
        source.is_of_deploy = True
        self._check(source)
        return source

    def _check(self, source: resources_pb2.EventSource) -> None:
        source_specs.check(source)
        # Buckets are not asked for: the fleet does not reach for them, they tell of their objects.
        self._editor.require_neighbours(source.tenant_id, source.sqs.queue_arn)

    def _keep(
        self, change: Change, source: resources_pb2.EventSource, before: resources_pb2.EventSource | None
    ) -> None:
        """Store it under the id and with the times of what was there; nothing when it is the same."""
        if before is None:
            if len(self._state.sources) >= MAX_SOURCES_OF_FLEET:
                text = f"the fleet has {MAX_SOURCES_OF_FLEET:,} event sources; delete some first"
                raise EvenflowError(Reason.ERROR_REASON_NO_CAPACITY, text)
            source.source_id = self._editor.new_uuid()
            source.created_at_ms = source.modified_at_ms = self._editor.now_ms()
        else:
            source.source_id = before.source_id
            source.created_at_ms, source.modified_at_ms = before.created_at_ms, before.modified_at_ms
            if source.is_of_deploy:
                source.tags.clear()
                source.tags.update(before.tags)
            if source != before:
                source.modified_at_ms = self._editor.now_ms()
        self.store(change, source)

    def _require_alone(self, source: resources_pb2.EventSource) -> None:
        """Pass when the function has room and no other source that listens to the same. EvenflowError."""
        others = [
            one
            for one in self._state.sources_of(source.tenant_id, source.function_name)
            if one.source_id != source.source_id
        ]
        identity = source_specs.identity_of(source)
        for one in others:
            if source_specs.identity_of(one) == identity:
                raise conflict(
                    f"An event source mapping with {source_specs.text_of(source)} and function {source.function_name} "
                    f"already exists. Please update or delete the existing mapping with UUID {one.source_id}"
                )
        _check_count(0, len(others) + 1)


def _check_count(deployed: int, alone: int) -> None:
    try:
        check_source_count(deployed, alone)
    except RuleBroken as e:
        raise refusal(e) from None
