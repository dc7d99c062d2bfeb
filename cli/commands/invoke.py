"""`evenflow invoke`: one event, with or without waiting for its result."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from evenflow.common.v1 import event_pb2
from evenflow.frontend.v1 import frontend_pb2

from cli.commands.options import DataOption
from cli.connection import FleetConnection
from cli.failures import EXIT_FAILED, CliError, describe_refusal
from cli.output import for_stream, harmless, print_line
from services.shared import ids
from services.shared.errors import EvenflowError

# The door answers within the function's timeout (at most 900 s) and its own margin.
INVOKE_SECONDS = 960.0
MAX_PAYLOAD_BYTES = 6_291_456


def invoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name or ARN of the function.")],
    payload: Annotated[
        str, typer.Option("--payload", "-p", metavar="JSON|@FILE|-", help="The event; - reads standard input.")
    ] = "{}",
    is_async: Annotated[bool, typer.Option("--async", help="Queue it and print its request id.")] = False,
    tail: Annotated[bool, typer.Option("--tail", "--log", help="Print the end of the run's log, on stderr.")] = False,
    token: Annotated[str, typer.Option("--token", help="With --async: repeats with this token are one event.")] = "",
    data: DataOption = None,
) -> None:
    """Run a function and print what it returns.

    With --async the event is queued and its request id printed.
    """
    body = read_payload(payload)
    with FleetConnection(data) as fleet:
        if is_async:
            event = frontend_pb2.EventSubmission(function_name=name, payload=body, client_token=token)
            answer = fleet.ask(fleet.door.InvokeAsync, frontend_pb2.InvokeAsyncRequest(event=event))
            print_line(ids.to_text(answer.request_id))
            return
        if token:
            raise CliError("--token goes with --async: a synchronous run is never repeated")
        request = frontend_pb2.InvokeRequest(function_name=name, payload=body, wants_log_tail=tail)
        response = fleet.ask(fleet.door.Invoke, request, INVOKE_SECONDS)
    outcome = response.outcome
    if outcome.log_tail:
        text = outcome.log_tail.decode(errors="replace").rstrip("\n")
        print(for_stream(text, sys.stderr), file=sys.stderr, flush=True)
    if outcome.HasField("refusal"):
        raise CliError(describe_refusal(EvenflowError.from_detail(outcome.refusal)))
    print_line(_pretty(outcome.response_payload))
    if outcome.status != event_pb2.OUTCOME_STATUS_SUCCEEDED:
        text = f"error: {name} failed: {outcome.error_type}: {outcome.error_message}"
        print(for_stream(text, sys.stderr), file=sys.stderr, flush=True)
        raise typer.Exit(EXIT_FAILED)


def read_payload(text: str) -> bytes:
    """The bytes that --payload names. CliError: no such file, too large."""
    try:
        if text == "-":
            body = sys.stdin.buffer.read(MAX_PAYLOAD_BYTES + 1)
        elif text.startswith("@"):
            with open(Path(text[1:]).expanduser(), "rb") as file:
                body = file.read(MAX_PAYLOAD_BYTES + 1)
        else:
            body = text.encode()
    except OSError as e:
        raise CliError(f"--payload {text}: {e.strerror}") from None
    if len(body) > MAX_PAYLOAD_BYTES:
        raise CliError(f"--payload: more than {MAX_PAYLOAD_BYTES:,} bytes")
    return body


def _pretty(payload: bytes) -> str:
    text = payload.decode(errors="replace")
    if not sys.stdout.isatty():
        return text
    try:
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        pass
    return harmless(text)
