"""Metrics: plain numbers on the hot path, exported by OpenTelemetry on a Prometheus endpoint.

The endpoint is `http://HOST:PORT/metrics` (setting metrics.listen) or the same over the unix socket
`RUN_DIR/NODE.metrics.sock`, so that on one machine only the two doors listen on TCP.
"""

import socketserver
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from prometheus_client import REGISTRY, make_wsgi_app

from services.shared.settings import NodeSettings

Value = int | float
# A tenant with endless functions must not grow the process: further series are added up under "other".
MAX_SERIES = 5_000
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
LAMBDA_HISTOGRAMS_MS = ("Duration", "AsyncEventAge", "IteratorAge")
# Milliseconds, from a warm no-op to AWS's longest timeout.
_BUCKETS_MS = [0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 60_000, 900_000]


class Counter:
    """A growing number for each set of attributes."""

    def __init__(self) -> None:
        self._values: dict[tuple[tuple[str, str], ...], Value] = {}

    def add(self, amount: Value, **attributes: str) -> None:
        """Count; a dictionary look-up, no export."""
        key = tuple(attributes.items())
        values = self._values
        if key not in values and len(values) >= MAX_SERIES:
            key = tuple((name, "other") for name in attributes)
        values[key] = values.get(key, 0) + amount

    def value(self, **attributes: str) -> Value:
        """What was counted under exactly these attributes."""
        return self._values.get(tuple(attributes.items()), 0)

    def observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        """For the exporter."""
        return [Observation(value, dict(key)) for key, value in list(self._values.items())]


class Histogram:
    """A distribution for each set of attributes."""

    def __init__(self, instrument: Any) -> None:
        self._record = instrument.record
        self._known: set[tuple[tuple[str, str], ...]] = set()

    def record(self, value: Value, **attributes: str) -> None:
        """Note one value."""
        key = tuple(attributes.items())
        if key not in self._known:
            if len(self._known) >= MAX_SERIES:
                attributes = dict.fromkeys(attributes, "other")
            else:
                self._known.add(key)
        self._record(value, attributes)


class Metrics:
    """The instruments of one process; make it once a process."""

    def __init__(self, service_name: str, settings: NodeSettings) -> None:
        reader = PrometheusMetricReader()
        buckets = ExplicitBucketHistogramAggregation(_BUCKETS_MS)
        views = [
            View(instrument_name="evenflow_*", instrument_unit="ms", aggregation=buckets),
            *(View(instrument_name=name.lower(), name=name) for name in LAMBDA_METRICS),
            *(View(instrument_name=name.lower(), name=name, aggregation=buckets) for name in LAMBDA_HISTOGRAMS_MS),
        ]
        resource = Resource.create(
            {"service.name": f"evenflow-{service_name}", "service.instance.id": settings.node_id}
        )
        self._provider = MeterProvider(metric_readers=[reader], resource=resource, views=views, shutdown_on_exit=False)
        self._meter = self._provider.get_meter("evenflow")
        self._settings = settings
        self._server: WSGIServer | None = None

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
        return Histogram(self._meter.create_histogram(name, unit=unit, description=description))

    def serve(self) -> None:
        """Serve /metrics from a thread of its own. OSError: the address is taken."""
        app = make_wsgi_app(REGISTRY)
        if self._settings.metrics_listen:
            host, _, port = self._settings.metrics_listen.rpartition(":")
            self._server = _TcpServer((host, int(port)), _QuietHandler)
        else:
            path = Path(self._settings.run_dir) / f"{self._settings.node_id}.metrics.sock"
            path.unlink(missing_ok=True)
            self._server = _UnixServer(str(path), _QuietHandler)  # type: ignore[arg-type]  # a path, not HOST and PORT
        self._server.set_app(app)
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def shutdown(self) -> None:
        """Stop serving and exporting."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self._provider.shutdown()


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
