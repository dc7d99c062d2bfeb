"""`evenflow shards`: how full every shard is and who owns it; its subcommands look after the files."""

import sys
from typing import Any

import grpc
import typer
from evenflow.queue.v1 import queue_pb2

from cli.commands.options import DataOption, JsonOption
from cli.commands.shard_moves import describe_move, moves_under_way
from cli.connection import FleetConnection
from cli.failures import EXIT_USAGE, CliError, from_rpc, reason_name
from cli.output import console, print_json, size_of, span_of_ms, state_text, table

group = typer.Typer(help="List the shards, look after their files, or move them between queue nodes.")


@group.callback(invoke_without_command=True)
def shards(context: typer.Context, data: DataOption = None, as_json: JsonOption = False) -> None:
    """List the shards: depth, owner, age of the oldest.

    Also what is leased, delayed, in handover or dead in each. With a subcommand: what that says.
    """
    if context.invoked_subcommand is not None:
        if data is not None or as_json:
            name = context.invoked_subcommand
            raise CliError(f"options go behind the subcommand: evenflow shards {name} ...", EXIT_USAGE)
        return
    with FleetConnection(data) as fleet:
        rows, silent = describe_shards(fleet)
        under_way = [describe_move(node_id, one) for node_id, one in moves_under_way(fleet)]
    if as_json:
        print_json(rows)
        return
    numbers = ("shard", "depth", "leased", "delayed", "handover", "dead", "oldest", "accepted", "finished", "file")
    shown = table("shard", "owner", "state", *numbers[1:], right=numbers)
    for row in rows:
        shown.add_row(
            str(row["shard_id"]),
            row["owner"],
            state_text(row["state"]),
            str(row["depth"]),
            str(row["leased"]),
            str(row["delayed"]),
            str(row["handovers"]),
            str(row["dead_letters"]),
            span_of_ms(row["oldest_age_ms"]) if row["oldest_age_ms"] else "-",
            str(row["accepted_total"]),
            str(row["finished_total"]),
            size_of(row["file_bytes"]),
        )
    screen = console()
    screen.print(shown)
    for row in rows:
        if row["state_reason"]:
            screen.print(f"shard {row['shard_id']}: {row['state_reason']}", style="red")
    for line in under_way:
        screen.print(line, style="yellow")
    for node_id, why in silent.items():
        screen.print(f"{node_id} does not answer: {why}", style="red")


def warn_incomplete(fleet: FleetConnection) -> None:
    """Say on stderr which shards a list is without."""
    rows, silent = describe_shards(fleet)
    for row in rows:
        if row["state"] not in ("serving", "draining"):
            text = (
                f"note: shard {row['shard_id']} is {row['state']}, this list is without it (evenflow shards says why)"
            )
            print(text, file=sys.stderr, flush=True)
    for node_id, why in silent.items():
        print(f"note: {node_id} does not answer ({why}), this list is without it", file=sys.stderr, flush=True)


def describe_shards(fleet: FleetConnection) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Every shard by id, and the nodes that did not answer with the reason."""
    rows: list[dict[str, Any]] = []
    silent: dict[str, str] = {}
    for node_id, node in fleet.queue_nodes().items():
        try:
            answer = fleet.ask(node.DescribeShards, queue_pb2.DescribeShardsRequest())
        except grpc.RpcError as e:
            silent[node_id] = reason_name(from_rpc(e).reason)
            continue
        for shard in answer.shards:
            depth = shard.depth
            rows.append(
                {
                    "shard_id": depth.shard_id,
                    "owner": answer.node_id,
                    "state": queue_pb2.ShardState.Name(depth.state).removeprefix("SHARD_STATE_").lower(),
                    "state_reason": shard.state_reason,
                    "depth": depth.depth,
                    "leased": depth.leased,
                    "delayed": shard.delayed,
                    "handovers": shard.handovers,
                    "dead_letters": shard.dead_letters,
                    "oldest_age_ms": depth.oldest_age_ms,
                    "accepted_total": shard.accepted_total,
                    "finished_total": shard.finished_total,
                    "file_bytes": shard.file_bytes,
                    "identity": shard.identity,
                    "generation": shard.generation,
                }
            )
        for move in answer.moves:
            if move.phase == queue_pb2.SHARD_MOVE_PHASE_OFFERED:
                # Its file is closed, so nobody counts what is in it.
                rows.append(_closed_row(answer.node_id, move))
    return sorted(rows, key=lambda row: row["shard_id"]), silent


def _closed_row(node_id: str, move: queue_pb2.ShardMoveStatus) -> dict[str, Any]:
    counts = ("depth", "leased", "delayed", "handovers", "dead_letters", "oldest_age_ms")
    totals = ("accepted_total", "finished_total", "file_bytes", "generation")
    return {
        "shard_id": move.shard_id,
        "owner": node_id,
        "state": "moving",
        "state_reason": f"closed, to move to {move.peer_node_id}",
        **dict.fromkeys((*counts, *totals), 0),
        "identity": "",
    }
