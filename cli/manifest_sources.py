"""Event sources in evenflow.toml: new objects of a bucket, records of an SQS queue, fires of a schedule."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from evenflow.control.v1 import resources_pb2

from cli.failures import CliError
from cli.manifest_keys import Keys, check_keys, check_table

_BUCKET_KEYS: Keys = {"bucket": str, "events": list, "prefix": str, "suffix": str, "remote": bool}
_SQS_KEYS: Keys = {
    "sqs": str,
    "batch_size": int,
    "maximum_batching_window_seconds": int,
    "report_batch_item_failures": bool,
    "maximum_concurrency": int,
    "filters": list,
}
_SCHEDULE_KEYS: Keys = {"schedule": str, "name": str, "input": (str, dict), "catch_up_seconds": int}


@dataclass(frozen=True, slots=True)
class Source:
    """New objects of a bucket become events. `remote`: the bucket of an S3-compatible server, which tells of them."""

    bucket: str
    events: tuple[str, ...]
    prefix: str = ""
    suffix: str = ""
    remote: bool = False

    def fill(self, source: resources_pb2.EventSource, where: str) -> None:
        """Into what control takes."""
        source.bucket.CopyFrom(
            resources_pb2.BucketSource(
                bucket=self.bucket,
                events=self.events,
                key_prefix=self.prefix,
                key_suffix=self.suffix,
                is_remote=self.remote,
            )
        )


@dataclass(frozen=True, slots=True)
class QueueSource:
    """Records of an SQS queue, in batches. `filters`: JSON texts. 0: AWS's default."""

    queue_arn: str
    batch_size: int = 0
    maximum_batching_window_seconds: int = 0
    report_batch_item_failures: bool = False
    maximum_concurrency: int = 0
    filters: tuple[str, ...] = ()

    def fill(self, source: resources_pb2.EventSource, where: str) -> None:
        """Into what control takes. CliError: a number that no field holds."""
        source.filter_patterns.extend(self.filters)
        source.sqs.CopyFrom(
            resources_pb2.SqsSource(
                queue_arn=self.queue_arn,
                batch_size=_unsigned(self.batch_size, f"{where}: batch_size"),
                maximum_batching_window_seconds=_unsigned(
                    self.maximum_batching_window_seconds, f"{where}: maximum_batching_window_seconds"
                ),
                report_batch_item_failures=self.report_batch_item_failures,
                maximum_concurrency=_unsigned(self.maximum_concurrency, f"{where}: maximum_concurrency"),
            )
        )


@dataclass(frozen=True, slots=True)
class ScheduleSource:
    """Fires by the clock. `input`: JSON; empty: EventBridge's scheduled event. `name`: empty: the function's."""

    expression: str
    name: str = ""
    input: str = ""
    catch_up_seconds: int = 0

    def fill(self, source: resources_pb2.EventSource, where: str) -> None:
        """Into what control takes. CliError: a number that no field holds."""
        source.schedule.CopyFrom(
            resources_pb2.ScheduleSource(
                expression=self.expression,
                name=self.name or source.function_name,
                input=self.input,
                catch_up_seconds=_unsigned(self.catch_up_seconds, f"{where}: catch_up_seconds"),
            )
        )


AnySource = Source | QueueSource | ScheduleSource


def read_source(entry: Any, where: str) -> AnySource:
    """One entry of `sources`. CliError with its place: no kind or two of them, or a wrong key."""
    check_table(entry, where)
    kinds = [kind for kind in _READERS if kind in entry]
    if not kinds:
        raise CliError(f"{where}: bucket is missing (or sqs, or schedule): it says what the source is")
    if len(kinds) > 1:
        raise CliError(f"{where}: {' and '.join(kinds)}: a source is one of them; write two")
    if not entry[kinds[0]]:
        raise CliError(f"{where}: {kinds[0]} is empty")
    return _READERS[kinds[0]](entry, where)


def _bucket(entry: Mapping[str, Any], where: str) -> Source:
    check_keys(entry, _BUCKET_KEYS, where)
    events = entry.get("events", ["s3:ObjectCreated:*"])
    if not events or not all(isinstance(event, str) for event in events):
        raise CliError(f'{where}: events must be a list of texts, such as ["s3:ObjectCreated:*"]')
    return Source(
        entry["bucket"],
        tuple(events),
        entry.get("prefix", ""),
        entry.get("suffix", ""),
        entry.get("remote", False),
    )


def _queue(entry: Mapping[str, Any], where: str) -> QueueSource:
    check_keys(entry, _SQS_KEYS, where)
    filters = entry.get("filters", [])
    if not all(isinstance(one, str | dict) for one in filters):
        raise CliError(f"{where}: filters must be a list of patterns: JSON in quotes, or tables")
    return QueueSource(
        entry["sqs"],
        entry.get("batch_size", 0),
        entry.get("maximum_batching_window_seconds", 0),
        entry.get("report_batch_item_failures", False),
        entry.get("maximum_concurrency", 0),
        tuple(_json(one, f"{where}: filters") for one in filters),
    )


def _schedule(entry: Mapping[str, Any], where: str) -> ScheduleSource:
    check_keys(entry, _SCHEDULE_KEYS, where)
    given = _json(entry.get("input", ""), f"{where}: input")
    return ScheduleSource(entry["schedule"], entry.get("name", ""), given, entry.get("catch_up_seconds", 0))


_READERS: Mapping[str, Callable[[Mapping[str, Any], str], AnySource]] = {
    "bucket": _bucket,
    "sqs": _queue,
    "schedule": _schedule,
}


def _json(given: str | Mapping[str, Any], where: str) -> str:
    if isinstance(given, str):
        return given
    try:
        return json.dumps(given)
    except TypeError:
        # TOML has dates, JSON has none.
        raise CliError(f"{where}: dates and times are no JSON: write them in quotes") from None


def _unsigned(value: int, where: str) -> int:
    if not 0 <= value < 2**32:
        raise CliError(f"{where} is out of bounds")
    return value
