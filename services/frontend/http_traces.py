"""The caller's trace from its headers: W3C traceparent first, else AWS's X-Amzn-Trace-Id; and its chain."""

import re
from collections.abc import Mapping

from evenflow.common.v1 import event_pb2

from services.policy import lineage

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


def lineage_of(headers: Mapping[bytes, bytes]) -> event_pb2.Lineage | None:
    """Where the invocation stands in its chain: a handler's SDK sends what its runtime was told. None: at its begin."""
    given = headers.get(b"x-amzn-trace-id")
    if given is None or len(given) > MAX_TRACE_HEADER_BYTES:
        return None
    depth = lineage.depth_after(given)
    return event_pb2.Lineage(chain_depth=depth) if depth else None
