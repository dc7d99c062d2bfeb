"""The local span store: one JSON object a line in `traces/NODE.jsonl`, bounded by turning to one older file.

A line holds: trace_id, span_id, parent_id (hexadecimal; parent empty for a root), name, kind, node, service,
start_unix_nano, end_unix_nano, attributes (object), links ([{trace_id, span_id}]), error (text, only on failure).
"""

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode


class SpanStoreExporter(SpanExporter):
    """Appends spans to this process's file; at half of `max_bytes` the file becomes the older one."""

    def __init__(self, folder: Path, node_id: str, max_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{node_id}.jsonl"
        self._older = folder / f"{node_id}.older.jsonl"
        self._half_bytes = max_bytes // 2
        self._node_id = node_id
        self._lock = threading.Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write the spans; a full disk loses spans, never events."""
        text = "".join(json.dumps(_to_line(s, self._node_id), separators=(",", ":")) + "\n" for s in spans)
        try:
            with self._lock:
                with open(self._path, "a", encoding="utf-8") as file:
                    file.write(text)
                    size_bytes = file.tell()
                if size_bytes >= self._half_bytes:
                    self._path.replace(self._older)
        except OSError:
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS


def _to_line(span: ReadableSpan, node_id: str) -> dict[str, Any]:
    context = span.get_span_context()
    line: dict[str, Any] = {
        "trace_id": f"{context.trace_id:032x}" if context else "",
        "span_id": f"{context.span_id:016x}" if context else "",
        "parent_id": f"{span.parent.span_id:016x}" if span.parent else "",
        "name": span.name,
        "kind": span.kind.name.lower(),
        "node": node_id,
        "service": span.resource.attributes.get("service.name", ""),
        "start_unix_nano": span.start_time,
        "end_unix_nano": span.end_time,
        "attributes": dict(span.attributes or {}),
        "links": [
            {"trace_id": f"{link.context.trace_id:032x}", "span_id": f"{link.context.span_id:016x}"}
            for link in span.links
        ],
    }
    if span.status.status_code is StatusCode.ERROR:
        line["error"] = span.status.description or "error"
    return line


def read_spans(folder: Path, *needles: str) -> Iterator[dict[str, Any]]:
    """Spans whose line contains one of the needles (a trace id, a request id), unordered; torn lines are skipped."""
    for path in sorted(folder.glob("*.jsonl")):
        try:
            with open(path, encoding="utf-8") as file:
                for line in file:
                    if any(needle in line for needle in needles):
                        try:
                            yield json.loads(line)
                        except ValueError:
                            continue
        except FileNotFoundError:
            continue
