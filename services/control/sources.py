"""Event sources: from a request to a change."""

from collections.abc import Callable, Sequence

from evenflow.control.v1 import resources_pb2

from services.control.changes import Change
from services.control.editor import FunctionEditor, refusal
from services.control.state import FunctionKey
from services.policy.rules import RuleBroken
from services.policy.source_rules import BucketSourceSpec, check_sources
from services.shared.errors import invalid


class Sources:
    """Decides changes of event sources; each `decide_…` fills a change in its turn."""

    def __init__(self, editor: FunctionEditor, new_source_id: Callable[[], str]) -> None:
        self._editor = editor
        self._state = editor.state
        self._new_source_id = new_source_id

    def check_deployed(
        self, sources: Sequence[resources_pb2.EventSource], function: resources_pb2.Function
    ) -> list[BucketSourceSpec]:
        """The sources of a deploy, each checked. EvenflowError INVALID_PARAMETER."""
        specs = [_source_spec_of(source, function) for source in sources]
        try:
            check_sources(specs)
        except RuleBroken as e:
            raise refusal(e) from None
        return specs

    def replace_deployed(self, change: Change, key: FunctionKey, specs: Sequence[BucketSourceSpec]) -> bool:
        """Put these in the place of all that deploys made; whether anything changes."""
        deployed = [source for source in self._state.sources_of(*key) if source.is_of_deploy]
        left = {_spec_of_source(source): source for source in deployed}
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
                is_of_deploy=True,
                created_at_ms=self._editor.now_ms(),
                modified_at_ms=self._editor.now_ms(),
            )
            change.upserts.append(resources_pb2.Resource(key=f"source/{source.source_id}", source=source))
        return bool(added or left)


def _source_spec_of(source: resources_pb2.EventSource, function: resources_pb2.Function) -> BucketSourceSpec:
    if source.tenant_id not in ("", function.tenant_id) or source.function_name not in ("", function.function_name):
        raise invalid("sources: each belongs to the function that is put; leave tenant_id and function_name empty")
    if source.WhichOneof("kind") != "bucket":
        raise invalid("sources: each must say what it listens to: a bucket")
    return _spec_of_source(source)


def _spec_of_source(source: resources_pb2.EventSource) -> BucketSourceSpec:
    bucket = source.bucket
    return BucketSourceSpec(bucket.bucket, tuple(bucket.events), bucket.key_prefix, bucket.key_suffix)
