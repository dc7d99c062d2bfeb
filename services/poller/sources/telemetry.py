"""Metrics of event sources."""

from collections.abc import Callable, Iterable

from services.shared.metrics import Metrics


class SourceTelemetry:
    """Counts what sources do; one a poller."""

    def __init__(self, metrics: Metrics, pending: Callable[[], Iterable[tuple[str, int]]]) -> None:
        """`pending`: (bucket, objects on their way) of each source; called from the endpoint's thread."""
        self._announced = metrics.counter("evenflow_source_announced", "Objects that became events.")
        self._refused = metrics.counter("evenflow_source_refused", "Objects whose event was refused for good.")
        self._retried = metrics.counter("evenflow_source_retried", "Submissions of sources to be repeated.")
        self._scans = metrics.histogram("evenflow_source_scan_ms", "ms", "Time to compare a bucket with its journal.")
        metrics.gauge(
            "evenflow_source_pending",
            "Objects found and not announced yet.",
            lambda: [(count, {"bucket": bucket}) for bucket, count in pending()],
        )

    def announced(self, bucket: str, function_name: str, tenant_id: str) -> None:
        """An event is durable."""
        self._announced.add(1, bucket=bucket, function=function_name, tenant=tenant_id)

    def refused(self, bucket: str, function_name: str, tenant_id: str) -> None:
        """An event was refused for good."""
        self._refused.add(1, bucket=bucket, function=function_name, tenant=tenant_id)

    def retried(self, bucket: str, function_name: str, tenant_id: str) -> None:
        """An event is submitted again later."""
        self._retried.add(1, bucket=bucket, function=function_name, tenant=tenant_id)

    def scanned(self, bucket: str, took_ms: float) -> None:
        """A scan of a whole bucket ended."""
        self._scans.record(took_ms, bucket=bucket)


class ScheduleTelemetry:
    """Counts what schedules do; one a poller."""

    def __init__(self, metrics: Metrics) -> None:
        self._fired = metrics.counter("evenflow_schedule_fired", "Fires of schedules that became events.")
        self._missed = metrics.counter("evenflow_schedule_missed", "Fires that were too old to be made up for.")
        self._refused = metrics.counter("evenflow_schedule_refused", "Fires that were refused for good.")
        self._retried = metrics.counter("evenflow_schedule_retried", "Submissions of fires to be repeated.")

    def fired(self, schedule: str, function_name: str, tenant_id: str) -> None:
        """An event is durable, or was before."""
        self._fired.add(1, schedule=schedule, function=function_name, tenant=tenant_id)

    def missed(self, schedule: str, function_name: str, tenant_id: str) -> None:
        """A fire is passed over."""
        self._missed.add(1, schedule=schedule, function=function_name, tenant=tenant_id)

    def refused(self, schedule: str, function_name: str, tenant_id: str) -> None:
        """A fire was refused for good."""
        self._refused.add(1, schedule=schedule, function=function_name, tenant=tenant_id)

    def retried(self, schedule: str, function_name: str, tenant_id: str) -> None:
        """A fire is submitted again later."""
        self._retried.add(1, schedule=schedule, function=function_name, tenant=tenant_id)


class SqsTelemetry:
    """Counts what SQS mappings do; one a poller. Every series has the mapping, its function and its tenant."""

    def __init__(self, metrics: Metrics, running: Callable[[], Iterable[tuple[dict[str, str], int]]]) -> None:
        """`running`: batches at functions now, by mapping; called from the endpoint's thread."""
        self._records = metrics.counter("evenflow_sqs_records", "Records of SQS mappings, by what became of them.")
        self._batches = metrics.counter("evenflow_sqs_batches", "Invocations of SQS mappings, by how they ended.")
        metrics.gauge(
            "evenflow_sqs_running",
            "Batches of SQS mappings at their functions now.",
            lambda: [(count, names) for names, count in running()],
        )

    def records(self, names: dict[str, str], outcome: str, count: int) -> None:
        """`outcome`: received, filtered, deleted, undeleted, failed (comes back), too_large or recursion_stopped."""
        if count:
            self._records.add(count, outcome=outcome, **names)

    def batch(self, names: dict[str, str], outcome: str) -> None:
        """`outcome`: succeeded, function_error, throttled, refused, or expired (its records are others' by now)."""
        self._batches.add(1, outcome=outcome, **names)
