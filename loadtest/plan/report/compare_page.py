"""Two plans on one page: their curves on top of each other, their ratios, and where they are not alike."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from loadtest.bench.stats import shown
from loadtest.plan.report import curves, html

if TYPE_CHECKING:
    from loadtest.plan.compare import Comparison, Ratio


def write(found: "Comparison", text: str) -> str:
    """The HTML. text: what the terminal is told, for those who copy it."""
    a, b = found.a, found.b
    best = found.best
    title = f"{a.name} against {b.name}"
    body = [
        html.heading(f"Evenflow capacity: {title}", 1),
        html.box(
            html.paragraph(_headline(found), "big" if found.is_fair else "big bad"),
            html.paragraph(f"a is {a.name}: {shown(best.a)} events/s. b is {b.name}: {shown(best.b)} events/s."),
            html.paragraph(f"The ratio is told from both intervals: {_reach(best)}."),
        ),
        html.heading("Both curves"),
        html.plots(_figures(found)),
        html.heading("What an event costs each service"),
        html.table(
            ("service", "a, CPU ms", "b, CPU ms", "b / a", "within", *(["verdict"] if found.is_fair else [])),
            [_row(one, found.is_fair) for one in found.demands],
        ),
        _differences("Not alike, so not comparable", found.unlike),
        _differences("What changed", found.changed),
        html.heading("As text"),
        *(html.paragraph(line) for line in text.splitlines()),
    ]
    return html.page(f"Evenflow capacity: {title}", "".join(body))


def _headline(found: "Comparison") -> str:
    best = found.best
    if not found.is_fair:
        return f"Not comparable: {'; '.join(found.not_comparable)}"
    if not best.differs or best.ratio is None:
        return "No difference shown in the best rate"
    return f"b holds {shown(best.ratio)} times the rate of a"


def _reach(one: "Ratio") -> str:
    if one.ratio is None:
        return "none, as a held no rate"
    if one.interval is None:
        return f"{shown(one.ratio)}, without an interval"
    return f"{shown(one.ratio)}, within {shown(one.interval.low)} to {shown(one.interval.high)}"


def _figures(found: "Comparison") -> list[str]:
    plans = {one.name: one.measured for one in (found.a, found.b)}
    caption = "From the intended send. Points: runs; lines: through the medians of each rate."
    told = [html.figure("Throughput against rate", curves.throughput(plans), "Below the diagonal events pile up.")]
    for of, name, bound in (
        ("start", "Time to handler start", "start_p99_ms"),
        ("accept", "Time to accept", "accept_p99_ms"),
    ):
        measured = [run for plan in plans.values() for run in plan.runs if not run.callers]
        if any(getattr(run.result, of) for run in measured):
            svg = curves.latency(plans, of, getattr(found.a.measured.objective, bound), ("p99",))
            told.append(html.figure(f"{name} against rate, p99", svg, caption))
    return told


def _row(one: "Ratio", is_fair: bool) -> html.Row:
    return (
        one.what,
        html.number(one.a * 1_000),
        html.number(one.b * 1_000),
        html.number(one.ratio),
        html.between(one.interval),
        *([one.verdict] if is_fair else []),
    )


def _differences(title: str, found: Mapping[str, tuple[str, str]]) -> str:
    if not found:
        return ""
    rows: list[html.Row] = [(name, a, b) for name, (a, b) in found.items()]
    return html.heading(title) + html.table(("", "a", "b"), rows)
