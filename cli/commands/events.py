"""`evenflow event ID` and `evenflow events`: what became of what came in."""

import time
from typing import Annotated, Any

import grpc
import typer
from evenflow.common.v1 import event_pb2
from evenflow.frontend.v1 import frontend_pb2
from evenflow.queue.v1 import queue_pb2
from rich.table import Table

from cli.commands.options import DataOption, JsonOption
from cli.commands.shards import warn_incomplete
from cli.connection import TENANT, FleetConnection, parse_request_id
from cli.failures import EXIT_USAGE, CliError, describe_refusal, from_rpc
from cli.output import clock_time, console, print_json, span_of_ms, state_text, table
from services.shared import ids
from services.shared.errors import Reason
from services.shared.tracing import trace_id_of

TERMINAL_STATES = ("succeeded", "failed", "dead")
STATES = ("available", "delayed", "leased", "handover", *TERMINAL_STATES)
MAX_WAIT_SECONDS = 21_600.0
_WAIT_POLL_SECONDS = 0.05
_SLOW_POLL_SECONDS = 0.5
_SLOW_AFTER_SECONDS = 5.0
MAX_LISTED = 1_000


def event(
    request_id: Annotated[str, typer.Argument(metavar="ID", help="Request id of the event.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has come to its end.")] = False,
    within: Annotated[float, typer.Option(help="Longest wait, seconds.", min=0.1, max=MAX_WAIT_SECONDS)] = 300.0,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one event: state, attempts, times, shard, outcome."""
    wanted = parse_request_id(request_id)
    with FleetConnection(data) as fleet:
        found = read_event(fleet, wanted)
        started = time.monotonic()
        while wait and found.state not in TERMINAL_STATES:
            waited = time.monotonic() - started
            if waited > within:
                raise CliError(f"{request_id} is still {found.state} after {within:g} s")
            time.sleep(_WAIT_POLL_SECONDS if waited < _SLOW_AFTER_SECONDS else _SLOW_POLL_SECONDS)
            found = read_event(fleet, wanted)
    if as_json:
        print_json(as_dictionary(found, found.state))
    else:
        console().print(_details(found))


def events(
    function: Annotated[str, typer.Option("--function", help="Only events of this function.")] = "",
    state: Annotated[str, typer.Option("--state", help=f"Only events in this state: {', '.join(STATES)}.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=MAX_LISTED)] = 20,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List events, newest first.

    Those that wait or run, and those whose outcome is kept.
    """
    if state and state not in STATES:
        raise CliError(f"--state {state}: one of {', '.join(STATES)} is expected", EXIT_USAGE)
    with FleetConnection(data) as fleet:
        found = list_events(fleet, function, state, limit)
        warn_incomplete(fleet)
    if as_json:
        print_json([as_dictionary(one, state_name(one)) for one in found])
        return
    shown = table(
        "request id", "function", "state", "attempts", "accepted", "error", right=("attempts",), fold=("error",)
    )
    for one in found:
        shown.add_row(
            ids.to_text(one.request_id),
            one.function_name,
            state_text(state_name(one)),
            str(one.attempts),
            clock_time(one.accepted_at_ms)[:-4],
            one.error_type or "-",
        )
    console().print(shown if found else "no events")


def read_event(
    fleet: FleetConnection, request_id: bytes, within_seconds: float = 10.0
) -> frontend_pb2.GetEventResponse:
    """The event's state; a shard that is away for a moment is asked again within the bound."""
    deadline = time.monotonic() + within_seconds
    while True:
        try:
            request = frontend_pb2.GetEventRequest(request_id=request_id, tenant_id=TENANT)
            found: frontend_pb2.GetEventResponse = fleet.ask(fleet.door.GetEvent, request)
            return found
        except grpc.RpcError as e:
            refusal = from_rpc(e)
            if not refusal.kind.retryable or time.monotonic() > deadline:
                raise CliError(describe_refusal(refusal)) from None
            time.sleep(_SLOW_POLL_SECONDS)


def list_events(fleet: FleetConnection, function: str, state: str, limit: int) -> list[queue_pb2.EventStatus]:
    """The newest events over all shards."""
    found: list[queue_pb2.EventStatus] = []
    # A state is filtered here: the shard lists by time.
    page = MAX_LISTED if state else limit
    for node in fleet.queue_nodes().values():
        described = fleet.ask(node.DescribeShards, queue_pb2.DescribeShardsRequest())
        for shard in described.shards:
            if shard.depth.state in (queue_pb2.SHARD_STATE_QUARANTINED, queue_pb2.SHARD_STATE_OPENING):
                continue
            request = queue_pb2.ListEventsRequest(
                tenant_id=TENANT, shard_id=shard.depth.shard_id, function_name=function, page_size=page
            )
            try:
                found.extend(fleet.ask(node.ListEvents, request).events)
            except grpc.RpcError as e:
                # Closed since it was described, for a move: the note behind the list says so.
                if from_rpc(e).reason != Reason.ERROR_REASON_SHARD_UNAVAILABLE:
                    raise
    chosen = [one for one in found if not state or state_name(one) == state]
    chosen.sort(key=lambda one: one.accepted_at_ms, reverse=True)
    return chosen[:limit]


def state_name(status: queue_pb2.EventStatus) -> str:
    """The state as people write it."""
    return queue_pb2.EventState.Name(status.state).removeprefix("EVENT_STATE_").lower()


def condition_name(condition: "event_pb2.Condition.ValueType") -> str:
    """`RetriesExhausted`, as AWS writes it; empty before the end."""
    if condition == event_pb2.CONDITION_UNSPECIFIED:
        return ""
    words = event_pb2.Condition.Name(condition).removeprefix("CONDITION_").split("_")
    return "".join(word.capitalize() for word in words)


def as_dictionary(status: Any, state: str) -> dict[str, Any]:
    """One event's status for programs; from the door or from a shard."""
    return {
        "request_id": ids.to_text(status.request_id),
        "function_name": status.function_name,
        "qualifier": status.qualifier,
        "shard_id": status.shard_id,
        "state": state,
        "condition": condition_name(status.condition) or None,
        "accepted_at_ms": status.accepted_at_ms,
        "available_at_ms": status.available_at_ms or None,
        "first_started_at_ms": status.first_started_at_ms or None,
        "finished_at_ms": status.finished_at_ms or None,
        "expires_at_ms": status.expires_at_ms,
        "attempts": status.attempts,
        "function_errors": status.function_errors,
        "deliveries": status.deliveries,
        "throttles": status.throttles,
        "error_type": status.error_type or None,
        "error_message": status.error_message or None,
        "duration_us": status.duration_us,
        "executed_version": status.executed_version or None,
        "sandbox_id": status.sandbox_id or None,
        "destination_arn": status.destination_arn or None,
        "trace_id": trace_id_of(status.trace) or None,
    }


def _details(found: frontend_pb2.GetEventResponse) -> Table:
    shown = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    shown.add_column(style="bold")
    shown.add_column(overflow="fold")
    accepted = found.accepted_at_ms

    def after(at_ms: int) -> str:
        return f"{clock_time(at_ms)} (+{span_of_ms(at_ms - accepted)})" if at_ms else "-"

    counts = [f"{found.attempts}"]
    counts += [f"{found.throttles} throttled"] if found.throttles else []
    counts += [f"{found.deliveries} leases lost"] if found.deliveries else []
    condition = condition_name(found.condition)
    shown.add_row("request id", ids.to_text(found.request_id))
    shown.add_row("function", f"{found.function_name}:{found.qualifier}")
    shown.add_row("state", state_text(found.state))
    if condition:
        shown.add_row("outcome", condition)
    if found.error_type:
        shown.add_row("error", f"{found.error_type}: {found.error_message}")
    shown.add_row("attempts", ", ".join(counts))
    shown.add_row("accepted", clock_time(accepted))
    if found.available_at_ms:
        shown.add_row("next try", after(found.available_at_ms))
    shown.add_row("first start", after(found.first_started_at_ms))
    shown.add_row("finished", after(found.finished_at_ms))
    if found.attempts:
        shown.add_row("last run", f"{span_of_ms(found.duration_us / 1_000)} in sandbox {found.sandbox_id or '-'}")
    if found.destination_arn:
        shown.add_row("destination", found.destination_arn)
    shown.add_row("shard", str(found.shard_id))
    if found.trace.traceparent:
        shown.add_row("trace", trace_id_of(found.trace))
    return shown
