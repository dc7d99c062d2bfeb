"""The page's tables of sizes: how many of each, what is left after a loss, how long a drain takes, what it costs."""

from loadtest.bench.stats import shown
from loadtest.plan.cost import Prices
from loadtest.plan.drain import Capacity, DrainCheck
from loadtest.plan.findings import Findings
from loadtest.plan.intervals import CONFIDENCE
from loadtest.plan.measured import Measured
from loadtest.plan.readings import is_open
from loadtest.plan.replicas import ASSUMPTIONS, MAX_UTILISATION
from loadtest.plan.report.html import (
    Cell,
    Row,
    bullets,
    folded,
    heading,
    number,
    paragraph,
    percent,
    table,
    yes_no,
)

# Times the highest rate that was measured: beyond it the table is a guess.
FAR_TIMES = 10.0
# A prediction of the drain that is farther off than this part is warned of.
MAX_DRAIN_GAP = 0.25


def replicas(measured: Measured, findings: Findings) -> str:
    """How many of each, and what that assumes."""
    if not findings.needed:
        return heading("How many of each") + paragraph("Too few runs at different rates to tell.")
    names = list(findings.needed[0].replicas)
    highest = max((run.per_second for run in measured.runs if is_open(run)), default=0.0)
    far = [one.per_second > FAR_TIMES * highest for one in findings.needed]
    rows: list[Row] = []
    for one, is_far in zip(findings.needed, far, strict=True):
        figures = (
            number(one.per_second).text,
            *(f"{one.replicas[name]:,}" for name in names),
            # A queue node without a shard has nothing to do.
            f"{one.replicas.get('queue', 1):,}",
            number(one.slots).text,
            f"{one.cores:,}",
        )
        cells = [Cell(text, "number soft" if is_far else "number") for text in figures]
        note = [Cell("far beyond what was measured", "words soft")] if is_far else []
        rows.append([*cells, *note])
    head = ("events/s", *names, "shards, at least", "slots busy", "cores in all", *([""] if any(far) else []))
    measured_to = paragraph(f"The highest rate measured was {shown(highest)} events/s.") if any(far) else ""
    return (
        heading("How many of each")
        + measured_to
        + table(head, rows)
        + folded("What this assumes", bullets(ASSUMPTIONS))
        + _confirmed(findings)
    )


def _confirmed(findings: Findings) -> str:
    if not findings.confirmations:
        return paragraph("The prediction was not put to the test at another rate.", "soft")
    rows: list[Row] = [
        (
            number(one.per_second),
            Cell(", ".join(f"{count} {name}" for name, count in one.asked.items()), "words"),
            yes_no(one.enough),
            yes_no(one.held),
            yes_no(one.right),
            number(one.predicted_cores),
            number(one.measured_cores),
            percent(one.gap, sign=True),
        )
        for one in findings.confirmations
    ]
    head = ("events/s", "asked for", "had them", "held", "prediction right", "cores predicted", "measured", "gap")
    return paragraph("Put to the test at rates that were not used for the fit:") + table(head, rows)


def headroom(findings: Findings) -> str:
    """After a loss."""
    rows: list[Row] = [
        (
            one.lost,
            Cell(str(one.of), "number"),
            number(one.per_second),
            percent(one.kept),
            percent(one.waiting),
            Cell(one.note, "words"),
        )
        for one in findings.headroom
    ]
    head = ("lost", "of", "still holds, events/s", "of the best rate", "stored events that wait", "meaning")
    return heading("Headroom after a loss") + table(head, rows)


def drains(findings: Findings) -> str:
    """The check and the table."""
    told = heading("Drain after an outage") + paragraph(_capacity(findings.capacity))
    if findings.drain is not None:
        told += paragraph(_drain_check(findings.drain, findings.capacity))
        told += _drain_warning(findings.drain)
    rows: list[Row] = [
        (
            f"{one.outage_seconds / 60:g} min",
            percent(one.load),
            number(one.arriving_per_second),
            Cell(f"{one.backlog:,.0f}", "number"),
            Cell("never" if one.seconds is None else _minutes(one.seconds), "number"),
        )
        for one in findings.drains
    ]
    return told + table(("outage", "load, of the best rate", "events/s", "backlog", "drained after"), rows)


def _capacity(found: Capacity | None) -> str:
    if found is None:
        return "Not predicted: no rate held, so the highest throughput is not known."
    within = "no interval: an interval needs 5 runs"
    if found.interval is not None:
        within = f"{shown(found.interval.low)} to {shown(found.interval.high)}; {100 * CONFIDENCE:.0f} % t-interval"
    runs = f"{found.runs} {'run' if found.runs == 1 else 'runs'}"
    told = f"B / (mu - lambda) with mu = {shown(found.per_second)} events/s ({within})"
    if found.is_floor:
        return (
            f"{told}, the mean of {runs} at the best rate: no overload was repeated, so mu is higher and drains faster."
        )
    return f"{told}, the mean throughput of {runs} offered more than the fleet carries."


def _drain_check(found: DrainCheck, capacity: Capacity | None) -> str:
    arriving = f"while {shown(found.arriving_per_second)} events/s arrived"
    if found.measured_seconds is None:
        told = f"Measured: {found.backlog:,} events were not drained within {shown(found.within_seconds)} s {arriving}"
    else:
        told = f"Measured: {found.backlog:,} events went away in {shown(found.measured_seconds)} s {arriving}"
    if found.predicted_seconds is not None:
        gap = "" if found.gap is None else f" ({percent(found.gap, sign=True).text})"
        told += f"; predicted: {shown(found.predicted_seconds)} s{gap}."
    else:
        told += "; predicted: never, as no more than that is worked off." if capacity else "."
    return f"{told} It shows nothing of the fleet: {'; '.join(found.void)}." if found.void else told


def _drain_warning(found: DrainCheck) -> str:
    if found.gap is not None and abs(found.gap) > MAX_DRAIN_GAP:
        off = percent(found.gap, sign=True).text
        return paragraph(f"The prediction is {off} off what was measured: the table below may be as far off.", "bad")
    predicted = found.predicted_seconds
    is_late = found.measured_seconds is None and not found.void
    if is_late and predicted is not None and predicted < found.within_seconds:
        return paragraph("By then it was predicted to be gone: the times of the table below may be too short.", "bad")
    return ""


def cost(findings: Findings) -> str:
    """Here and on AWS."""
    found = findings.cost
    title = heading("Cost of a million events")
    if found is None:
        return title + paragraph("Not known: no rate held, or too few runs.")
    prices = found.prices
    busy = f"{shown(found.cores)} cores busy at {shown(found.per_second)} events/s"
    billed = f"{found.aws_billed_ms} ms billed at {found.function_memory_mb} MB"
    rows: list[Row] = [
        ("Evenflow: CPU", _usd(found.cpu_usd), f"{busy}, of cores rented at {prices.core_hour_usd:g} USD an hour"),
        ("Evenflow: memory", _usd(found.memory_usd), f"at {prices.gib_hour_usd:g} USD a GiB-hour"),
        ("Evenflow", _usd(found.total_usd), "at the best rate; at a lower one idle costs weigh more"),
        ("AWS Lambda: requests", _usd(found.aws_requests_usd), "list price, US East, x86, without the free tier"),
        ("AWS Lambda: compute", _usd(found.aws_compute_usd), billed),
        ("AWS Lambda", _usd(found.aws_total_usd), "run for you, which Evenflow is not"),
    ]
    told = f"Rented cores are planned to {100 * MAX_UTILISATION:.0f} % use. {_assumed(prices)}"
    return title + paragraph(told) + table(("", "USD", "of"), rows)


def _assumed(prices: Prices) -> str:
    default = Prices()
    told = f"Assumed: {prices.core_hour_usd:g} USD a vCPU-hour and {prices.gib_hour_usd:g} USD a GiB-hour"
    if prices != default:
        return f"{told}, as given."
    return (
        f"{told}, us-east-1 Linux x86 list price of AWS Fargate as of writing; set --core-hour-price, --gib-hour-price."
    )


def _usd(value: float | None) -> Cell:
    return Cell("not measured" if value is None else f"{value:.4f}", "number")


def _minutes(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"
