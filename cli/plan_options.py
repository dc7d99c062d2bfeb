"""The options of `evenflow plan`, checked and made into what `loadtest.plan` takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cli.commands.up import MAX_NODES_OF_A_ROLE, MAX_SHARDS
from cli.failures import EXIT_USAGE, CliError
from cli.supervisor.options import parse_settings

if TYPE_CHECKING:
    from loadtest.plan.cost import Prices
    from loadtest.plan.measure import Asked
    from loadtest.plan.rig import FleetAsked

MAX_RUN_SECONDS = 600.0
MAX_REPEATS = 50
QUICK_CALLERS, QUICK_RESOLUTION, QUICK_OUTAGE_SECONDS = (1, 4, 16), 0.25, 1.0
CURVE_FROM, CURVE_TO = 0.2, 1.2
MAX_CURVE_POINTS = 50
MAX_CLOSED_LOOPS = 20
MAX_CALLERS = 1_000


@dataclass(frozen=True, slots=True)
class Given:
    """The options of a plan. objective: in the order of measured.Objective; callers: of the closed loops, None: the
    default; work: fields of workloads.work.Work; prices: fields of cost.Prices."""

    objective: tuple[float, float, float, float]
    start_per_second: float
    max_per_second: float
    run_seconds: float
    warm_up_seconds: float
    repeats: int
    curve_points: int
    callers: str | None
    is_quick: bool
    seed: str
    door: str
    arrivals: str
    work: Mapping[str, float]
    tenants: int
    skew: str
    noisy_part: float
    queues: int
    pollers: int
    runtimes: int
    shards: int | None
    settings: tuple[str, ...]
    fleet: Path | None
    targets_per_second: tuple[float, ...]
    prices: Mapping[str, float]


def fleet_of(given: Given) -> "FleetAsked":
    """The fleet to start. CliError: out of bounds, an unknown setting, or a fleet that runs already was named, too."""
    from loadtest.plan.rig import FleetAsked
    from loadtest.plan.slots import SLEEPERS_SLOTS, SLOTS_KEY

    counts = (("--queues", given.queues), ("--pollers", given.pollers), ("--runtimes", given.runtimes))
    for name, value in counts:
        _within(name, value, 1, MAX_NODES_OF_A_ROLE)
    if given.shards is not None:
        _within("--shards", given.shards, 1, MAX_SHARDS)
    settings = parse_settings(given.settings)
    if given.fleet is not None:
        if settings or given.shards is not None or any(value != 1 for _, value in counts):
            raise CliError(
                "--fleet measures a fleet as it runs: --queues, --pollers, --runtimes, --shards and --set are for one "
                "that is started",
                EXIT_USAGE,
            )
        return FleetAsked()
    if given.work["sleep_ms"]:
        settings.setdefault(SLOTS_KEY, SLEEPERS_SLOTS)
    return FleetAsked(given.queues, given.pollers, given.runtimes, given.shards, settings)


def asked_of(given: Given) -> "Asked":
    """What to measure on it. CliError: out of bounds."""
    from loadtest.arrivals.shapes import Shape
    from loadtest.arrivals.tenants import SKEWS
    from loadtest.open_loop.spec import LoadSpec, Traffic
    from loadtest.plan.measure import OUTAGE_SECONDS, Asked
    from loadtest.plan.measured import Objective
    from loadtest.plan.runner import LEAST_RUN_SECONDS
    from loadtest.plan.search import Scope
    from loadtest.workloads.work import Work

    _within("--run-seconds", given.run_seconds, LEAST_RUN_SECONDS, MAX_RUN_SECONDS)
    _within("--warm-up-seconds", given.warm_up_seconds, 0, MAX_RUN_SECONDS)
    _within("--repeats", given.repeats, 1, MAX_REPEATS)
    _within("--curve-points", given.curve_points, 0, MAX_CURVE_POINTS)
    _within("--noisy", given.noisy_part, 0, 0.99)
    if given.skew not in SKEWS:
        raise CliError(f"--skew {given.skew}: {', '.join(SKEWS)}", EXIT_USAGE)
    for name, bound in zip(("--accept-p99-ms", "--start-p99-ms"), given.objective, strict=False):
        _within(name, bound, 1, 900_000)
    for name, part in zip(("--error-part", "--backlog-part"), given.objective[2:], strict=True):
        _within(name, part, 0, 1)
    try:
        scope = Scope(start_per_second=given.start_per_second, max_per_second=given.max_per_second, seed=given.seed)
        if given.is_quick:
            scope = replace(scope, resolution=QUICK_RESOLUTION, around=0, callers=QUICK_CALLERS)
        if given.callers is not None:
            scope = replace(scope, callers=_callers(given.callers))
        scope = replace(scope, repeats=given.repeats, curve=_curve(given.curve_points))
        traffic = Traffic(
            shape=Shape(name=given.arrivals, per_second=given.start_per_second),
            seconds=given.warm_up_seconds + given.run_seconds,
            seed=given.seed,
            tenants=given.tenants,
            skew=given.skew,
            noisy_part=given.noisy_part,
        )
        work = Work(**given.work)  # type: ignore[arg-type]  # allocate_mib and pad_bytes are whole, as the options are
        spec = LoadSpec("", 0, 0, door=given.door, traffic=traffic, work=work, warm_up_seconds=given.warm_up_seconds)
    except ValueError as e:
        raise CliError(str(e), EXIT_USAGE) from None
    outage_seconds = QUICK_OUTAGE_SECONDS if given.is_quick else OUTAGE_SECONDS
    return Asked(Objective(*given.objective), scope, spec, outage_seconds)


def prices_of(given: Given) -> "Prices":
    """CliError: a price below 0."""
    from loadtest.plan.cost import Prices

    try:
        return Prices(**given.prices)
    except ValueError as e:
        raise CliError(f"--core-hour-price, --gib-hour-price: {e}", EXIT_USAGE) from None


def targets_of(given: Given) -> Sequence[float]:
    """The rates to tell replicas for. CliError: too many, or one out of bounds."""
    from loadtest.plan.findings import TARGETS_PER_SECOND, check_targets

    try:
        check_targets(given.targets_per_second)
    except ValueError as e:
        raise CliError(f"--target-rate: {e}", EXIT_USAGE) from None
    return given.targets_per_second or TARGETS_PER_SECOND


def _curve(points: int) -> tuple[float, ...]:
    """Multiples of the best rate, evenly from CURVE_FROM to CURVE_TO; a single one is the middle."""
    if points < 2:
        return ((CURVE_FROM + CURVE_TO) / 2,) * points
    return tuple(round(CURVE_FROM + (CURVE_TO - CURVE_FROM) * place / (points - 1), 4) for place in range(points))


def _callers(text: str) -> tuple[int, ...]:
    """ValueError: not whole numbers, by commas, within bounds."""
    try:
        found = tuple(int(one) for one in text.split(",") if one.strip())
    except ValueError:
        raise ValueError(f"--callers {text}: whole numbers are expected, by commas, such as 1,2,4,8") from None
    if len(found) > MAX_CLOSED_LOOPS or any(not 1 <= one <= MAX_CALLERS for one in found):
        raise ValueError(f"--callers: at most {MAX_CLOSED_LOOPS} numbers within 1 to {MAX_CALLERS:,}")
    return found


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise CliError(f"{name} must be within {low:g} to {high:g}, not {value:g}", EXIT_USAGE)
