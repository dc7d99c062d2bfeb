"""`evenflow top`: the fleet live in the terminal, from the services' metrics."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from cli import fleet_file
from cli.commands.options import DataOption, JsonOption
from cli.failures import CliError
from cli.fleet_file import FleetFile
from cli.fleet_folder import data_folder
from cli.output import console, print_json, span_of_ms, table
from cli.scrape import Samples, label_values, scrape, total
from services.shared.channels import read_token

ONCE_SECONDS = 1.0
MAX_FUNCTIONS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Look:
    """All metrics at one moment; `silent` nodes did not answer."""

    at: float
    samples: Samples
    silent: tuple[str, ...]


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
    interval: Annotated[float, typer.Option(help="Seconds between two frames.", min=0.2, max=60.0)] = 1.0,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show depths, rates and errors, live.

    Also what is in flight, throttles, sandboxes and dead letters.
    """
    folder = data_folder(data)
    before = look(fleet_file.running(folder))
    if once or as_json:
        time.sleep(ONCE_SECONDS)
        numbers = compare(before, look(fleet_file.running(folder)))
        if as_json:
            print_json(numbers)
        else:
            console().print(frame(numbers))
        return
    try:
        with Live(console=console(), screen=console().is_terminal, auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                before, numbers = _next(folder, before)
                live.update(frame(numbers), refresh=True)
    except KeyboardInterrupt:
        return


def _next(folder: Path, before: Look) -> tuple[Look, dict[str, Any]]:
    now = look(fleet_file.running(folder))
    return now, compare(before, now)


def look(fleet: FleetFile) -> Look:
    """Ask every service. A node's samples carry its id as label `node`."""
    samples: Samples = {}
    silent = []
    try:
        token = read_token(fleet.token_file)
    except ValueError as e:
        raise CliError(str(e)) from None
    for node_id, node in fleet.nodes.items():
        try:
            found = scrape(node.metrics_socket, token)
        except (OSError, ValueError):
            silent.append(node_id)
            continue
        for (name, labels), value in found.items():
            samples[name, (*labels, ("node", node_id))] = value
    return Look(time.monotonic(), samples, tuple(silent))


def compare(before: Look, now: Look) -> dict[str, Any]:
    """What two looks tell: sums of gauges, and rates of counters. Pure."""
    seconds = max(0.001, now.at - before.at)

    def rate(name: str, **labels: str) -> float:
        # A restarted process counts from 0 again.
        grown = total(now.samples, name, **labels) - total(before.samples, name, **labels)
        return round(max(0.0, grown) / seconds, 1)

    def amount(name: str, **labels: str) -> int:
        return int(total(now.samples, name, **labels))

    def mean_ms(name: str, **labels: str) -> float | None:
        count = total(now.samples, f"{name}_count", **labels) - total(before.samples, f"{name}_count", **labels)
        summed = total(now.samples, f"{name}_sum", **labels) - total(before.samples, f"{name}_sum", **labels)
        return round(summed / count, 3) if count > 0 else None

    shards = [
        {
            "shard_id": int(shard),
            "depth": amount("evenflow_queue_depth", shard=shard),
            "leased": amount("evenflow_queue_leased", shard=shard),
            "dead_letters": amount("evenflow_queue_dead_letters", shard=shard),
            "oldest_age_ms": amount("evenflow_queue_oldest_age_ms", shard=shard),
            "accepted_per_second": rate("evenflow_queue_enqueued_total", shard=shard),
            "settled_per_second": rate("evenflow_queue_settled_total", shard=shard),
        }
        for shard in sorted(label_values(now.samples, "evenflow_queue_depth", "shard"), key=int)
    ]
    functions = [
        {
            "function_name": name,
            "invocations_per_second": rate("Invocations_total", function=name),
            "errors_per_second": rate("Errors_total", function=name),
            "throttles_per_second": rate("Throttles_total", function=name),
            "running": amount("ConcurrentExecutions", function=name),
            "duration_mean_ms": mean_ms(duration, function=name),
            "invocations": amount("Invocations_total", function=name),
            "errors": amount("Errors_total", function=name),
            "throttles": amount("Throttles_total", function=name),
        }
        for duration in [_histogram_name(now.samples, "Duration")]
        for name in label_values(now.samples, "Invocations_total", "function")
    ]
    return {
        "depth": sum(shard["depth"] for shard in shards),
        "accepted_per_second": rate("AsyncEventsReceived_total"),
        "settled_per_second": rate("evenflow_queue_settled_total"),
        "invocations_per_second": rate("Invocations_total"),
        "errors_per_second": rate("Errors_total"),
        "throttles_per_second": rate("Throttles_total"),
        "leases_held": amount("evenflow_leases_held"),
        "in_flight": amount("evenflow_poller_in_flight"),
        "running": amount("ConcurrentExecutions"),
        "sandboxes": {
            state: amount("evenflow_sandboxes", state=state)
            for state in label_values(now.samples, "evenflow_sandboxes", "state")
        },
        "dead_letters": amount("evenflow_queue_dead_letters"),
        "shards": shards,
        "functions": functions,
        "silent": list(now.silent),
    }


def _histogram_name(samples: Samples, name: str) -> str:
    """The exporter puts the unit into a histogram's name: Duration_milliseconds."""
    return next((found.removesuffix("_count") for found, _ in samples if _is_count_of(found, name)), name)


def _is_count_of(found: str, name: str) -> bool:
    return found.startswith((f"{name}_", f"{name.lower()}_")) and found.endswith("_count")


def frame(numbers: dict[str, Any]) -> Group:
    """One frame."""
    n = numbers
    head = Text.assemble(
        ("accepted ", "bold"), f"{n['accepted_per_second']:g}/s  ",
        ("run ", "bold"), f"{n['invocations_per_second']:g}/s  ",
        ("settled ", "bold"), f"{n['settled_per_second']:g}/s  ",
        ("errors ", "bold"), (f"{n['errors_per_second']:g}/s  ", "red" if n["errors_per_second"] else ""),
        ("throttles ", "bold"), (f"{n['throttles_per_second']:g}/s", "yellow" if n["throttles_per_second"] else ""),
    )  # fmt: skip
    sandboxes = ", ".join(f"{count} {state}" for state, count in n["sandboxes"].items() if count) or "none"
    second = Text.assemble(
        ("depth ", "bold"), f"{n['depth']}  ",
        ("leased ", "bold"), f"{n['leases_held']}  ",
        ("in flight ", "bold"), f"{n['in_flight']}  ",
        ("dead letters ", "bold"), (f"{n['dead_letters']}  ", "red" if n["dead_letters"] else ""),
        ("sandboxes ", "bold"), sandboxes,
    )  # fmt: skip
    numbers_right = ("shard", "depth", "leased", "dead", "oldest", "in/s", "settled/s")
    shards = table(*numbers_right, right=numbers_right)
    for shard in n["shards"]:
        shards.add_row(
            str(shard["shard_id"]),
            str(shard["depth"]),
            str(shard["leased"]),
            str(shard["dead_letters"]),
            span_of_ms(shard["oldest_age_ms"]) if shard["oldest_age_ms"] else "-",
            f"{shard['accepted_per_second']:g}",
            f"{shard['settled_per_second']:g}",
        )
    parts: list[Any] = [head, second, Text(), shards]
    if n["functions"]:
        columns = ("run/s", "errors/s", "throttles/s", "running", "mean", "runs", "errors", "throttles")
        functions = table("function", *columns, right=columns)
        busiest = sorted(n["functions"], key=lambda one: (-one["invocations_per_second"], one["function_name"]))
        for one in busiest[:MAX_FUNCTIONS_SHOWN]:
            mean = one["duration_mean_ms"]
            functions.add_row(
                one["function_name"],
                f"{one['invocations_per_second']:g}",
                f"{one['errors_per_second']:g}",
                f"{one['throttles_per_second']:g}",
                str(one["running"]),
                span_of_ms(mean) if mean is not None else "-",
                str(one["invocations"]),
                str(one["errors"]),
                str(one["throttles"]),
            )
        parts += [Text(), functions]
    if n["silent"]:
        parts += [Text(), Text(f"no answer from {', '.join(n['silent'])}", style="red")]
    return Group(*parts)
