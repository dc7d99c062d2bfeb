"""`evenflow plan`: what a fleet carries on this machine, what breaks first, and how many of each a rate needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cli import plan_modes
from cli.failures import EXIT_USAGE, CliError
from cli.plan_options import Given


@dataclass(frozen=True, slots=True)
class Sizes:
    """How long and how often, where the options do not say."""

    run_seconds: float
    warm_up_seconds: float
    repeats: int
    curve_points: int


FULL = Sizes(8.0, 2.0, 5, 10)
QUICK = Sizes(2.0, 0.5, 2, 2)


# The options of the modes that make no plan.
_OF_COMPARE = ("compare", "out")
_OF_CONFIRM = ("confirm", "rate", "out", "as_json")


def plan(
    ctx: typer.Context,
    accept_p99_ms: Annotated[float, typer.Option(help="Objective: 99 of 100 events are accepted within this.")] = 100.0,
    start_p99_ms: Annotated[float, typer.Option(help="Objective: and their handlers start within this.")] = 250.0,
    error_part: Annotated[float, typer.Option(help="Objective: at most this part fails or never starts.")] = 0.001,
    backlog_part: Annotated[float, typer.Option(help="Objective: depth grows by at most this part.")] = 0.02,
    start_rate: Annotated[float, typer.Option(help="Events a second that the search begins with.")] = 100.0,
    max_rate: Annotated[float, typer.Option(help="Events a second that it never exceeds.")] = 20_000.0,
    run_seconds: Annotated[
        float | None, typer.Option(help="Length of what counts of a run. Default: 8; quick: 2", show_default=False)
    ] = None,
    warm_up_seconds: Annotated[
        float | None, typer.Option(help="Before it, not counted. Default: 2; quick: 0.5", show_default=False)
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(help="Runs at the best rate. Default: 5; quick: 2", show_default=False)
    ] = None,
    curve_points: Annotated[
        int | None,
        typer.Option(help="Rates up to 1.2 times the best one. Default: 10; quick: 2", show_default=False),
    ] = None,
    callers: Annotated[
        str | None,
        typer.Option(
            help="Closed loops of so many callers. Default: 1,2,4,8,16,32,64; quick: 1,4,16", show_default=False
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Short runs, a coarse search: a first look.")] = False,
    seed: Annotated[str, typer.Option(help="Of all schedules.")] = "1",
    door: Annotated[str, typer.Option(help="http, grpc or stream.")] = "http",
    arrivals: Annotated[
        str, typer.Option(metavar="SHAPE", help="constant, poisson, bursts, diurnal, steps or herd.")
    ] = "poisson",
    sleep_ms: Annotated[float, typer.Option(help="Each handler sleeps; 0: a no-op.")] = 20.0,
    burn_ms: Annotated[float, typer.Option(help="Each handler burns CPU.")] = 0.0,
    allocate_mib: Annotated[int, typer.Option(help="Each handler allocates.")] = 0,
    fail_rate: Annotated[float, typer.Option(help="Part of the handlers that fail.")] = 0.0,
    pad_bytes: Annotated[int, typer.Option(help="Bytes added to each payload.")] = 0,
    tenants: Annotated[int, typer.Option(help="Tenants that send.")] = 1,
    skew: Annotated[str, typer.Option(help="Of the tenants: uniform, zipf or lognormal.")] = "uniform",
    noisy: Annotated[float, typer.Option(help="Part of all traffic that one further tenant sends.")] = 0.0,
    queues: Annotated[int, typer.Option(help="Queue nodes of the fleet that is started.")] = 1,
    pollers: Annotated[int, typer.Option(help="Its pollers.")] = 1,
    runtimes: Annotated[int, typer.Option(help="Its runtime hosts.")] = 1,
    shards: Annotated[int | None, typer.Option(help="Its shards. Default: 8", show_default=False)] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Its settings; with handlers that sleep, 8 slots a host."),
    ] = None,
    fleet: Annotated[
        Path | None, typer.Option(help="Measure the fleet that runs on this data directory.", show_default=False)
    ] = None,
    target_rate: Annotated[
        list[float] | None,
        typer.Option(help="Replicas for these events a second. Default: 100 to 100,000", show_default=False),
    ] = None,
    core_hour_price: Annotated[
        float | None,
        typer.Option(
            help="Assumed: 0.04048 USD a vCPU-hour, AWS Fargate's us-east-1 Linux x86 list price as of writing.",
            show_default=False,
        ),
    ] = None,
    gib_hour_price: Annotated[
        float | None,
        typer.Option(help="Assumed: 0.004445 USD a GiB-hour, of the same list.", show_default=False),
    ] = None,
    confirm: Annotated[
        Path | None,
        typer.Option(help="Put a saved plan's prediction for --rate to the test.", show_default=False),
    ] = None,
    rate: Annotated[float | None, typer.Option(help="For --confirm: a rate not measured yet.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A.json B.json", help="Two saved plans beside each other.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The page; its data go beside it as .json. Default: plan.html", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan's JSON, too.")] = False,
) -> None:
    """Measure what a fleet carries: a capacity plan as a page and JSON.

    Finds the highest rate that holds the objective, what breaks first, and the replicas that other rates need. Exit
    code 3: so many runs were void that it shows nothing of the fleet.
    """
    if compare is not None:
        if confirm is not None:
            raise CliError("--compare and --confirm are two things: one at a time", EXIT_USAGE)
        _only(ctx, "--compare", _OF_COMPARE)
        plan_modes.compare(*compare, out or Path("compare.html"))
        return
    if confirm is not None:
        if rate is None:
            raise CliError("--confirm needs --rate: events a second that the plan was not made from", EXIT_USAGE)
        _only(ctx, "--confirm", _OF_CONFIRM)
        plan_modes.confirm(confirm, rate, out, as_json=as_json)
        return
    if rate is not None:
        raise CliError("--rate is for --confirm; --start-rate is where the search begins", EXIT_USAGE)
    sizes = QUICK if quick else FULL
    given = Given(
        objective=(accept_p99_ms, start_p99_ms, error_part, backlog_part),
        start_per_second=start_rate,
        max_per_second=max_rate,
        run_seconds=sizes.run_seconds if run_seconds is None else run_seconds,
        warm_up_seconds=sizes.warm_up_seconds if warm_up_seconds is None else warm_up_seconds,
        repeats=sizes.repeats if repeats is None else repeats,
        curve_points=sizes.curve_points if curve_points is None else curve_points,
        callers=callers,
        is_quick=quick,
        seed=seed,
        door=door,
        arrivals=arrivals,
        work={
            "sleep_ms": sleep_ms,
            "burn_ms": burn_ms,
            "allocate_mib": allocate_mib,
            "fail_rate": fail_rate,
            "pad_bytes": pad_bytes,
        },
        tenants=tenants,
        skew=skew,
        noisy_part=noisy,
        queues=queues,
        pollers=pollers,
        runtimes=runtimes,
        shards=shards,
        settings=tuple(set_ or ()),
        fleet=fleet,
        targets_per_second=tuple(target_rate or ()),
        prices={
            name: value
            for name, value in (("core_hour_usd", core_hour_price), ("gib_hour_usd", gib_hour_price))
            if value is not None
        },
    )
    plan_modes.measure(given, out or Path("plan.html"), as_json=as_json)


def _only(ctx: typer.Context, mode: str, options: Sequence[str]) -> None:
    """CliError: an option was given that says nothing in this mode."""
    for one in ctx.command.params:
        source = ctx.get_parameter_source(one.name or "")
        if source is not None and source.name == "COMMANDLINE" and one.name not in options:
            raise CliError(f"{one.opts[0]} does not apply to {mode}", EXIT_USAGE)
