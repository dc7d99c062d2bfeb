"""The page's tables of conclusions, each with the sentence that it needs to be read."""

from loadtest.bench.stats import shown
from loadtest.plan.findings import Findings
from loadtest.plan.little import MAX_GAP
from loadtest.plan.measured import Measured
from loadtest.plan.replicas import ASSUMPTIONS, MAX_UTILISATION
from loadtest.plan.report.html import (
    Cell,
    Row,
    between,
    bullets,
    error,
    folded,
    heading,
    number,
    paragraph,
    percent,
    table,
    yes_no,
)

_MILLI = 1_000.0


def demand(findings: Findings) -> str:
    """CPU an event, by service."""
    rows: list[Row] = [
        (
            one.service,
            number(one.cpu_seconds_an_event * _MILLI),
            between(one.interval, _MILLI),
            number(one.idle_cores),
            error(one.held_out),
            Cell(str(one.runs), "number"),
        )
        for one in findings.demands.values()
    ]
    whole = sum(one.cpu_seconds_an_event for one in findings.demands.values())
    rows.append(("all", number(whole * _MILLI), "", number(sum(one.idle_cores for one in findings.demands.values()))))
    head = ("service", "CPU ms an event", "95 % interval", "idle cores", "held-out error (median)", "runs")
    return (
        heading("What an event costs each service")
        + paragraph(
            "Service demand law: cores = idle + events/s x demand, fitted over all valid runs. Held-out error: the "
            "cores of every run, predicted from the others."
        )
        + table(head, rows)
    )


def bottleneck(findings: Findings) -> str:
    """Resources in the order in which they fill up."""
    found = findings.bottleneck
    rows: list[Row] = [
        (
            one.name,
            number(one.saturates_per_second),
            percent(one.use_at_best),
            percent(one.use_at_failure),
            Cell(f"{one.capacity:g} {one.unit}", "number"),
            number(one.used_an_event * _MILLI),
        )
        for one in found.resources
    ]
    head = ("resource", "full at events/s", "use at best rate", "use at first failure", "capacity", "ms of it an event")
    told = heading("What fills up first") + paragraph(f"{found.evidence[:1].upper()}{found.evidence[1:]}.")
    told += table(head, rows)
    growth = found.growth
    if growth is not None:
        told += paragraph(
            f"At the first failing rate of {shown(growth.per_second)} events/s the depth changed by "
            f"{growth.depth_slope_per_second:+,.1f} events/s; on average {shown(growth.waiting)} events waited, "
            f"{shown(growth.leased)} were leased and {shown(growth.in_flight)} were at runtime hosts."
        )
    return told


def law(findings: Findings) -> str:
    """Parameters of the scalability law."""
    found = findings.usl
    title = heading("Universal Scalability Law")
    if found is None:
        return title + paragraph("Too few runs with a set number of callers to fit it.")
    parts = (
        ("lambda", "what one caller gets, events/s", found.lambda_per_second, found.lambda_interval),
        ("sigma", "the serial part (contention)", found.sigma, found.sigma_interval),
        ("kappa", "the cost of agreeing (coherency)", found.kappa, found.kappa_interval),
        ("N*", "callers at the peak", found.peak_callers, found.peak_interval),
        ("X(N*)", "events/s at the peak", found.peak_per_second, None),
    )
    rows: list[Row] = [
        (
            name,
            means,
            Cell("none" if value is None else f"{value:.4g}", "number"),
            Cell("-" if interval is None else f"{interval.low:.4g} to {interval.high:.4g}", "number"),
        )
        for name, means, value, interval in parts
    ]
    return (
        title
        + paragraph(
            "X(N) = lambda N / (1 + sigma (N - 1) + kappa N (N - 1)), N callers of whom each waits for the handler. "
            f"Held-out error (each number of callers from the others): {error(found.held_out).text}."
        )
        + table(("parameter", "means", "value", "95 % interval (residual bootstrap)"), rows)
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


def policies(findings: Findings) -> str:
    """What a simulation of each policy tells."""
    rows: list[Row] = [
        (
            one.policy.replace("_", " "),
            number(one.stale_events_a_shard),
            number(one.max_over_mean),
            Cell(f"{shown(one.low)} to {shown(one.high)}", "number"),
            number(one.max_minus_mean),
        )
        for one in findings.policies
    ]
    if not rows:
        return heading("Placement policies") + paragraph("Not compared in this plan: see `evenflow simulate`.")
    head = ("policy", "age of depths, events a shard", "max / mean", "lowest to highest seed", "max - mean, events")
    return heading("Placement policies") + paragraph("Simulated with the fleet's own policy code.") + table(head, rows)


def little(findings: Findings) -> str:
    """Every run's check."""
    rows: list[Row] = [
        (
            one.purpose,
            number(one.per_second),
            one.of,
            number(one.counted),
            number(one.predicted),
            percent(one.gap, sign=True),
            _little_verdict(one.steady, one.flagged),
        )
        for one in findings.little
    ]
    flagged = sum(one.flagged for one in findings.little)
    head = ("run", "events/s", "of", "counted (L)", "lambda x W", "gap", "verdict")
    return (
        heading("Little's law, L = lambda W")
        + paragraph(
            f"Counts against latencies, on every run: {flagged} of {len(findings.little)} checks differ by more than "
            f"{100 * MAX_GAP:.0f} % and three standard errors. Where the depth grows the law says nothing."
        )
        + folded("All runs", table(head, rows))
    )


def _little_verdict(steady: bool, flagged: bool) -> Cell:
    if not steady:
        return Cell("depth grows")
    return Cell("differs", "bad") if flagged else Cell("agrees", "good")


def _minutes(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"


def objective(measured: Measured) -> str:
    """Every bound."""
    bounds = measured.objective
    rows: list[Row] = [
        ("accept, p99 from the intended send", number(bounds.accept_p99_ms, " ms")),
        ("handler start, p99 from the intended send", number(bounds.start_p99_ms, " ms")),
        ("errors, of all sent", Cell(f"{100 * bounds.error_part:g} %", "number")),
        ("backlog growth, of the accepted", Cell(f"{100 * bounds.backlog_part:g} %", "number")),
    ]
    return heading("Objective") + table(("bound", "at most"), rows)
