"""Metrics: Lambda's names, bounded series, one endpoint over a unix socket."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.shared import metrics as metrics_module
from services.shared.metrics import Metrics
from services.shared.settings import NodeSettings


@pytest.fixture
def metrics(run_dir: Path) -> Iterator[Metrics]:
    settings = NodeSettings(node_id="runtime-0", data_dir=str(run_dir), run_dir=str(run_dir), token_file="")
    instance = Metrics("runtime", settings)
    instance.serve()
    yield instance
    instance.shutdown()


def scrape(run_dir: Path) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(run_dir / "runtime-0.metrics.sock"))
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        parts = []
        while part := client.recv(65_536):
            parts.append(part)
    return b"".join(parts).decode()


def test_names_and_values_are_what_lambdas_users_know(metrics: Metrics, run_dir: Path) -> None:
    metrics.counter("Invocations", "Runs.").add(3, function="clean", tenant="default")
    metrics.gauge("ConcurrentExecutions", "Now.", lambda: [(2, {"function": "clean"})])
    metrics.histogram("Duration", "ms", "Time in the handler.").record(4.0, function="clean")
    text = scrape(run_dir)
    assert 'Invocations_total{function="clean",' in text and "} 3.0" in text
    assert 'ConcurrentExecutions{function="clean",' in text
    assert 'Duration_milliseconds_bucket{function="clean",le="5",' in text


def test_series_are_bounded(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_module, "MAX_SERIES", 2)
    counter = metrics.counter("Errors", "Failures.")
    for function in ("a", "b", "c", "d"):
        counter.add(1, function=function)
    assert counter.value(function="a") == 1
    assert counter.value(function="c") == 0
    assert counter.value(function="other") == 2
