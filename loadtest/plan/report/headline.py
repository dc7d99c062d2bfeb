"""The plan in a few sentences, for the page's first box and for a terminal. Pure."""

from loadtest.bench.stats import shown
from loadtest.plan.best_rate import BestRate, Knee, bound_words
from loadtest.plan.findings import Findings
from loadtest.plan.intervals import CONFIDENCE, Interval
from loadtest.plan.measured import Fleet, Measured


def title(findings: Findings) -> str:
    """The answer, or that there is none."""
    best = findings.best
    if not best.per_second:
        return f"No tested rate held the objective on {fleet_words(findings.fleet)}"
    return f"Holds {shown(best.per_second)} events/s on {fleet_words(findings.fleet)}"


def fleet_words(fleet: Fleet) -> str:
    """Which fleet was measured, by what bounds it."""
    hosts = fleet.replicas.get("runtime", 1)
    told = f"{_count(hosts, 'runtime host')} of {_count(fleet.slots, 'slot')}"
    several = [f"{count} {name}s" for name, count in fleet.replicas.items() if count > 1 and name != "runtime"]
    return ", ".join([told, *several])


def _count(count: int, name: str) -> str:
    return f"one {name}" if count == 1 else f"{count} {name}s"


def sentences(measured: Measured, findings: Findings) -> list[str]:
    """What was measured, what breaks first and why, the limit, the knee, whether the generator was valid."""
    told = [_measured(measured, findings.best)] if findings.best.per_second else []
    told.append(_first_to_break(findings))
    best = findings.best
    if best.limit_per_second is not None:
        told.append(
            f"Over all runs the objective's tightest bound is reached at {shown(best.limit_per_second)} events/s"
            f"{_interval(best.limit_interval, 'bootstrap over runs')}."
        )
    if findings.knee is not None:
        told.append(_knee(findings.knee))
    return [*told, generator(findings)]


def generator(findings: Findings) -> str:
    """Whether the runs speak of the fleet."""
    found = findings.generator
    if found.valid:
        return (
            f"The generator was valid: at most {100 * found.busiest_core:.0f} % of a core and "
            f"{100 * found.late_part:.2f} % late sends; {len(found.void)} of {found.runs} runs were void and left out."
        )
    return (
        f"The generator was NOT valid: {len(found.void)} of {found.runs} runs were void. "
        "Do not rely on these figures: use more drivers, lower rates or a quieter machine."
    )


def _measured(measured: Measured, best: BestRate) -> str:
    objective = measured.objective
    held = [
        _bound("accept p99", best.accept_p99_ms, objective.accept_p99_ms),
        _bound("handler start p99", best.start_p99_ms, objective.start_p99_ms),
        f"errors <= {100 * objective.error_part:g} %",
        "no growing backlog",
    ]
    how = _interval(best.completed_interval, f"t-interval over {best.repeats} runs")
    few = f" (no interval: {best.why_no_interval})" if best.why_no_interval else ""
    void = f", {best.void} void and left out" if best.void else ""
    return (
        f"Measured there: {shown(best.completed_per_second)} events/s{how}{few}; {best.held} of {best.repeats} runs "
        f"held every bound{void}: {', '.join(held)} (medians)."
    )


def _bound(name: str, found_ms: float | None, bound_ms: float) -> str:
    return f"{name} {'not measured' if found_ms is None else shown(found_ms) + ' ms'} <= {bound_ms:g} ms"


def _first_to_break(findings: Findings) -> str:
    failure = findings.first_failure
    if failure is None:
        return "No rate above it failed: the limit lies beyond what was tested."
    what = bound_words(failure.bound)
    use = f" ({shown(failure.use)} times its bound)" if failure.bound else f" ({'; '.join(failure.words)})"
    return (
        f"First to break: {what}, at {shown(failure.per_second)} events/s{use}, because {findings.bottleneck.evidence}."
    )


def _knee(knee: Knee) -> str:
    what = {"accept": "accept", "start": "handler start"}[knee.of]
    if knee.per_second is None:
        return f"No knee among the tested rates: the p99 to {what} stayed below twice its floor."
    return (
        f"The knee lies at {shown(knee.per_second)} events/s: there the p99 to {what} is twice its floor of "
        f"{shown(knee.floor_p99_ms)} ms."
    )


def _interval(interval: Interval | None, how: str) -> str:
    if interval is None:
        return ""
    return f" ({shown(interval.low)} to {shown(interval.high)}; {100 * CONFIDENCE:.0f} % {how})"
