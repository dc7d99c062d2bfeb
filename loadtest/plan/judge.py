"""Whether a run held the objective, in words and as the search's verdict. Pure."""

from loadtest.open_loop.result import LoadResult
from loadtest.open_loop.spec import LoadSpec
from loadtest.plan.measured import Objective, Run
from loadtest.plan.readings import SLOPE_SAMPLES, backlog_allowed, bound_use, counted, depth_slope
from loadtest.plan.search import Verdict

# Backlog that grows by so many times what is allowed is an overload, which no stall of a moment looks like.
OVERLOADED_USE = 10.0
# Sends that are late above it are so because the driver was busy; below it something else held it up.
FULL_GENERATOR_CPU = 0.5


def unjudged(run: Run, spec: LoadSpec) -> tuple[str, ...]:
    """Why a run of the open loop can be told neither to hold nor to fail, although its generator was in time; empty: it
    can be."""
    if depth_slope(run, spec) is not None:
        return ()
    looks = len(counted(run, spec))
    return (
        f"too few looks at the fleet in the counted part to see a growing backlog ({looks}, at least {SLOPE_SAMPLES} "
        "are needed): make runs longer",
    )


def failed_bounds(run: Run, objective: Objective, spec: LoadSpec) -> tuple[str, ...]:
    """The bounds that it did not hold, with figures; empty: it held, or it is void."""
    if run.result.void:
        return ()
    use = bound_use(run, objective, spec)
    found = [_words(name, times, run, objective, spec) for name, times in use.items() if times > 1]
    if run.result.accept is None:
        found.append("nothing was accepted")
    elif run.result.start is None:
        found.append("no handler started")
    return tuple(found)


def verdict(run: Run, objective: Objective, spec: LoadSpec) -> Verdict:
    """What the search is told of a run whose failed bounds are known."""
    if run.result.void:
        return Verdict.FULL if run.result.generator_cpu > FULL_GENERATOR_CPU else Verdict.VOID
    if not run.failed:
        return Verdict.HELD
    grew = bound_use(run, objective, spec).get("backlog", 0.0)
    return Verdict.OVERLOADED if grew > OVERLOADED_USE else Verdict.FAILED


def _words(name: str, times: float, run: Run, objective: Objective, spec: LoadSpec) -> str:
    match name:
        case "accept":
            bound = objective.accept_p99_ms
            return f"p99 to accept {times * bound:.0f} ms, {bound:g} ms allowed"
        case "start":
            bound = objective.start_p99_ms
            return f"p99 to handler start {times * bound:.0f} ms, {bound:g} ms allowed"
        case "errors":
            allowed = f"{100 * objective.error_part:g} % allowed" if objective.error_part else "none are allowed"
            return f"errors {100 * run.result.error_part:.2f} % ({error_words(run.result)}), {allowed}"
        case _:
            grew = times * backlog_allowed(run, objective, spec)
            return f"backlog grew by {grew:,.0f} of {run.result.accepted:,} events"


def error_words(result: LoadResult) -> str:
    """What the errors of a run were, by kind."""
    kinds = (
        ("refused", sum(result.refused.values())),
        ("unanswered", result.unanswered),
        ("dropped, as too many had no answer", result.dropped),
        ("unstarted", result.not_started),
        ("failed handlers", result.handler_failures),
    )
    return ", ".join(f"{count:,} {kind}" for kind, count in kinds if count)
