"""Metrics: plain numbers on the hot path, exported by OpenTelemetry on a Prometheus endpoint.

The endpoint is `http://HOST:PORT/metrics` (setting metrics.listen) or the same over the unix socket
`RUN_DIR/NODE.metrics.sock` with the fleet's token, so that on one machine only the two doors listen on TCP.
"""

import hmac
import math
import socketserver
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import REGISTRY, make_wsgi_app

from services.shared.settings import NodeSettings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Value = int | float
# Attributes of one series, in the order in which they are always given.
SeriesKey = tuple[tuple[str, str], ...]
# A tenant with endless functions must not grow the process: further series are added up under "other".
MAX_SERIES = 5_000
# How often the endpoint's thread looks whether it is to end: the longest time that a shutdown waits for it.
SHUTDOWN_POLL_SECONDS = 0.1
# services.shared.channels.TOKEN_KEY as WSGI names a header.
_TOKEN_VARIABLE = "HTTP_EVENFLOW_FLEET_TOKEN"
# Lambda's metrics under the names that its users know. OpenTelemetry folds instrument names to lower case; a view for
# each gives it back its own.
LAMBDA_METRICS = (
    "Invocations",
    "Errors",
    "Throttles",
    "DeadLetterErrors",
    "DestinationDeliveryFailures",
    "AsyncEventsReceived",
    "AsyncEventsDropped",
    "RecursiveInvocationsDropped",
    "ConcurrentExecutions",
    "UnreservedConcurrentExecutions",
    "ClaimedAccountConcurrency",
    "ProvisionedConcurrentExecutions",
    "ProvisionedConcurrencyInvocations",
    "ProvisionedConcurrencySpilloverInvocations",
    "ProvisionedConcurrencyUtilization",
)
# Milliseconds, from a warm no-op to AWS's longest timeout.
_BUCKETS_MS: list[float] = [
    0.25,
    0.5,
    1,
    2,
    3,
    5,
    7.5,
    10,
    25,
    50,
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    60_000,
    900_000,
]
_BUCKETS_COUNT: list[float] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000]


def _other(key: SeriesKey) -> SeriesKey:
    return tuple((name, "other") for name, _ in key)


class Counter:
    """A growing number for each set of attributes."""

    def __init__(self) -> None:
        self._values: dict[SeriesKey, Value] = {}

    def add(self, amount: Value, **attributes: str) -> None:
        """Count; a dictionary look-up, no export."""
        self.add_at(tuple(attributes.items()), amount)

    def add_at(self, key: SeriesKey, amount: Value) -> None:
        """The same for attributes that the caller keeps as a key."""
        values = self._values
        if key not in values and len(values) >= MAX_SERIES:
            key = _other(key)
        values[key] = values.get(key, 0) + amount

    def value(self, **attributes: str) -> Value:
        """What was counted under exactly these attributes."""
        return self._values.get(tuple(attributes.items()), 0)

    def observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        """For the exporter."""
        return [Observation(value, dict(key)) for key, value in list(self._values.items())]


class _Series:
    """One distribution: how many values fell into each bucket."""

    __slots__ = ("count", "counts", "greatest", "least", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.count = 0
        self.total = 0.0
        self.least = math.inf
        self.greatest = -math.inf


class Histogram:
    """A distribution for each set of attributes.

    The SDK's own instrument costs 7 us a value, as much as an event's whole way through a queue: values are counted
    here and enter OpenTelemetry's model when somebody collects.
    """

    def __init__(self, name: str, unit: str, description: str) -> None:
        self._name = name
        self._unit = unit
        self._description = description
        self._bounds = _BUCKETS_MS if unit == "ms" else _BUCKETS_COUNT
        self._series: dict[SeriesKey, _Series] = {}
        self._since_ns = time.time_ns()

    def record(self, value: Value, **attributes: str) -> None:
        """Note one value."""
        self.record_at(tuple(attributes.items()), value)

    def record_at(self, key: SeriesKey, value: Value) -> None:
        """The same for attributes that the caller keeps as a key."""
        series = self._series.get(key)
        if series is None:
            if len(self._series) >= MAX_SERIES:
                key = _other(key)
            series = self._series.setdefault(key, _Series(len(self._bounds) + 1))
        series.counts[bisect_left(self._bounds, value)] += 1
        series.count += 1
        series.total += value
        if value < series.least:
            series.least = value
        if value > series.greatest:
            series.greatest = value

    def collect(self, now_ns: int) -> Metric:
        """All series as OpenTelemetry has them."""
        points = [
            HistogramDataPoint(
                attributes=dict(key),
                start_time_unix_nano=self._since_ns,
                time_unix_nano=now_ns,
                count=series.count,
                sum=series.total,
                bucket_counts=list(series.counts),
                explicit_bounds=self._bounds,
                min=series.least,
                max=series.greatest,
            )
            for key, series in list(self._series.items())
        ]
        data = HistogramData(data_points=points, aggregation_temporality=AggregationTemporality.CUMULATIVE)
        return Metric(name=self._name, description=self._description, unit=self._unit, data=data)


class _Reader(PrometheusMetricReader):
    """Adds our histograms to what the SDK collected."""

    def __init__(self, resource: Resource, histograms: list[Histogram]) -> None:
        super().__init__()
        self._own_resource = resource
        self._histograms = histograms

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        now_ns = time.time_ns()
        metrics = [histogram.collect(now_ns) for histogram in self._histograms]
        scope = ScopeMetrics(scope=InstrumentationScope("evenflow"), metrics=metrics, schema_url="")
        ours = ResourceMetrics(resource=self._own_resource, scope_metrics=[scope], schema_url="")
        theirs = metrics_data.resource_metrics if metrics_data is not None else ()
        super()._receive_metrics(MetricsData(resource_metrics=[*theirs, ours]), timeout_millis, **kwargs)


class Metrics:
    """The instruments of one process; make it once a process."""

    def __init__(self, service_name: str, settings: NodeSettings) -> None:
        views = [View(instrument_name=name.lower(), name=name) for name in LAMBDA_METRICS]
        resource = Resource.create(
            {"service.name": f"evenflow-{service_name}", "service.instance.id": settings.node_id}
        )
        self._histograms: list[Histogram] = []
        reader = _Reader(resource, self._histograms)
        self._provider = MeterProvider(metric_readers=[reader], resource=resource, views=views, shutdown_on_exit=False)
        self._meter = self._provider.get_meter("evenflow")
        self._settings = settings
        self._server: WSGIServer | None = None
        # The SDK collects nothing, and calls no reader, while it has no instrument of its own.
        self.gauge("evenflow_up", "1: this process is alive.", lambda: [(1, {})])

    def counter(self, name: str, description: str) -> Counter:
        """A counter; exported as NAME_total."""
        counter = Counter()
        self._meter.create_observable_counter(name, [counter.observe], description=description)
        return counter

    def gauge(
        self, name: str, description: str, callback: Callable[[], Iterable[tuple[Value, Mapping[str, str]]]]
    ) -> None:
        """A number that the callback tells whenever somebody looks; it runs on the endpoint's thread."""

        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            return [Observation(value, dict(attributes)) for value, attributes in callback()]

        self._meter.create_observable_gauge(name, [observe], description=description)

    def histogram(self, name: str, unit: str, description: str) -> Histogram:
        """A histogram; unit "ms" has buckets from a quarter of a millisecond to 15 minutes."""
        histogram = Histogram(name, unit, description)
        self._histograms.append(histogram)
        return histogram

    def serve(self, token: str) -> None:
        """Serve /metrics from a thread of its own. OSError: the address is taken.

        The socket asks for the fleet's token in the header `evenflow-fleet-token`: numbers name every tenant's
        functions, and where sandboxes have the host's own user, a private folder alone does not keep them out.
        Prometheus over TCP (metrics.listen) has no token to send: who opens that address decides who reaches it.
        """
        app = make_wsgi_app(REGISTRY)
        if self._settings.metrics_listen:
            host, _, port = self._settings.metrics_listen.rpartition(":")
            self._server = _TcpServer((host, int(port)), _QuietHandler)
        else:
            path = Path(self._settings.run_dir) / f"{self._settings.node_id}.metrics.sock"
            path.unlink(missing_ok=True)
            self._server = _UnixServer(str(path), _QuietHandler)  # type: ignore[arg-type]  # a path, not HOST and PORT
            path.chmod(0o600)
            app = _only_with(token, app)
        self._server.set_app(app)
        threading.Thread(
            target=self._server.serve_forever, args=(SHUTDOWN_POLL_SECONDS,), name="metrics", daemon=True
        ).start()

    def shutdown(self) -> None:
        """Stop serving and exporting."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self._provider.shutdown()


def _only_with(token: str, app: "WSGIApplication") -> "WSGIApplication":
    def guarded(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        given = str(environ.get(_TOKEN_VARIABLE, ""))
        if not hmac.compare_digest(given.encode("latin-1", "replace"), token.encode()):
            start_response("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"the fleet's token is needed\n"]
        return app(environ, start_response)

    return guarded


class _QuietHandler(WSGIRequestHandler):
    def address_string(self) -> str:
        return "local"

    def log_message(self, format: str, *args: Any) -> None:
        return


class _TcpServer(WSGIServer):
    request_queue_size = 16


class _UnixServer(WSGIServer):
    # WSGIServer is a TCP server by birth; this one binds a path and has no port to tell.
    address_family = 1  # AF_UNIX

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", 0
        self.setup_environ()

    def get_request(self) -> tuple[Any, Any]:
        request, _ = self.socket.accept()
        return request, ("local", 0)
