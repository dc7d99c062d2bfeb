"""`evenflow trace ID`: every hop of an event as a tree."""

import re
import time
from pathlib import Path
from typing import Annotated

import grpc
import typer
from evenflow.frontend.v1 import frontend_pb2

from cli.commands.options import DataOption, JsonOption
from cli.connection import TENANT, FleetConnection
from cli.failures import EXIT_USAGE, CliError
from cli.fleet_folder import data_folder
from cli.output import console, print_json
from cli.trace_tree import Span, build, render
from services.shared import ids
from services.shared.span_store import read_spans
from services.shared.tracing import trace_id_of

TRACE_ID = re.compile(r"[0-9a-f]{32}")
# A process writes its spans within a quarter of a second: a look right after the event waits that long.
SETTLE_SECONDS = 2.0
_POLL_SECONDS = 0.1
_QUIET_SECONDS = 0.4


def trace(
    wanted: Annotated[str, typer.Argument(metavar="ID", help="A request id or a trace id.")],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every hop of an event as a tree.

    From the door to the settle, with durations; what a destination runs is in it.
    """
    folder = data_folder(data)
    spans = settled_spans(folder / "traces", needles_of(wanted))
    if not spans:
        raise CliError(_why_nothing(data, wanted, folder))
    if as_json:
        print_json(sorted(spans, key=lambda span: span["start_unix_nano"]))
        return
    by_trace: dict[str, list[Span]] = {}
    for span in spans:
        by_trace.setdefault(span["trace_id"], []).append(span)
    for found in by_trace.values():
        console().print(render(build(found)))


def settled_spans(folder: Path, needles: tuple[str, ...], within_seconds: float = SETTLE_SECONDS) -> list[Span]:
    """The spans of the traces that are meant, once they are whole and nothing more comes; or those there are."""
    deadline = time.monotonic() + within_seconds
    known, changed_at = -1, time.monotonic()
    while True:
        spans = spans_of(folder, needles)
        now = time.monotonic()
        if len(spans) != known:
            known, changed_at = len(spans), now
        if now > deadline or (_is_whole(spans) and now - changed_at >= _QUIET_SECONDS):
            return spans
        time.sleep(_POLL_SECONDS)


def spans_of(folder: Path, needles: tuple[str, ...]) -> list[Span]:
    """Every span of every trace that has one of these ids or a span about one of these events."""
    # A span that only links to a trace has its id in the line, too: that one is not meant.
    trace_ids = {
        span["trace_id"]
        for span in read_spans(folder, *needles)
        if span["trace_id"] in needles or span["attributes"].get("faas.invocation_id") in needles
    }
    if not trace_ids:
        return []
    return [span for span in read_spans(folder, *trace_ids) if span["trace_id"] in trace_ids]


def _is_whole(spans: list[Span]) -> bool:
    known = {span["span_id"] for span in spans}
    return bool(spans) and all(not span["parent_id"] or span["parent_id"] in known for span in spans)


def needles_of(wanted: str) -> tuple[str, ...]:
    """What to look for; 32 digits may be a trace id or a request id without its dashes. CliError: neither."""
    text = wanted.strip().lower()
    found = [text] if TRACE_ID.fullmatch(text) else []
    try:
        found.append(ids.to_text(ids.from_text(text)))
    except ValueError:
        if not found:
            raise CliError(
                f"{wanted!r} is neither a request id (a UUID) nor a trace id (32 hexadecimal digits)", EXIT_USAGE
            ) from None
    return tuple(found)


def _why_nothing(data: Path | None, wanted: str, folder: Path) -> str:
    nothing = f"no spans of {wanted} in {folder / 'traces'}"
    try:
        with FleetConnection(data) as fleet:
            request = frontend_pb2.GetEventRequest(request_id=ids.from_text(wanted), tenant_id=TENANT)
            found = fleet.ask(fleet.door.GetEvent, request)
    except (CliError, ValueError, grpc.RpcError):
        return nothing
    if trace_id_of(found.trace) and not found.trace.traceparent.endswith("01"):
        return (
            f"the trace of {wanted} was not kept: 20 a second are, then one in 1,000, and every failure; "
            "`evenflow up --set trace.one_in=1` keeps all"
        )
    return nothing
