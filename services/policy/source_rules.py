"""What an event source may look like. Pure; RuleBroken says what to do."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.policy.bucket_names import check_bucket_name
from services.policy.rules import RuleBroken

MAX_SOURCES = 16
MAX_EVENTS_PER_SOURCE = 8
# S3's own bound of a key.
MAX_KEY_PART_BYTES = 1_024
BUCKET_EVENTS = ("s3:ObjectCreated:*", "s3:ObjectCreated:Put")


@dataclass(frozen=True, slots=True)
class BucketSourceSpec:
    """New objects of a bucket, as asked for."""

    bucket: str
    events: tuple[str, ...]
    key_prefix: str = ""
    key_suffix: str = ""


def check_sources(sources: Sequence[BucketSourceSpec]) -> None:
    """Pass when each names a bucket and events that buckets make, and no two are the same. RuleBroken."""
    if len(sources) > MAX_SOURCES:
        raise RuleBroken("sources", f"at most {MAX_SOURCES} for a function, not {len(sources)}")
    for source in sources:
        check_bucket_name("sources.bucket", source.bucket)
        if not 1 <= len(source.events) <= MAX_EVENTS_PER_SOURCE:
            raise RuleBroken("sources.events", f"name 1 to {MAX_EVENTS_PER_SOURCE}, such as {BUCKET_EVENTS[0]}")
        for event in source.events:
            if event not in BUCKET_EVENTS:
                raise RuleBroken("sources.events", f"{event[:80]!r} is not offered; use {' or '.join(BUCKET_EVENTS)}")
        for part in (source.key_prefix, source.key_suffix):
            if len(part.encode()) > MAX_KEY_PART_BYTES or "\x00" in part:
                raise RuleBroken("sources.key_prefix", f"prefix and suffix have at most {MAX_KEY_PART_BYTES:,} bytes")
    if len(set(sources)) != len(sources):
        raise RuleBroken("sources", "two of them are the same; leave one out")
