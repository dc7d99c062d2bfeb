"""`evenflow logs NAME`: what a function wrote, on every host that ran it."""

import queue
import sys
import threading
from typing import Annotated, Any

import grpc
import typer
from evenflow.runtime.v1 import runtime_pb2

from cli.commands.options import DataOption
from cli.connection import TENANT, FleetConnection
from cli.failures import CliError, describe_refusal, from_rpc
from cli.output import for_stream

MAX_LINES = 10_000
MAX_PARTS_AHEAD = 64


def logs(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The function.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="Last lines to begin with.", min=0, max=MAX_LINES)] = 100,
    raw: Annotated[bool, typer.Option("--raw", help="Let the terminal obey control characters: colours.")] = False,
    data: DataOption = None,
) -> None:
    """Print the log of a function.

    Lines that begin with START, END, REPORT or INIT_START are the host's; what a handler printed to look like them is
    marked with [function].
    """
    with FleetConnection(data) as fleet:
        request = runtime_pb2.ReadLogsRequest(tenant_id=TENANT, function_name=name, tail_lines=lines, follow=follow)
        hosts = fleet.hosts()
        calls = [fleet.ask(host.ReadLogs, request, None if follow else 10.0) for host in hosts.values()]
        try:
            wrote = _print_all(calls, raw)
        except KeyboardInterrupt:
            wrote = True
        finally:
            for call in calls:
                call.cancel()
        if not wrote and not follow:
            _explain(fleet, name)


def _print_all(calls: list[Any], raw: bool) -> bool:
    """Copy every host's stream to stdout as it comes; whether there was anything."""
    parts: queue.Queue[str | grpc.RpcError | None] = queue.Queue(MAX_PARTS_AHEAD)

    def read(call: Any) -> None:
        try:
            for part in call:
                parts.put(part.text)
            parts.put(None)
        except grpc.RpcError as e:
            parts.put(e)

    for call in calls:
        threading.Thread(target=read, args=(call,), daemon=True).start()
    reading = len(calls)
    wrote = False
    while reading:
        part = parts.get()
        if isinstance(part, grpc.RpcError):
            raise CliError(describe_refusal(from_rpc(part)))
        if part is None:
            reading -= 1
            continue
        wrote = wrote or bool(part)
        sys.stdout.write(part if raw else for_stream(part, sys.stdout))
        sys.stdout.flush()
    return wrote


def _explain(fleet: FleetConnection, name: str) -> None:
    from cli.commands.functions import list_functions

    if not any(one.function_name == name for one in list_functions(fleet)):
        raise CliError(f"there is no function {name!r}; `evenflow functions` lists them")
    print(f"{name} has not run yet", file=sys.stderr)
