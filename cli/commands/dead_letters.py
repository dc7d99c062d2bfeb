"""`evenflow dlq`: events that failed for good, kept until somebody decides."""

import heapq
import json
import signal
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any

import grpc
import typer
from evenflow.queue.v1 import queue_pb2

from cli.commands.events import as_dictionary, condition_name, state_name
from cli.commands.options import DataOption, JsonOption
from cli.commands.shards import warn_incomplete
from cli.connection import TENANT, FleetConnection, parse_request_id
from cli.failures import EXIT_USAGE, CliError, from_rpc
from cli.output import clock_time, console, print_json, print_line, table
from services.shared import ids
from services.shared.errors import Reason

PAGE_SIZE = 500
BATCH_EVENTS = 1_000
REDRIVE_STEP_EVENTS = 200
# Of one step, which waits for others' redrives of the shard.
REDRIVE_CALL_SECONDS = 60.0
EXIT_INTERRUPTED = 130
_SHOWN_PAYLOAD_BYTES = 65_536

dlq = typer.Typer(help="Events that failed for good: list, show, redrive, purge.", no_args_is_help=True)
FunctionOption = Annotated[str, typer.Option("--function", help="Only dead letters of this function.")]
ErrorOption = Annotated[str, typer.Option("--error", help="Only this error type.")]
IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Request ids.")]
AllOption = Annotated[bool, typer.Option("--all", help="All that the options leave, instead of single ids.")]


@dlq.command("list")
def list_dead_letters(
    function: FunctionOption = "",
    error: ErrorOption = "",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=100_000)] = 50,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, oldest first."""
    with FleetConnection(data) as fleet:
        found = list(islice(_entries(fleet, function, error, limit + 1), limit + 1))
        total = sum(count for _, _, count in _shards(fleet))
        warn_incomplete(fleet)
    if as_json:
        print_json([_as_dictionary(one) for one in found[:limit]])
        return
    if not found:
        print_line("no dead letters")
        return
    shown = table("request id", "function", "why", "attempts", "died", "error", right=("attempts",), fold=("error",))
    for one in found[:limit]:
        status = one.status
        shown.add_row(
            ids.to_text(status.request_id),
            status.function_name,
            condition_name(status.condition),
            str(status.attempts),
            clock_time(one.dead_at_ms)[:-4],
            f"{status.error_type}: {status.error_message}" if status.error_type else "-",
        )
    screen = console()
    screen.print(shown)
    if len(found) > limit:
        more = f"{total - limit} more" if not (function or error) and total > limit else "more"
        screen.print(f"... and {more}: --limit shows them")


@dlq.command("show")
def show_dead_letter(
    request_id: Annotated[str, typer.Argument(metavar="ID", help="Request id.")],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter with its payload and what the last run answered."""
    wanted = parse_request_id(request_id)
    with FleetConnection(data) as fleet:
        node = fleet.queue_of_shard(ids.shard_of(wanted))
        request = queue_pb2.GetDeadLetterRequest(tenant_id=TENANT, request_id=wanted)
        found = fleet.ask(node.GetDeadLetter, request).dead_letter
    if as_json:
        print_json(_as_dictionary(found, with_payload=True))
        return
    status = found.status
    for name, value in (
        ("request id", ids.to_text(status.request_id)),
        ("function", f"{status.function_name}:{status.qualifier}"),
        ("why", condition_name(status.condition)),
        ("error", f"{status.error_type}: {status.error_message}" if status.error_type else "-"),
        ("attempts", str(status.attempts)),
        ("accepted", clock_time(status.accepted_at_ms)),
        ("died", clock_time(found.dead_at_ms)),
        ("shard", str(status.shard_id)),
    ):
        print_line(f"{name:<12}{value}")
    print_line(f"payload ({len(found.event.payload):,} bytes):")
    print_line(_readable(found.event.payload))
    if found.response_payload:
        print_line("response of the last run:")
        print_line(_readable(found.response_payload))


@dlq.command("redrive")
def redrive(
    request_ids: IdsArgument = None,
    everything: AllOption = False,
    function: FunctionOption = "",
    error: ErrorOption = "",
    rate: Annotated[
        int,
        typer.Option(
            help="Events a second, evenly spread. Default: as fast as the queue allows (queue.redrive_per_second).",
            min=0,
            max=100_000,
            show_default=False,
        ),
    ] = 0,
    data: DataOption = None,
) -> None:
    """Put dead letters back into their queue, as fresh events with the same request id.

    Ctrl-C ends it after the events that are on their way, and says how many went.
    """
    # A call lasts about half a second, so that Ctrl-C is heard and the count is right to the event.
    step = max(1, min(REDRIVE_STEP_EVENTS, rate // 2)) if rate else REDRIVE_STEP_EVENTS

    def call(node: Any, chosen: queue_pb2.DeadLetterFilter) -> int:
        request = queue_pb2.RedriveDeadLettersRequest(filter=chosen, max_events=step, max_per_second=rate)
        return int(fleet.ask(node.RedriveDeadLetters, request, REDRIVE_CALL_SECONDS).redriven)

    _check_choice(request_ids, everything, function, error)
    with FleetConnection(data) as fleet, _Interruption() as interruption:
        # Counted before: what dies again while we work must not be driven round and round.
        moved = _on_each(fleet, request_ids, function, error, call, interruption)
    if interruption.is_asked:
        raise CliError(f"stopped; redriven: {moved}", EXIT_INTERRUPTED)
    print_line(f"redriven: {moved}")


@dlq.command("purge")
def purge(
    request_ids: IdsArgument = None,
    everything: AllOption = False,
    function: FunctionOption = "",
    error: ErrorOption = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data: DataOption = None,
) -> None:
    """Delete dead letters for good."""

    def call(node: Any, chosen: queue_pb2.DeadLetterFilter) -> int:
        request = queue_pb2.PurgeDeadLettersRequest(filter=chosen, max_events=BATCH_EVENTS)
        return int(fleet.ask(node.PurgeDeadLetters, request).purged)

    _check_choice(request_ids, everything, function, error)
    if not yes:
        what = f"{len(request_ids)} dead letters" if request_ids else "these dead letters"
        typer.confirm(f"Delete {what} for good?", abort=True)
    with FleetConnection(data) as fleet:
        gone = _on_each(fleet, request_ids, function, error, call, None)
    print_line(f"purged: {gone}")


def _check_choice(request_ids: list[str] | None, everything: bool, function: str, error: str) -> None:
    if request_ids and (everything or function or error):
        raise CliError("give request ids, or options that choose, not both", EXIT_USAGE)
    if not request_ids and not (everything or function or error):
        raise CliError("which ones? give request ids, --function, --error or --all", EXIT_USAGE)


def _on_each(
    fleet: FleetConnection,
    request_ids: list[str] | None,
    function: str,
    error: str,
    call: Any,
    interruption: "_Interruption | None",
) -> int:
    """Call for every id or every shard until nothing moves any more or Ctrl-C was pressed; how many moved."""
    total = 0
    for wanted in [parse_request_id(text) for text in request_ids or ()]:
        if interruption is not None and interruption.is_asked:
            return total
        shard_id = ids.shard_of(wanted)
        chosen = queue_pb2.DeadLetterFilter(tenant_id=TENANT, shard_id=shard_id, request_id=wanted)
        moved = call(fleet.queue_of_shard(shard_id), chosen)
        if not moved:
            raise CliError(f"{ids.to_text(wanted)} is no dead letter" + (f"; {total} others done" if total else ""))
        total += moved
    for node, shard_id, count in list(_shards(fleet)) if not request_ids else ():
        chosen = queue_pb2.DeadLetterFilter(
            tenant_id=TENANT, shard_id=shard_id, function_name=function, error_type=error
        )
        left = count
        while left > 0 and not (interruption is not None and interruption.is_asked):
            moved = call(node, chosen)
            total, left = total + moved, left - moved
            if not moved:
                break
    return total


class _Interruption:
    """Ctrl-C is noted once, so that a call may end; pressed again it ends the command."""

    def __init__(self) -> None:
        self.is_asked = False
        self._before: Any = None

    def __enter__(self) -> "_Interruption":
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, _signum: int, _frame: object) -> None:
        self.is_asked = True
        signal.signal(signal.SIGINT, self._before)


def _shards(fleet: FleetConnection) -> Iterator[tuple[Any, int, int]]:
    """(node, shard, its dead letters) of every shard that has some."""
    for node in fleet.queue_nodes().values():
        for shard in fleet.ask(node.DescribeShards, queue_pb2.DescribeShardsRequest()).shards:
            if shard.dead_letters:
                yield node, shard.depth.shard_id, shard.dead_letters


def _entries(fleet: FleetConnection, function: str, error: str, limit: int) -> Iterator[queue_pb2.DeadLetterEntry]:
    """Oldest first over all shards, a page of each at a time; nobody needs more than `limit` of one shard."""
    parts = [_of_shard(fleet, node, shard_id, function, error, limit) for node, shard_id, _ in list(_shards(fleet))]
    return heapq.merge(*parts, key=lambda one: one.dead_at_ms)


def _of_shard(
    fleet: FleetConnection, node: Any, shard_id: int, function: str, error: str, limit: int
) -> Iterator[queue_pb2.DeadLetterEntry]:
    chosen = queue_pb2.DeadLetterFilter(tenant_id=TENANT, shard_id=shard_id, function_name=function, error_type=error)
    token = ""
    while True:
        request = queue_pb2.ListDeadLettersRequest(filter=chosen, page_size=min(PAGE_SIZE, limit), page_token=token)
        try:
            answer = fleet.ask(node.ListDeadLetters, request)
        except grpc.RpcError as e:
            # Closed since it was described, for a move: the note behind the list says so.
            if from_rpc(e).reason != Reason.ERROR_REASON_SHARD_UNAVAILABLE:
                raise
            break
        yield from answer.dead_letters
        token = answer.next_page_token
        if not token:
            break


def _as_dictionary(one: queue_pb2.DeadLetterEntry, with_payload: bool = False) -> dict[str, Any]:
    found = {**as_dictionary(one.status, state_name(one.status)), "dead_at_ms": one.dead_at_ms}
    if with_payload:
        found["payload"] = one.event.payload.decode(errors="replace")
        found["response_payload"] = one.response_payload.decode(errors="replace") or None
    return found


def _readable(payload: bytes) -> str:
    text = payload[:_SHOWN_PAYLOAD_BYTES].decode(errors="replace")
    if len(payload) > _SHOWN_PAYLOAD_BYTES:
        return f"{text}\n... (--json shows all)"
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text
