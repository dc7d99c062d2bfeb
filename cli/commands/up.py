"""`evenflow up` and `evenflow settings`."""

from typing import Annotated

import typer

from cli.commands.options import DataOption, JsonOption
from cli.failures import EXIT_USAGE, CliError
from cli.fleet_folder import data_folder
from cli.output import console, print_json, table
from cli.supervisor.options import OWN_KEYS, UpOptions, known_settings, parse_settings

MAX_PORT = 65_535
MAX_NODES_OF_A_ROLE = 64
MAX_SHARDS = 65_536


def up(
    data: DataOption = None,
    http_port: Annotated[int, typer.Option(help="Port of the AWS Lambda HTTP API on 127.0.0.1.")] = 9000,
    grpc_port: Annotated[int, typer.Option(help="Port of the gRPC door on 127.0.0.1.")] = 9001,
    shards: Annotated[
        int | None,
        typer.Option(help="Shards of a new data directory; fixed from then on. Default: 8", show_default=False),
    ] = None,
    queues: Annotated[
        int,
        typer.Option(help="Queue node processes; a new data directory's shards are spread over them."),
    ] = 1,
    pollers: Annotated[int, typer.Option(help="Poller processes.")] = 1,
    runtimes: Annotated[int, typer.Option(help="Runtime host processes.")] = 1,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of a service; `evenflow settings` lists them."),
    ] = None,
) -> None:
    """Run a whole fleet in the foreground, until Ctrl-C.

    Prints one line beginning with "ready" when it serves.
    """
    # Not at the top: `up` alone needs the services' supervisor.
    from cli.supervisor.supervisor import run_fleet

    for name, value, low, high in (
        ("--http-port", http_port, 1, MAX_PORT),
        ("--grpc-port", grpc_port, 1, MAX_PORT),
        ("--shards", shards, 1, MAX_SHARDS),
        ("--queues", queues, 1, MAX_NODES_OF_A_ROLE),
        ("--pollers", pollers, 1, MAX_NODES_OF_A_ROLE),
        ("--runtimes", runtimes, 1, MAX_NODES_OF_A_ROLE),
    ):
        if value is not None and not low <= value <= high:
            raise CliError(f"{name} must be within {low} to {high}, not {value}", EXIT_USAGE)
    if http_port == grpc_port:
        raise CliError("--http-port and --grpc-port must differ", EXIT_USAGE)
    run_fleet(
        UpOptions(
            data=data_folder(data),
            http_port=http_port,
            grpc_port=grpc_port,
            shards=shards,
            pollers=pollers,
            runtimes=runtimes,
            queues=queues,
            settings=parse_settings(set_ or []),
        )
    )


def settings(as_json: JsonOption = False) -> None:
    """List what `evenflow up --set` takes."""
    rows = []
    for key, found in sorted(known_settings().items()):
        if key not in OWN_KEYS:
            details = found.metadata
            rows.append(
                {
                    "key": key,
                    "default": found.default,
                    "minimum": details["minimum"],
                    "maximum": details["maximum"],
                    "choices": list(details["choices"] or ()),
                    "help": details["help"],
                }
            )
    if as_json:
        print_json(rows)
        return
    shown = table("setting", "default", "what it is", right=("default",), fold=("what it is",))
    for row in rows:
        shown.add_row(row["key"], str(row["default"]), row["help"])
    console().print(shown)
