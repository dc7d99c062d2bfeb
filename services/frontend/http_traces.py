"""The caller's trace from its headers: W3C traceparent first, else AWS's X-Amzn-Trace-Id."""

import re
from collections.abc import Mapping

_AWS_ROOT = re.compile(rb"Root=1-([0-9a-f]{8})-([0-9a-f]{24})", re.IGNORECASE)
_AWS_PARENT = re.compile(rb"Parent=([0-9a-f]{16})", re.IGNORECASE)
_SAMPLED = re.compile(rb"Sampled=1", re.IGNORECASE)
MAX_TRACE_HEADER_BYTES = 1_024


def parent_of(headers: Mapping[bytes, bytes]) -> tuple[str, str]:
    """traceparent and tracestate; empty when there is none that can be used."""
    given = headers.get(b"traceparent")
    if given is not None:
        return given.decode("ascii", "replace"), headers.get(b"tracestate", b"").decode("ascii", "replace")
    given = headers.get(b"x-amzn-trace-id")
    if given is None or len(given) > MAX_TRACE_HEADER_BYTES:
        return "", ""
    root = _AWS_ROOT.search(given)
    if root is None:
        return "", ""
    trace_id = (root[1] + root[2]).decode().lower()
    parent = _AWS_PARENT.search(given)
    # A header with a root only names no span: half of the trace id stands for the one that the caller did not tell.
    span_id = parent[1].decode().lower() if parent is not None else trace_id[16:]
    return f"00-{trace_id}-{span_id}-{'01' if _SAMPLED.search(given) else '00'}", ""
