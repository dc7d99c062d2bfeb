"""The rules of event sources: every bound from both sides."""

from dataclasses import replace
from typing import Any

import pytest

from services.policy.rules import RuleBroken
from services.policy.source_rules import (
    BucketSourceSpec,
    QueueSourceSpec,
    ScheduleSourceSpec,
    SourceSpec,
    check_source,
    check_source_count,
)

BUCKET = BucketSourceSpec("podcast-in", ("s3:ObjectCreated:*",))
QUEUE = QueueSourceSpec("arn:aws:sqs:eu-west-1:000000000000:orders")
FIFO = QueueSourceSpec("arn:aws:sqs:eu-west-1:000000000000:orders.fifo")
SCHEDULE = ScheduleSourceSpec("rate(5 minutes)", "nightly")


@pytest.mark.parametrize(
    ("spec", "changes", "patterns"),
    [
        (BUCKET, {"key_suffix": ".wav"}, []),
        (BUCKET, {"events": ("s3:ObjectCreated:Put",), "key_prefix": "x" * 1_024}, []),
        (BUCKET, {"is_remote": True, "events": ("s3:ObjectRemoved:*", "s3:LifecycleExpiration:Delete")}, []),
        (QUEUE, {}, ['{"body":{"kind":["order"]}}'] * 5),
        (QUEUE, {"batch_size": 10_000, "maximum_batching_window_seconds": 1}, []),
        (QUEUE, {"maximum_batching_window_seconds": 300, "maximum_concurrency": 2}, []),
        (QUEUE, {"batch_size": 10, "maximum_concurrency": 1_000}, []),
        (FIFO, {"batch_size": 10}, []),
        (SCHEDULE, {"input": '{"a":1}', "catch_up_seconds": 86_400}, []),
        (SCHEDULE, {"expression": "cron(0 12 * * ? *)", "name": "x" * 64}, []),
    ],
)
def test_what_keeps_the_rules_passes(spec: SourceSpec, changes: dict[str, Any], patterns: list[str]) -> None:
    """Nothing is refused that is within its bounds."""
    check_source(replace(spec, **changes), patterns)


@pytest.mark.parametrize(
    ("spec", "changes", "patterns", "field_name"),
    [
        (BUCKET, {"bucket": ""}, [], "sources.bucket"),
        (BUCKET, {"events": ()}, [], "sources.events"),
        (BUCKET, {"events": ("s3:ObjectCreated:*",) * 9}, [], "sources.events"),
        (BUCKET, {"events": ("s3:ObjectRemoved:*",)}, [], "sources.events"),
        (BUCKET, {"is_remote": True, "events": ("ObjectRemoved",)}, [], "sources.events"),
        (BUCKET, {"key_prefix": "x" * 1_025}, [], "sources.key_prefix"),
        (BUCKET, {}, ["{}"], "sources.filter_patterns"),
        (QUEUE, {"queue_arn": "arn:aws:sns:eu-west-1:000000000000:t"}, [], "sources.queue_arn"),
        (QUEUE, {"batch_size": 10_001, "maximum_batching_window_seconds": 1}, [], "sources.batch_size"),
        (QUEUE, {"batch_size": 11}, [], "sources.maximum_batching_window_seconds"),
        (QUEUE, {"maximum_batching_window_seconds": 301}, [], "sources.maximum_batching_window_seconds"),
        (QUEUE, {"maximum_concurrency": 1}, [], "sources.maximum_concurrency"),
        (QUEUE, {"maximum_concurrency": 1_001}, [], "sources.maximum_concurrency"),
        (QUEUE, {}, ["{}"] * 6, "sources.filter_patterns"),
        (QUEUE, {}, ["no json"], "sources.filter_patterns"),
        (QUEUE, {}, ["x" * 4_097], "sources.filter_patterns"),
        (FIFO, {"batch_size": 11, "maximum_batching_window_seconds": 1}, [], "sources.batch_size"),
        (FIFO, {"maximum_batching_window_seconds": 1}, [], "sources.maximum_batching_window_seconds"),
        (SCHEDULE, {"expression": "every 5 minutes"}, [], "sources.expression"),
        (SCHEDULE, {"name": ""}, [], "sources.name"),
        (SCHEDULE, {"name": "x" * 65}, [], "sources.name"),
        (SCHEDULE, {"input": "{"}, [], "sources.input"),
        (SCHEDULE, {"input": '"' + "x" * 8_192 + '"'}, [], "sources.input"),
        (SCHEDULE, {"catch_up_seconds": 86_401}, [], "sources.catch_up_seconds"),
    ],
)
def test_a_broken_rule_names_its_field(
    spec: SourceSpec, changes: dict[str, Any], patterns: list[str], field_name: str
) -> None:
    """By its name in the contract."""
    with pytest.raises(RuleBroken) as refused:
        check_source(replace(spec, **changes), patterns)
    assert refused.value.field_name == field_name


def test_a_function_has_so_many_sources() -> None:
    """16 of a deploy, 48 in all."""
    check_source_count(16, 32)
    check_source_count(0, 48)
    for deployed, alone in ((17, 0), (16, 33), (0, 49)):
        with pytest.raises(RuleBroken):
            check_source_count(deployed, alone)
