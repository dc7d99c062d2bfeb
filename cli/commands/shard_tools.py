"""`evenflow shards check | repair | export | backup | restore | reopen`: looks after the files of shards."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from evenflow.queue.v1 import queue_pb2

from cli import fleet_file
from cli.commands.options import DataOption, JsonOption
from cli.commands.shards import describe_shards
from cli.connection import FleetConnection
from cli.failures import CliError
from cli.fleet_folder import data_folder
from cli.output import print_json, print_line, size_of, span_of_ms
from cli.shard_files import node_folder, run_tool, shard_ids, stream_tool

ShardArgument = Annotated[int, typer.Argument(metavar="SHARD", help="Number of the shard.", min=0, max=65_535)]
NodeOption = Annotated[str, typer.Option("--node", help="The queue node, where several have files of the shard.")]
AcceptOption = Annotated[bool, typer.Option("--accept-old-copy", help="Take a file that is not the newest one.")]


def add_to(group: typer.Typer) -> None:
    """Put the commands into `evenflow shards`."""
    for command in (check, repair, export, backup, restore, reopen):
        group.command()(command)


def check(
    shard_ids: Annotated[list[int] | None, typer.Argument(metavar="[SHARD]...", help="Default: all.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Compare every index, decode every event; slower.")] = False,
    node: NodeOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check shards: pages, and what must hold between their tables. Exits 1 when something is wrong.

    Of a running fleet a copy is checked while the shard serves; of a stopped one the file itself.
    """
    folder = data_folder(data)
    states = _states(folder)
    wanted = shard_ids or (sorted(states) if states is not None else _all_shards(folder))
    served = [n for n in wanted if states is not None and n in states and states[n]["state"] in ("serving", "draining")]
    answers = _check_served(folder, served, full) if served else []
    answers += _check_files(folder, [n for n in wanted if n not in served], states or {}, full, node)
    answers.sort(key=lambda answer: answer["shard_id"])
    if as_json:
        print_json(answers)
    for answer in answers if not as_json else ():
        rows = ", ".join(f"{count} {table}" for table, count in sorted(answer["rows"].items()))
        verdict = "NOT WHOLE" if answer["findings"] else "whole"
        print_line(f"shard {answer['shard_id']}: {verdict} ({answer['how']}; {rows or 'rows not counted'})")
        for finding in answer["findings"]:
            print_line(f"  {finding}")
    if any(answer["findings"] for answer in answers):
        raise typer.Exit(1)


def repair(
    shard: ShardArgument,
    accept_old_copy: AcceptOption = False,
    start_empty: Annotated[
        bool, typer.Option("--start-empty", help="The file is gone: begin anew, its events are lost.")
    ] = False,
    node: NodeOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a fresh file of what is left of a damaged shard; the old one is kept.

    For a quarantined shard, which is served again at once, or on a stopped fleet.
    """
    folder = data_folder(data)
    states = _require_not_served(folder, shard, "repair")
    flags = ["--accept-old-copy"] * accept_old_copy + ["--start-empty"] * start_empty
    _, told = run_tool("repair", *_place(folder, shard, node), *flags)
    _tell_installed(folder, shard, told, states, as_json)


def restore(
    shard: ShardArgument,
    source: Annotated[Path, typer.Option("--from", help="A file that `evenflow shards backup` wrote.")],
    accept_old_copy: AcceptOption = False,
    node: NodeOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a backup in a shard's place; the file that was there is kept.

    Events accepted since the backup are lost, events finished since then run again: hence --accept-old-copy.
    """
    folder = data_folder(data)
    states = _require_not_served(folder, shard, "restore")
    flags = ["--accept-old-copy"] * accept_old_copy
    _, told = run_tool("restore", *_place(folder, shard, node), "--from", os.path.abspath(source), *flags)
    _tell_installed(folder, shard, told, states, as_json)


def export(
    shard: ShardArgument,
    out: Annotated[Path | None, typer.Option("--out", help="A new file. Default: stdout.")] = None,
    source: Annotated[Path | None, typer.Option("--from", help="A backup, or a file that was set aside.")] = None,
    node: NodeOption = "",
    data: DataOption = None,
) -> None:
    """Print every live, delayed and dead event of a shard with its payload, one line of JSON each.

    Works on a stopped fleet, on a quarantined shard (what is readable) and on a backup.
    """
    arguments = ["--out", os.path.abspath(out)] if out is not None else []
    if source is not None:
        arguments = ["--shard", str(shard), "--from", os.path.abspath(source), *arguments]
    else:
        folder = data_folder(data)
        _require_not_served(folder, shard, "export")
        arguments = [*_place(folder, shard, node), *arguments]
    told = stream_tool("export", *arguments)
    typer.echo(f"exported: {told['events']}", err=True)
    if told["refused_rows"]:
        typer.echo(f"not readable: {told['refused_rows']}", err=True)
    if told["is_damaged"] or told["refused_rows"]:
        typer.echo("the file is damaged: this is what could be read", err=True)
        raise typer.Exit(1)


def backup(
    shard: ShardArgument,
    out: Annotated[Path, typer.Option("--out", help="A new file, on the machine of the shard's node.")],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a shard into a file while it serves.

    FILE.json beside it tells what it is. Of a stopped fleet, copy the shard's .db and -wal files instead.
    """
    with FleetConnection(data) as fleet:
        request = queue_pb2.BackupShardRequest(shard_id=shard, path=os.path.abspath(out))
        facts = None
        for message in fleet.ask(fleet.queue_of_shard(shard).BackupShard, request, timeout_seconds=None):
            if message.HasField("facts"):
                facts = message.facts
            elif not as_json:
                typer.echo(f"{message.pages_done} of {message.pages_total} pages", err=True)
    if facts is None:
        raise CliError("the backup ended without a result: look at the queue node's log")
    told = {
        "shard_id": shard,
        "path": os.path.abspath(out),
        "identity": facts.identity,
        "generation": facts.generation,
        "taken_at_ms": facts.taken_at_ms,
        "depth": facts.depth,
        "dead_letters": facts.dead_letters,
        "file_bytes": facts.file_bytes,
        "sha256": facts.sha256,
        "longest_step_us": facts.longest_step_us,
    }
    if as_json:
        print_json(told)
        return
    print_line(
        f"shard {shard}: {facts.depth} unfinished events, {facts.dead_letters} dead letters, "
        f"{size_of(facts.file_bytes)} in {told['path']}; the shard stood still for at most "
        f"{span_of_ms(facts.longest_step_us / 1_000)}"
    )


def reopen(shard: ShardArgument, data: DataOption = None) -> None:
    """Have a quarantined shard opened again, such as after its file was put back. Exits 1 when it is not served."""
    with FleetConnection(data) as fleet:
        state = _reopen(fleet, shard)
    print_line(f"shard {shard} is {state}")
    if state != "serving":
        raise typer.Exit(1)


def _reopen(fleet: FleetConnection, shard_id: int) -> str:
    request = queue_pb2.ReopenShardRequest(shard_id=shard_id)
    answer = fleet.ask(fleet.queue_of_shard(shard_id).ReopenShard, request, timeout_seconds=None)
    name = queue_pb2.ShardState.Name(answer.state).removeprefix("SHARD_STATE_").lower()
    return name + (f": {answer.state_reason}" if answer.state_reason else "")


def _check_served(folder: Path, shard_ids: list[int], full: bool) -> list[dict[str, Any]]:
    answers = []
    with FleetConnection(folder) as fleet:
        for shard_id in shard_ids:
            request = queue_pb2.CheckShardRequest(shard_id=shard_id, full=full)
            found = fleet.ask(fleet.queue_of_shard(shard_id).CheckShard, request, timeout_seconds=None)
            longest = span_of_ms(found.longest_step_us / 1_000)
            how = f"a copy, taken while it served; it stood still for at most {longest}"
            findings = list(found.findings)
            answers.append({"shard_id": shard_id, "how": how, "findings": findings, "rows": dict(found.rows)})
    return answers


def _check_files(
    folder: Path, shard_ids: list[int], states: dict[int, dict[str, Any]], full: bool, node: str
) -> list[dict[str, Any]]:
    by_folder: dict[Path, list[str]] = {}
    for shard_id in shard_ids:
        by_folder.setdefault(node_folder(folder, shard_id, node), []).append(str(shard_id))
    answers = []
    for place, numbers in by_folder.items():
        _, told = run_tool("check", "--directory", str(place), "--shard", *numbers, *(["--full"] if full else []))
        for one in told["shards"]:
            state = states.get(one["shard_id"])
            reason = [f"{state['state']}: {state['state_reason']}"] if state and state["state_reason"] else []
            answers.append({**one, "how": "its file", "findings": [*one["findings"], *reason]})
    return answers


def _states(folder: Path) -> dict[int, dict[str, Any]] | None:
    """Every shard of the fleet that runs on this folder; None: none does."""
    fleet = fleet_file.read(folder)
    if fleet is None or fleet_file.started_ticks(fleet.pid) != fleet.started_ticks:
        return None
    with FleetConnection(folder) as connection:
        rows, silent = describe_shards(connection)
    if silent:
        raise CliError(f"{', '.join(silent)} does not answer: try again")
    return {row["shard_id"]: row for row in rows}


def _require_not_served(folder: Path, shard_id: int, what: str) -> dict[int, dict[str, Any]] | None:
    states = _states(folder)
    state = states.get(shard_id) if states is not None else None
    if state is not None and state["state"] != "quarantined":
        advice = {
            "export": "take a backup and export that (evenflow shards backup, then export --from)",
            "repair": "only a quarantined shard, or one of a stopped fleet, is repaired",
            "restore": "stop the fleet first",
        }[what]
        raise CliError(f"shard {shard_id} is {state['state']}: {advice}")
    return states


def _tell_installed(
    folder: Path, shard_id: int, told: dict[str, Any], states: dict[int, dict[str, Any]] | None, as_json: bool
) -> None:
    """Say what was kept and lost, and have a running node serve the shard again."""
    told["state"] = "to be served at the next start"
    if states is not None and shard_id in states:
        with FleetConnection(folder) as fleet:
            told["state"] = _reopen(fleet, shard_id)
    if as_json:
        print_json(told)
        return
    kept = ", ".join(f"{count} {table}" for table, count in told["kept"].items()) or "nothing"
    print_line(f"shard {shard_id}: kept {kept}")
    for note in told["notes"]:
        print_line(f"  {note}")
    known = told["last_known"]
    if known:
        print_line(f"  it last noted {known['depth']} unfinished events and {known['dead_letters']} dead letters")
    for table, total in told["lost_ids_total"].items():
        print_line(f"  lost of {table}, by the ids that an index still has: {total}")
    for words, found in (("not readable", told["refused_rows"]), ("found twice, kept once", told["doubles"])):
        if found:
            print_line(f"  {words}: " + ", ".join(f"{count} {table}" for table, count in found.items()))
    if told["old_file"]:
        print_line(f"  the old file: {told['old_file']}")
    print_line(f"  the whole report: {told['report']}")
    print_line(f"  the shard is {told['state']}")


def _place(folder: Path, shard_id: int, node: str) -> list[str]:
    return ["--directory", str(node_folder(folder, shard_id, node)), "--shard", str(shard_id)]


def _all_shards(folder: Path) -> list[int]:
    found: set[int] = set()
    for path in (folder / "queue").glob("*"):
        found |= shard_ids(path) if path.is_dir() else set()
    if not found:
        raise CliError(f"no shard files are below {folder / 'queue'}: is --data right?")
    return sorted(found)
