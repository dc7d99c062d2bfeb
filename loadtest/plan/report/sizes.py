"""The page's tables of sizes: how many of each, what is left after a loss, how long a drain takes, what it costs."""

from loadtest.bench.stats import shown
from loadtest.plan.findings import Findings
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


def replicas(findings: Findings) -> str:
    """How many of each, and what that assumes."""
    if not findings.needed:
        return heading("How many of each") + paragraph("Too few runs at different rates to tell.")
    names = list(findings.needed[0].replicas)
    rows: list[Row] = [
        (
            number(one.per_second),
            *(Cell(f"{one.replicas[name]:,}", "number") for name in names),
            number(one.slots),
            Cell(f"{one.cores:,}", "number"),
        )
        for one in findings.needed
    ]
    return (
        heading("How many of each")
        + table(("events/s", *names, "slots busy", "cores in all"), rows)
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
    told = heading("Drain after an outage") + paragraph(
        f"B / (mu - lambda) with mu = {shown(findings.capacity_per_second)} events/s, the highest of any run."
    )
    if (check := findings.drain) is not None:
        told += paragraph(
            f"Measured: {check.backlog:,} events went away in {shown(check.measured_seconds)} s while "
            f"{shown(check.arriving_per_second)} events/s arrived; predicted: "
            + (
                f"{shown(check.predicted_seconds)} s ({percent(check.gap, sign=True).text})."
                if check.predicted_seconds is not None
                else "never, as more arrives than the highest throughput."
            )
        )
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
    told = f"Rented cores are planned to {100 * MAX_UTILISATION:.0f} % use."
    return title + paragraph(told) + table(("", "USD", "of"), rows)


def _usd(value: float | None) -> Cell:
    return Cell("not measured" if value is None else f"{value:.4f}", "number")


def _minutes(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"
