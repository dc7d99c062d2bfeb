"""The page's tables of conclusions, each with the sentence that it needs to be read."""

from loadtest.bench.stats import shown
from loadtest.plan.findings import Findings
from loadtest.plan.little import MAX_GAP, STANDARD_ERRORS, LittleCheck
from loadtest.plan.measured import Measured
from loadtest.plan.report.html import (
    Cell,
    Row,
    between,
    error,
    folded,
    heading,
    number,
    paragraph,
    percent,
    table,
)
from loadtest.plan.report.runs import run_name

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
            "cores of every run, predicted from the runs at other rates."
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
    less = [
        one.name
        for one in found.resources
        if one.use_at_best is not None and one.use_at_failure is not None and one.use_at_failure < one.use_at_best
    ]
    if less:
        told += paragraph(
            f"Used less at the first failure than at the best rate: {'; '.join(less)}. What is full lets no more "
            "events through to the others, and single runs scatter: it is no sign that these got faster.",
            "soft",
        )
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
            run_name(one.purpose, one.callers),
            number(None if one.callers else one.per_second, missing=""),
            one.of,
            number(one.counted),
            number(one.predicted),
            percent(one.gap, sign=True),
            _little_verdict(one),
        )
        for one in findings.little
    ]
    flagged = sum(one.flagged for one in findings.little)
    head = ("run", "events/s", "of", "counted (L)", "lambda x W", "gap", "verdict")
    return (
        heading("Little's law, L = lambda W")
        + paragraph(
            f"Counts against latencies, on every run: {flagged} of {len(findings.little)} checks differ by more than "
            f"{100 * MAX_GAP:.0f} % and three standard errors of the mean count. Where the depth grows the "
            "law says nothing. Invocations that wait at a host for a slot are counted and not in W: those differ where "
            "slots are full."
        )
        + folded("All runs", table(head, rows))
    )


def _little_verdict(one: LittleCheck) -> Cell:
    if not one.steady:
        return Cell("depth grows")
    if one.flagged:
        return Cell("differs", "bad")
    # So few looks at so small a count vary by more than the gap.
    is_wide = abs(one.gap) > MAX_GAP
    return Cell(f"within {STANDARD_ERRORS:g} standard errors" if is_wide else "agrees", "good")


def objective(measured: Measured) -> str:
    """Every bound."""
    bounds = measured.objective
    rows: list[Row] = [
        ("accept, p99 from the intended send", number(bounds.accept_p99_ms, " ms")),
        ("handler start, p99 from the intended send", number(bounds.start_p99_ms, " ms")),
        (
            "errors: refused, unanswered, dropped, unstarted or failed",
            Cell(f"{100 * bounds.error_part:g} %", "number"),
        ),
        ("backlog growth, of the accepted", Cell(f"{100 * bounds.backlog_part:g} %", "number")),
    ]
    return heading("Objective") + table(("bound", "at most"), rows)
