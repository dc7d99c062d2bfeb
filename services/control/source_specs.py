"""Event sources of the contract as the rules of services.policy read them, and which two are the same one."""

from collections.abc import Hashable

from evenflow.control.v1 import resources_pb2

from services.control.editor import refusal
from services.policy.rules import RuleBroken
from services.policy.source_rules import (
    BucketSourceSpec,
    QueueSourceSpec,
    ScheduleSourceSpec,
    SourceSpec,
    check_source,
)
from services.shared.errors import invalid

# Fields of every kind that a change may name, and those of each.
CHANGEABLE = frozenset(("function_name", "qualifier", "is_disabled", "filter_patterns"))
CHANGEABLE_OF_KIND = {
    "bucket": frozenset(("bucket.events", "bucket.key_prefix", "bucket.key_suffix")),
    "sqs": frozenset(
        (
            "sqs.batch_size",
            "sqs.maximum_batching_window_seconds",
            "sqs.report_batch_item_failures",
            "sqs.maximum_concurrency",
        )
    ),
    "schedule": frozenset(("schedule.expression", "schedule.input", "schedule.catch_up_seconds")),
}


def changeable(source: resources_pb2.EventSource) -> frozenset[str]:
    """Paths that a change of this source may name."""
    return CHANGEABLE | CHANGEABLE_OF_KIND[source.WhichOneof("kind") or ""]


def check(source: resources_pb2.EventSource) -> None:
    """Pass when the source keeps every rule. EvenflowError INVALID_PARAMETER."""
    try:
        check_source(spec_of(source), list(source.filter_patterns))
    except RuleBroken as e:
        raise refusal(e) from None


def spec_of(source: resources_pb2.EventSource) -> SourceSpec:
    """What it listens to. EvenflowError INVALID_PARAMETER: it does not say."""
    match source.WhichOneof("kind"):
        case "bucket":
            bucket = source.bucket
            events = tuple(bucket.events)
            return BucketSourceSpec(bucket.bucket, events, bucket.key_prefix, bucket.key_suffix, bucket.is_remote)
        case "sqs":
            queue = source.sqs
            window_seconds = queue.maximum_batching_window_seconds
            return QueueSourceSpec(queue.queue_arn, queue.batch_size, window_seconds, queue.maximum_concurrency)
        case "schedule":
            schedule = source.schedule
            return ScheduleSourceSpec(schedule.expression, schedule.name, schedule.input, schedule.catch_up_seconds)
    text = "sources: each must say what it listens to: a bucket, an SQS queue or a schedule"
    raise invalid(text, field="source.kind")


def identity_of(source: resources_pb2.EventSource) -> Hashable:
    """Two sources of a function with the same one would make every event twice, or take each other's."""
    match spec := spec_of(source):
        case BucketSourceSpec():
            return spec, source.qualifier
        case QueueSourceSpec():
            return "sqs", spec.queue_arn, source.qualifier
        case ScheduleSourceSpec():
            return "schedule", spec.name, source.qualifier


def text_of(source: resources_pb2.EventSource) -> str:
    """What it listens to, in a few words."""
    match spec := spec_of(source):
        case BucketSourceSpec():
            return f"bucket {spec.bucket}"
        case QueueSourceSpec():
            return f"SQS arn {spec.queue_arn}"
        case ScheduleSourceSpec():
            return f"schedule {spec.name}"
