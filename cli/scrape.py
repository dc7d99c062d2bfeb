"""Reads a service's Prometheus endpoint on its unix socket."""

import socket
from collections.abc import Iterable, Mapping

from prometheus_client.parser import text_string_to_metric_families

from services.shared.channels import TOKEN_KEY

SCRAPE_SECONDS = 2.0
MAX_ANSWER_BYTES = 16 * 1024 * 1024
# (metric, its labels in order) -> value
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(path: str, token: str) -> Samples:
    """Every sample of one service. OSError: it does not answer; ValueError: no metrics, or not the fleet's token."""
    request = f"GET /metrics HTTP/1.0\r\nHost: localhost\r\n{TOKEN_KEY}: {token}\r\n\r\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(SCRAPE_SECONDS)
        client.connect(path)
        client.sendall(request.encode())
        parts: list[bytes] = []
        size_bytes = 0
        while part := client.recv(65_536):
            parts.append(part)
            size_bytes += len(part)
            if size_bytes > MAX_ANSWER_BYTES:
                raise ValueError("the answer is too long")
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise ValueError("no metrics there")
    return parse(body.decode())


def parse(text: str) -> Samples:
    """The samples of Prometheus's text form. Pure."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(samples: Mapping[tuple[str, tuple[tuple[str, str], ...]], float], name: str, **labels: str) -> float:
    """The sum over all series of a metric that have these labels."""
    wanted = set(labels.items())
    return sum(value for (found, own), value in samples.items() if found == name and wanted <= set(own))


def label_values(samples: Iterable[tuple[str, tuple[tuple[str, str], ...]]], name: str, label: str) -> list[str]:
    """Every value that a label has among a metric's series."""
    return sorted({dict(own)[label] for found, own in samples if found == name and label in dict(own)})
