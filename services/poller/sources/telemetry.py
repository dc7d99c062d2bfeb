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
