"""The plan in a few sentences, for the page's first box and for a terminal. Pure."""

from loadtest.bench.stats import shown
from loadtest.plan import slots
from loadtest.plan.best_rate import BestRate, Knee, bound_words
from loadtest.plan.findings import Findings
from loadtest.plan.intervals import CONFIDENCE, Interval
from loadtest.plan.measured import Fleet, Measured
from loadtest.plan.readings import completed_per_second, counts


def title(findings: Findings) -> str:
    """The answer, or that there is none."""
    best = findings.best
    if not best.per_second:
        return f"No tested rate held the objective on {fleet_words(findings.fleet)}"
    at_least = "at least " if findings.first_failure is None else ""
    return f"Holds {at_least}{shown(best.per_second)} events/s on {fleet_words(findings.fleet)}"


def warning(findings: Findings) -> str:
    """Why the figures say nothing of the fleet; empty: they do. It stands before everything else."""
    if findings.generator.valid:
        return ""
    repeats = sum(one.purpose == "repeat" for one in findings.generator.void)
    which = f", {repeats} of them repeats of the best rate found by then" if repeats else ""
    return (
        f"NOT VALID: {void_words(findings)}{which}. Do not rely on these figures: use more drivers, lower rates or a "
        "quieter machine."
    )


def void_words(findings: Findings) -> str:
    """How many runs count for nothing."""
    found = findings.generator
    return f"{len(found.void)} of {found.runs} runs were void"


def fleet_words(fleet: Fleet) -> str:
    """Which fleet was measured, by what bounds it."""
    hosts = fleet.replicas.get("runtime", 1)
    told = f"{_count(hosts, 'runtime host')} of {_count(fleet.slots, 'slot')}"
    several = [f"{count} {name}s" for name, count in fleet.replicas.items() if count > 1 and name != "runtime"]
    return ", ".join([told, *several])


def _count(count: int, name: str) -> str:
    return f"one {name}" if count == 1 else f"{count} {name}s"


def sentences(measured: Measured, findings: Findings) -> list[str]:
    """What was measured, what breaks first and why, the limit, the knee, how well the generator kept up."""
    told: list[str] = []
    best = findings.best
    if best.per_second:
        told += [_measured(measured, best), plan_with(measured, findings)]
    told.append(first_to_break(findings))
    if chosen := chosen_slots(measured, findings):
        told.append(chosen)
    if best.limit_per_second is not None:
        told.append(
            f"Over all runs the objective's tightest bound is reached at {shown(best.limit_per_second)} events/s"
            f"{_interval(best.limit_interval, 'bootstrap over runs')}."
        )
    if findings.knee is not None:
        told.append(_knee(findings.knee))
    return [*told, _generator(findings)]


def plan_with(measured: Measured, findings: Findings) -> str:
    """Which of the plan's rates to rely on, and what the others are."""
    best, capacity = findings.best, findings.capacity
    others: list[str] = []
    if best.limit_per_second is not None:
        others.append(f"the tightest bound is used up at {shown(best.limit_per_second)}")
    full = next((one.saturates_per_second for one in findings.bottleneck.resources if one.kind == "slots"), None)
    if full is not None:
        others.append(f"the slots are full at {shown(full)}, by the line through all runs")
    if capacity is not None and not capacity.is_floor:
        others.append(f"under overload {shown(capacity.per_second)} ended a second")
    most = max((completed_per_second(run) for run in measured.runs if counts(run)), default=0.0)
    if most:
        others.append(f"the most that ever ended a second, in one run, was {shown(most)}")
    told = f"Plan with {shown(best.per_second)} events/s, the rate that held"
    return f"{told}; {'; '.join(others)}." if others else f"{told}."


def chosen_slots(measured: Measured, findings: Findings) -> str:
    """That the slots are the plan's own choice; empty: they are not."""
    if not slots.are_the_plans(measured):
        return ""
    resources = findings.bottleneck.resources
    is_limit = bool(resources) and resources[0].kind == "slots" and findings.bottleneck.service == "runtime"
    limit = "They are the limit found here: " if is_limit else ""
    return (
        f"{_count(findings.fleet.slots, 'slot')} a host are what a plan chooses for handlers that sleep. "
        f"{limit}--set {slots.SLOTS_KEY}=N changes {'it' if is_limit else 'that'}."
    )


def _generator(findings: Findings) -> str:
    found = findings.generator
    return (
        f"The generator was {'' if found.valid else 'NOT '}valid: in runs that count at most "
        f"{100 * found.busiest_core:.0f} % of a core and {100 * found.late_part:.2f} % late sends; "
        f"{void_words(findings)} and left out."
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


def first_to_break(findings: Findings) -> str:
    """What fails first above the best rate and why, or why no limit was found."""
    failure = findings.first_failure
    if failure is None:
        return _no_limit(findings)
    what = bound_words(failure.bound)
    use = f" ({shown(failure.use)} times its bound)" if failure.bound else f" ({'; '.join(failure.words)})"
    return (
        f"First to break: {what}, at {shown(failure.per_second)} events/s{use}, because {findings.bottleneck.evidence}."
    )


def _no_limit(findings: Findings) -> str:
    above = [one for one in findings.generator.void if not one.callers and one.per_second > findings.best.per_second]
    if above:
        first = min(above, key=lambda one: one.per_second)
        return (
            f"No limit was found: the generator gave out first, as runs at {shown(first.per_second)} events/s were "
            f"void ({'; '.join(first.reasons)})."
        )
    return "No limit was found: no rate above it failed, up to the highest that was tried (--max-rate)."


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
