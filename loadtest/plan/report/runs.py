"""The page's tables of what was run: every run, the machine, the fleet, the load."""

from collections.abc import Mapping
from typing import Any

from loadtest.open_loop.result import Latency
from loadtest.open_loop.spec import as_json
from loadtest.plan.findings import Findings
from loadtest.plan.measured import Measured, Run
from loadtest.plan.readings import completed_per_second, depth_slope
from loadtest.plan.report.html import Cell, Row, folded, heading, number, paragraph, percent, table

# Of the load: those that a run's own table shows, or that say nothing to a reader.
_UNTOLD = ("host", "http_port", "grpc_port", "keys", "records", "run")


def steps(measured: Measured) -> str:
    """Every run in its order."""
    rows = [_step(measured, run) for run in measured.runs]
    head = (
        "run",
        "offered/s",
        "ended/s",
        "accept p50, ms",
        "p99",
        "start p50, ms",
        "p99",
        "errors",
        "depth, events/s",
        "generator",
        "verdict",
    )
    return heading("Every run") + folded(f"{len(rows)} runs", table(head, rows))


def void_runs(findings: Findings) -> str:
    """Those left out and why; nothing when there are none."""
    rows: list[Row] = [
        (
            run_name(one.purpose, one.callers),
            number(None if one.callers else one.per_second, missing=""),
            Cell("; ".join(one.reasons), "words"),
        )
        for one in findings.generator.void
    ]
    if not rows:
        return ""
    return heading("Void runs, left out of every conclusion") + table(("run", "events/s", "why"), rows)


def machine(measured: Measured) -> str:
    """What it was measured on."""
    rows: list[Row] = [(name.replace("_", " "), Cell(str(value), "words")) for name, value in measured.machine.items()]
    rows.append(("began", measured.began))
    rows.append(("took", f"{measured.seconds / 60:.1f} min"))
    return heading("Machine and versions") + table(("", ""), rows)


def settings(measured: Measured) -> str:
    """The fleet, its settings, the load."""
    fleet = measured.fleet
    rows: list[Row] = [(f"{name} processes", str(count)) for name, count in fleet.replicas.items()]
    rows += [("shards", str(fleet.shards)), ("sandbox slots of a runtime host", str(fleet.slots))]
    rows += [(name, value) for name, value in fleet.settings.items()]
    rows += [(f"memory of {name}", value) for name, value in _memory(measured).items()]
    load: list[Row] = [(name, Cell(value, "words")) for name, value in told_load(measured).items()]
    return (
        heading("Fleet and settings")
        + table(("", ""), rows)
        + heading("Load")
        + paragraph("Of every run, but for its rate and seed.")
        + table(("", ""), load)
    )


def _memory(measured: Measured) -> dict[str, str]:
    found = {name: f"{held / 2**20:.0f} MiB" for name, held in measured.memory_bytes.items()}
    for name, count in measured.memory_unread.items():
        processes = "1 process" if count == 1 else f"{count} processes"
        found[name] = f"{found[name]} without {processes} that" if name in found else f"unknown: {processes}"
        found[name] += " could not be read"
    return found


def told_load(measured: Measured) -> dict[str, str]:
    """The load's fields by their dotted names, those that matter to a reader."""
    flat: dict[str, str] = {}
    _flatten("", {name: value for name, value in as_json(measured.spec).items() if name not in _UNTOLD}, flat)
    return {name: value for name, value in flat.items() if name not in ("traffic.seed", "traffic.shape.per_second")}


def _flatten(before: str, told: Mapping[str, Any], into: dict[str, str]) -> None:
    for name, value in told.items():
        if isinstance(value, Mapping):
            _flatten(f"{before}{name}.", value, into)
        else:
            into[f"{before}{name}"] = str(value)


def _step(measured: Measured, run: Run) -> Row:
    result = run.result
    slope = depth_slope(run, measured.spec)
    return (
        run_name(run.purpose, run.callers),
        number(None if run.callers else run.per_second, missing=""),
        number(completed_per_second(run)),
        *_latency(result.accept),
        *_latency(result.start),
        percent(result.error_part),
        Cell("-" if slope is None else f"{slope:+,.1f}", "number"),
        percent(result.generator_cpu),
        _verdict(run),
    )


def _latency(found: Latency | None) -> tuple[Cell, Cell]:
    return number(found.p50_ms if found else None), number(found.p99_ms if found else None)


def _verdict(run: Run) -> Cell:
    if run.result.void:
        return Cell(f"void: {'; '.join(run.result.void)}", "bad")
    if run.callers:
        return Cell("")
    return Cell(f"failed: {'; '.join(run.failed)}", "words") if run.failed else Cell("held", "good")


def run_name(purpose: str, callers: int) -> str:
    """A closed loop by its callers: no rate was offered."""
    if not callers:
        return purpose
    return "1 caller" if callers == 1 else f"{callers} callers"
