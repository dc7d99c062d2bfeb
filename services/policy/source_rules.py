"""What an event source may look like. Pure; RuleBroken says what to do."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from services.policy.arns import REGION
from services.policy.bucket_names import check_bucket_name
from services.policy.filters import check_pattern
from services.policy.rules import RuleBroken, at_most, within
from services.policy.schedules import parse
from services.policy.validation import check_json

# Of one function: what a deploy names, and all together.
MAX_DEPLOYED_SOURCES = 16
MAX_SOURCES = 48
# As stored. With 48 of these a function of 2 MiB still is one answer, below gRPC's common limit of 4 MB.
MAX_SOURCE_BYTES = 32_768
MAX_EVENTS_PER_SOURCE = 8
# S3's own bound of a key.
MAX_KEY_PART_BYTES = 1_024
BUCKET_EVENTS = ("s3:ObjectCreated:*", "s3:ObjectCreated:Put")
DEFAULT_BATCH_SIZE = 10
MAX_BATCH_SIZE = 10_000
# Above this a window is needed; and a FIFO queue has no more.
MAX_BATCH_WITHOUT_WINDOW = 10
MAX_WINDOW_SECONDS = 300
MIN_CONCURRENCY = 2
MAX_CONCURRENCY = 1_000
MAX_FILTER_PATTERNS = 5
MAX_PATTERN_CHARACTERS = 4_096
MAX_INPUT_CHARACTERS = 8_192
MAX_CATCH_UP_SECONDS = 86_400
_QUEUE = re.compile(rf"arn:aws[a-z-]*:sqs:{REGION}:\d{{12}}:[A-Za-z0-9_-]{{1,80}}(?P<fifo>\.fifo)?")
_REMOTE_EVENT = re.compile(r"s3:[A-Za-z]{1,40}(?::(?:\*|[A-Za-z]{1,60}))?")
_SCHEDULE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class BucketSourceSpec:
    """New objects of a bucket, as asked for. `is_remote`: of an S3-compatible server, which tells of them itself."""

    bucket: str
    events: tuple[str, ...]
    key_prefix: str = ""
    key_suffix: str = ""
    is_remote: bool = False


@dataclass(frozen=True, slots=True)
class QueueSourceSpec:
    """Batches of an SQS queue, as asked for; 0: the default."""

    queue_arn: str
    batch_size: int = 0
    maximum_batching_window_seconds: int = 0
    maximum_concurrency: int = 0


@dataclass(frozen=True, slots=True)
class ScheduleSourceSpec:
    """Fires by the clock, as asked for."""

    expression: str
    name: str
    input: str = ""
    catch_up_seconds: int = 0


SourceSpec = BucketSourceSpec | QueueSourceSpec | ScheduleSourceSpec


def check_source(spec: SourceSpec, filter_patterns: Sequence[str] = ()) -> None:
    """Pass when every field keeps its rule. RuleBroken."""
    match spec:
        case BucketSourceSpec():
            _check_bucket(spec)
        case QueueSourceSpec():
            _check_queue(spec)
        case ScheduleSourceSpec():
            _check_schedule(spec)
    if filter_patterns and not isinstance(spec, QueueSourceSpec):
        raise RuleBroken("sources.filter_patterns", "only records of SQS queues are filtered: leave them out")
    if len(filter_patterns) > MAX_FILTER_PATTERNS:
        text = f"at most {MAX_FILTER_PATTERNS}, not {len(filter_patterns)}"
        raise RuleBroken("sources.filter_patterns", text)
    for pattern in filter_patterns:
        at_most("sources.filter_patterns", pattern, MAX_PATTERN_CHARACTERS)
        try:
            check_pattern(pattern)
        except ValueError as e:
            raise RuleBroken(
                "sources.filter_patterns", f"Invalid filter pattern definition: {e}", is_whole=True
            ) from None


def check_source_count(deployed: int, alone: int) -> None:
    """Pass for up to 16 of a deploy, 48 of a function in all. RuleBroken."""
    if deployed > MAX_DEPLOYED_SOURCES:
        raise RuleBroken("sources", f"at most {MAX_DEPLOYED_SOURCES} for a function, not {deployed}")
    if deployed + alone > MAX_SOURCES:
        raise RuleBroken("sources", f"at most {MAX_SOURCES} for a function: delete some first")


def _check_bucket(spec: BucketSourceSpec) -> None:
    check_bucket_name("sources.bucket", spec.bucket)
    if not 1 <= len(spec.events) <= MAX_EVENTS_PER_SOURCE:
        raise RuleBroken("sources.events", f"name 1 to {MAX_EVENTS_PER_SOURCE}, such as {BUCKET_EVENTS[0]}")
    for event in spec.events:
        if not spec.is_remote and event not in BUCKET_EVENTS:
            raise RuleBroken("sources.events", f"{event[:80]!r} is not offered; use {' or '.join(BUCKET_EVENTS)}")
        if not _REMOTE_EVENT.fullmatch(event):
            raise RuleBroken("sources.events", f"{event[:80]!r} is no event of S3 such as s3:ObjectRemoved:*")
    for part in (spec.key_prefix, spec.key_suffix):
        if len(part.encode()) > MAX_KEY_PART_BYTES or "\x00" in part:
            raise RuleBroken("sources.key_prefix", f"prefix and suffix have at most {MAX_KEY_PART_BYTES:,} bytes")


def _check_queue(spec: QueueSourceSpec) -> None:
    queue = _QUEUE.fullmatch(spec.queue_arn)
    if queue is None:
        text = f"{spec.queue_arn[:200]!r} is no queue's ARN such as arn:aws:sqs:us-east-1:123456789012:NAME"
        raise RuleBroken("sources.queue_arn", text)
    batch_size, window_seconds = spec.batch_size or DEFAULT_BATCH_SIZE, spec.maximum_batching_window_seconds
    within("sources.batch_size", batch_size, 1, MAX_BATCH_SIZE)
    within("sources.maximum_batching_window_seconds", window_seconds, 0, MAX_WINDOW_SECONDS)
    if queue["fifo"]:
        within("sources.batch_size", batch_size, 1, MAX_BATCH_WITHOUT_WINDOW)
        if window_seconds:
            text = "Batching window is not supported for FIFO queues: leave it out"
            raise RuleBroken("sources.maximum_batching_window_seconds", text)
    if batch_size > MAX_BATCH_WITHOUT_WINDOW and not window_seconds:
        text = (
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than "
            f"{MAX_BATCH_WITHOUT_WINDOW}"
        )
        raise RuleBroken("sources.maximum_batching_window_seconds", text, is_whole=True)
    if spec.maximum_concurrency:
        within("sources.maximum_concurrency", spec.maximum_concurrency, MIN_CONCURRENCY, MAX_CONCURRENCY)


def _check_schedule(spec: ScheduleSourceSpec) -> None:
    if not _SCHEDULE_NAME.fullmatch(spec.name):
        raise RuleBroken("sources.name", f"{spec.name[:80]!r} must be 1 to 64 characters of A-Z a-z 0-9 _ . -")
    try:
        parse(spec.expression)
    except ValueError as e:
        raise RuleBroken("sources.expression", str(e)) from None
    at_most("sources.input", spec.input, MAX_INPUT_CHARACTERS)
    if spec.input:
        try:
            check_json(spec.input.encode())
        except ValueError as e:
            raise RuleBroken("sources.input", f"no JSON: {e}") from None
    within("sources.catch_up_seconds", spec.catch_up_seconds, 0, MAX_CATCH_UP_SECONDS)
