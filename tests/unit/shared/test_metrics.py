"""Metrics: Lambda's names, bounded series, one endpoint over a unix socket."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.shared import metrics as metrics_module
from services.shared.channels import TOKEN_KEY
from services.shared.metrics import Metrics
from services.shared.settings import NodeSettings

TOKEN = "t" * 40


@pytest.fixture
def metrics(run_dir: Path) -> Iterator[Metrics]:
    settings = NodeSettings(node_id="runtime-0", data_dir=str(run_dir), run_dir=str(run_dir), token_file="")
    instance = Metrics("runtime", settings)
    instance.serve(TOKEN)
    yield instance
    instance.shutdown()


def scrape(run_dir: Path, token: str = TOKEN) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(run_dir / "runtime-0.metrics.sock"))
        client.sendall(f"GET /metrics HTTP/1.0\r\n{TOKEN_KEY}: {token}\r\n\r\n".encode())
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


def test_a_histogram_counts_every_value_once_and_bounds_are_inclusive(metrics: Metrics, run_dir: Path) -> None:
    histogram = metrics.histogram("evenflow_wait", "ms", "Wait.")
    for value in (5, 5.01, 0.1, 2_000_000):
        histogram.record(value, shard="1")
    lines = [line for line in scrape(run_dir).splitlines() if line.startswith("evenflow_wait_milliseconds")]
    found = {line.split("le=")[1].split('"')[1]: float(line.split()[-1]) for line in lines if "le=" in line}
    assert (found["0.25"], found["3"], found["5"], found["7.5"]) == (1, 1, 2, 3)
    assert (found["900000"], found["+Inf"]) == (3, 4)
    sums = {line.split("{")[0]: float(line.split()[-1]) for line in lines if "le=" not in line}
    assert sums["evenflow_wait_milliseconds_count"] == 4
    assert sums["evenflow_wait_milliseconds_sum"] == pytest.approx(2_000_010.11)


def test_the_socket_answers_nobody_without_the_fleets_token(metrics: Metrics, run_dir: Path) -> None:
    """A sandbox that runs as the host's own user reaches the socket, and learns nothing from it."""
    metrics.counter("Throttles", "Refusals.").add(1, function="secret-project")
    assert (run_dir / "runtime-0.metrics.sock").stat().st_mode & 0o777 == 0o600
    for token in ("", "wrong", TOKEN[:-1]):
        answer = scrape(run_dir, token)
        assert answer.startswith("HTTP/1.0 403 ") and "secret-project" not in answer and "evenflow_" not in answer
    assert "secret-project" in scrape(run_dir)
