"""`evenflow cost`: what the functions used, and what AWS would charge for it."""

import sys
from typing import Annotated, Any

import grpc
import typer
from evenflow.runtime.v1 import runtime_pb2

from cli.charges import BY, Use, summarise, usd
from cli.commands.options import DataOption, JsonOption
from cli.connection import FleetConnection
from cli.failures import EXIT_USAGE, CliError, describe_refusal, from_rpc
from cli.output import console, print_json, table
from services.policy import prices

MAX_DAYS = 92
# A host that hangs is named after this time.
READ_SECONDS = 5.0


def cost(
    by: Annotated[str, typer.Option(help="One line for each function, tenant or day.")] = "function",
    days: Annotated[
        int, typer.Option(help="Today and the days before it, UTC; 0: all that is known.", min=0, max=MAX_DAYS)
    ] = 31,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what functions used and what AWS would charge for it.

    Requests, GB-seconds and dollars at AWS's prices, from every host's own books.
    """
    if by not in BY:
        raise CliError(f"--by {by}: one of {', '.join(BY)} is expected", EXIT_USAGE)
    with FleetConnection(data) as fleet:
        rows, silent = _read_all(fleet, days)
    sums, total = summarise(rows, by)
    if as_json:
        print_json(_as_dictionary(sums, total, by, days, silent))
    elif not sums:
        console().print("nothing was run: `evenflow invoke NAME` does")
    else:
        _print_table(sums, total, by)
    for host_id, why in silent.items():
        print(f"not counted: {host_id}: {why}", file=sys.stderr)


def _read_all(fleet: FleetConnection, days: int) -> tuple[list[runtime_pb2.UsageRow], dict[str, str]]:
    """Rows of every host, and why others did not answer. CliError: none did."""
    rows: list[runtime_pb2.UsageRow] = []
    silent: dict[str, str] = {}
    hosts = fleet.hosts()
    for host_id, host in hosts.items():
        own: list[runtime_pb2.UsageRow] = []
        try:
            for part in fleet.ask(host.ReadUsage, runtime_pb2.ReadUsageRequest(days=days), READ_SECONDS):
                own.extend(part.rows)
        except grpc.RpcError as e:
            silent[host_id] = describe_refusal(from_rpc(e))
            continue
        rows.extend(own)
    if hosts and len(silent) == len(hosts):
        raise CliError("no host tells its usage: " + "; ".join(f"{host}: {why}" for host, why in silent.items()))
    return rows, silent


def _print_table(sums: dict[tuple[str, ...], Use], total: Use, by: str) -> None:
    names = ("tenant", "function") if by == "function" else (by,)
    numbers = ("runs", "errors", "requests", "GB-s", "requests USD", "compute USD", "total USD")
    shown = table(*names, *numbers, right=numbers)
    for name, use in sums.items():
        shown.add_row(*name, *_cells(use))
    shown.add_row("total", *([""] * (len(names) - 1)), *_cells(total), style="bold")
    console().print(shown)
    console().print(
        f"at ${prices.USD_PER_MILLION_REQUESTS} a million requests and ${prices.USD_PER_GB_SECOND} a GB-second, "
        "AWS's prices for x86 in US East without the free tier"
    )


def _cells(use: Use) -> tuple[str, ...]:
    return (
        str(use.invocations),
        str(use.errors),
        str(use.request_units),
        f"{prices.gb_seconds(use.mb_ms):.3f}",
        usd(use.charge.requests_usd),
        usd(use.charge.compute_usd),
        usd(use.charge.total_usd),
    )


def _as_dictionary(
    sums: dict[tuple[str, ...], Use], total: Use, by: str, days: int, silent: dict[str, str]
) -> dict[str, Any]:
    names = {"function": ("tenant_id", "function_name"), "tenant": ("tenant_id",), "day": ("day",)}[by]
    return {
        "by": by,
        "days": days,
        "rows": [{**dict(zip(names, name, strict=True)), **use.as_dictionary()} for name, use in sums.items()],
        "total": total.as_dictionary(),
        "hosts_not_counted": silent,
    }
