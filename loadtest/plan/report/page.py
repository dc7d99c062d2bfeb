"""The plan's page, put together."""

from loadtest.bench.stats import shown
from loadtest.plan.findings import Findings
from loadtest.plan.measured import Measured
from loadtest.plan.report import curves, html, pictures, runs, sizes, tables
from loadtest.plan.report.headline import sentences, title, warning


def write(measured: Measured, findings: Findings) -> str:
    """The HTML: readable without scripts and without a network, light or dark, wide or narrow."""
    wrong = warning(findings)
    kind = "bad" if wrong or not findings.best.per_second else ""
    body = [
        html.heading("Evenflow capacity plan", 1),
        html.paragraph(_on(measured), "soft"),
        html.box(
            html.paragraph(wrong, "bad") if wrong else "",
            html.paragraph(title(findings), f"big {kind}".strip()),
            *(html.paragraph(one) for one in sentences(measured, findings)),
        ),
        runs.void_runs(findings),
        html.heading("Plots"),
        html.plots(_figures(measured, findings)),
        tables.objective(measured),
        tables.bottleneck(findings),
        tables.demand(findings),
        sizes.replicas(measured, findings),
        sizes.headroom(findings),
        sizes.drains(findings),
        sizes.cost(findings),
        tables.law(findings),
        tables.policies(findings),
        tables.little(findings),
        runs.steps(measured),
        runs.machine(measured),
        runs.settings(measured),
    ]
    not_valid = "NOT VALID: " if wrong else ""
    return html.page(f"Evenflow capacity plan: {not_valid}{title(findings)}", "".join(body))


def _on(measured: Measured) -> str:
    machine = measured.machine
    replicas = ", ".join(f"{count} {name}" for name, count in measured.fleet.replicas.items())
    return (
        f"{machine.get('cpu', 'unknown processor')}, {machine.get('cores', '?')} cores; commit "
        f"{machine.get('commit', 'unknown')}; {replicas}; {measured.fleet.shards} shards; began {measured.began}"
    )


def _figures(measured: Measured, findings: Findings) -> list[str]:
    plan = {"": measured}
    figures: list[str] = []
    for of, name, bound_ms in (
        ("accept", "Time to accept", measured.objective.accept_p99_ms),
        ("start", "Time to handler start", measured.objective.start_p99_ms),
    ):
        if any(getattr(run.result, of) and not run.callers for run in measured.runs):
            caption = "From the intended send. Points: runs; lines: through the medians of each rate."
            figures.append(html.figure(f"{name} against rate", curves.latency(plan, of, bound_ms), caption))
    figures.append(
        html.figure(
            "Throughput against rate", curves.throughput(plan), "Below the diagonal events pile up in the queue."
        )
    )
    for what, run in (
        ("at the best rate", pictures.best_run(findings, measured.runs)),
        ("at the first failing rate", pictures.first_overload(findings, measured.runs)),
    ):
        if run is not None:
            caption = f"A run at {shown(run.per_second)} events/s; events not settled, by shard."
            figures.append(html.figure(f"Depth of each shard {what}", pictures.depths(run, what), caption))
    if findings.demands:
        caption = "Points: runs; lines: the demand that replicas and cost are worked out from."
        figures.append(html.figure("CPU by service", curves.cpu(measured, findings), caption))
    if findings.usl is not None:
        caption = "Universal Scalability Law; every caller waits for its handler before it sends again."
        figures.append(html.figure("Throughput against callers", pictures.scalability(findings.usl), caption))
    if measured.drain is not None and measured.drain.depths:
        predicted = findings.drain.predicted_seconds if findings.drain else None
        caption = "A backlog made while pollers were paused; the dotted line is the depth before."
        figures.append(html.figure("Drain after a pause", pictures.drain(measured.drain, predicted), caption))
    if findings.policies:
        caption = "Simulated; bars: lowest to highest seed."
        figures.append(html.figure("Placement policies", pictures.policies(findings.policies), caption))
    return figures
