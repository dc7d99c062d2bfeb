"""`evenflow simulate`: the fleet's own policies on a virtual clock. Needs no fleet, but requirements/load.txt."""

from pathlib import Path
from typing import Annotated

import typer

from cli.output import console, table
from cli.simulations import check_paths, failures, figure, percent, policy_names, progress, tell_written, write_json

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "simulation"
# What is counted of a flood, service times since it began.
_WINDOW = (0.0, 2_000.0)

group = typer.Typer(
    help="Run the shard-choice policies on a virtual clock: placement, queues, floods.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.", show_default=False)]
PlotFile = Annotated[Path | None, typer.Option("--plot", help="Draw them, .svg or .png.", show_default=False)]
Processes = Annotated[int, typer.Option(help="Processes side by side; 0: one a core.", min=0, max=64)]
Shards = Annotated[int, typer.Option(help="Shards.", min=1, max=10_000)]
Seeds = Annotated[int, typer.Option(help="Seeds, 0 and up.", min=1, max=10_000)]
Policies = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        help="This policy only; again for more: hash, random, best_of_two, best_of_three, best_of_four, shuffle_two, "
        "shuffle_quota, global_least, global_least_first.",
        show_default=False,
    ),
]


@group.command()
def placement(
    shards: Shards = 100,
    tenants: Annotated[int, typer.Option(help="Tenants.", min=1, max=1_000_000)] = 10_000,
    sigma: Annotated[float, typer.Option(help="Lognormal skew of their traffic; 0: all alike.", min=0, max=10)] = 3.55,
    events: Annotated[int, typer.Option(help="Events a shard.", min=1)] = 100,
    age: Annotated[list[int] | None, typer.Option(help="Age of depths, events a shard; again for more.")] = None,
    reports: Annotated[str, typer.Option(help="board: all told anew every age; delayed: exactly so old.")] = "board",
    policy: Policies = None,
    seeds: Seeds = 20,
    processes: Processes = 0,
    json_file: JsonFile = None,
    plot_file: PlotFile = None,
) -> None:
    """Put events into shards that nothing leaves and show how uneven each policy makes them."""
    with failures():
        from loadtest.simulate import policies
        from loadtest.simulate.choices import POLICIES

        check_paths(json_file, plot_file)
        names, ages = policy_names(policy or tuple(POLICIES)), tuple(age or (0, 1, 10))
        with progress(policies.runs_of(ages, seeds, names)) as done:
            found = policies.compare(
                shards,
                tenants,
                sigma,
                events,
                ages,
                seeds,
                policies=names,
                kind=reports,
                processes=processes,
                done=done,
            )
        numbers = ("age", "max / mean", "lowest", "highest", "max - mean")
        shown = table("policy", *numbers, right=numbers)
        for one in found:
            ratios = (one.max_over_mean, one.low, one.high, one.max_minus_mean)
            shown.add_row(one.policy, str(one.stale_events_a_shard), *map(figure, ratios))
        console().print(shown)
        console().print(
            f"{shards:,} shards, {events:,} events a shard, {tenants:,} tenants (sigma {sigma:g}), reports {reports}, "
            f"{seeds:,} seeds; the deepest shard against the mean, medians over the seeds; age in events a shard"
        )
        settings = {"shards": shards, "tenants": tenants, "sigma": sigma, "events_a_shard": events, "seeds": seeds}
        write_json(json_file, "placement", {**settings, "reports": reports}, found)
        if plot_file is not None:
            from loadtest.simulate import plots

            plots.outcomes(found, plot_file)
        tell_written(json_file, plot_file)


@group.command()
def queueing(
    shards: Shards = 100,
    load: Annotated[float, typer.Option(help="Arrivals as a part of what the shards drain.", min=0.001, max=10)] = 0.9,
    age: Annotated[list[float] | None, typer.Option(help="Age of depths, service times; again for more.")] = None,
    reports: Annotated[str, typer.Option(help="board, delayed, or own_sends: each frontend counts its own.")] = "board",
    frontends: Annotated[int, typer.Option(help="Frontends, each with depths of its own.", min=1, max=64)] = 1,
    service: Annotated[str, typer.Option(help="Service times: exponential, fixed or lognormal.")] = "exponential",
    service_sigma: Annotated[float, typer.Option(help="Sigma of lognormal service times.", min=0, max=5)] = 1.0,
    order: Annotated[str, typer.Option(help="Dequeue: fifo, or fair as the queue service has it.")] = "fifo",
    tenants: Annotated[int, typer.Option(help="Tenants.", min=1, max=1_000_000)] = 1,
    sigma: Annotated[float, typer.Option(help="Lognormal skew of their traffic; 0: all alike.", min=0, max=10)] = 0.0,
    length: Annotated[float, typer.Option(help="Counted service times, after a warm-up of 500.", min=1)] = 2_000.0,
    policy: Policies = None,
    seeds: Seeds = 2,
    processes: Processes = 0,
    json_file: JsonFile = None,
    plot_file: PlotFile = None,
) -> None:
    """Run a Poisson stream through shards that drain it and show response times and queue tails."""
    with failures():
        from loadtest.simulate import queues
        from loadtest.simulate.queueing import Scenario, p99_text

        check_paths(json_file, plot_file)
        names = policy_names(policy or ("random", "best_of_two", "best_of_four", "global_least"))
        ages = tuple(age or (0.0, 5.0, 20.0))
        base = Scenario(
            names[0],
            shards,
            load,
            service=service,
            service_sigma=service_sigma,
            reports=reports,
            frontends=frontends,
            tenants=tenants,
            tenant_sigma=sigma,
            order=order,
            length=length,
        )
        with progress(len(names) * len(ages) * seeds) as done:
            found = queues.compare(base, names, ages, seeds, processes=processes, done=done)
        numbers = (
            "age",
            "response",
            "lowest",
            "highest",
            "p99",
            "never ended",
            *(f"P(depth >= {depth})" for depth in queues.TAIL),
        )
        shown = table("policy", *numbers, right=numbers)
        for one in found:
            responses = (one.response, one.low, one.high)
            late = (p99_text(one.response_p99, one.response_p99_most), percent(one.never_ended))
            shown.add_row(one.policy, f"{one.report_age:g}", *map(figure, responses), *late, *map(percent, one.tail))
        console().print(shown)
        console().print(
            f"{shards:,} shards at load {load:g}, {service} service, {order}, {tenants:,} tenants, {frontends} "
            f"frontends, reports {reports}, {length:,.0f} service times, {seeds:,} seeds; times in service times"
        )
        if load >= 1:
            what = "above" if load > 1 else "at"
            console().print(f"load is {what} 1: queues grow for ever, and all figures with the length of the run")
        settings = {"shards": shards, "load": load, "reports": reports, "frontends": frontends, "service": service}
        more = {"service_sigma": service_sigma, "order": order, "tenants": tenants, "sigma": sigma, "length": length}
        write_json(json_file, "queueing", {**settings, **more, "seeds": seeds, "tail": queues.TAIL}, found)
        if plot_file is not None:
            from loadtest.simulate import plots
            from loadtest.simulate.staleness import Curve

            lines = [
                Curve(name.replace("_", " "), ages, [one.response for one in found if one.policy == name])
                for name in names
            ]
            plots.responses(lines, plot_file)
        tell_written(json_file, plot_file)


@group.command()
def flood(
    shards: Shards = 100,
    begun: Annotated[float, typer.Option(help="Count from here, service times since it began.", min=0)] = _WINDOW[0],
    ended: Annotated[float, typer.Option(help="Count until here.", min=1)] = _WINDOW[1],
    seed: Annotated[int, typer.Option(help="The seed.", min=0)] = 0,
    processes: Processes = 0,
    json_file: JsonFile = None,
    plot_file: PlotFile = None,
) -> None:
    """Let one tenant flood shards at half load and show what the other tenants' events meet."""
    with failures():
        from loadtest.simulate import flood as floods

        check_paths(json_file, plot_file)
        if not ended > begun:
            raise ValueError(f"--ended must be above --begun, {begun:g}, not {ended:g}")
        windows = [(begun, ended)]
        with progress(floods.runs_of(windows)) as done:
            found = floods.make(windows, seed=seed, shards=shards, processes=processes, done=done)
        # What the design says is of this scenario alone.
        designed = (shards, begun, ended) == (floods.SHARDS, *_WINDOW)
        numbers = ("met over 50", *(("design",) if designed else ()), "response", "p99", "never ended")
        shown = table("policy", "dequeue", *numbers, right=numbers)
        for one in found:
            met = (percent(one.deep_part), *((percent(floods.PUBLISHED[one.name]),) if designed else ()))
            shown.add_row(one.name, one.order, *met, figure(one.response), one.p99_text, percent(one.never_ended))
        console().print(shown)
        console().print(
            f"{shards:,} shards, {floods.TENANTS:,} tenants at {floods.BACKGROUND_LOAD:g} of the capacity and "
            f"one more at {floods.FLOOD_LOAD:g}, service times {begun:,g} to {ended:,g} since that began, seed {seed}; "
            "the others' events: met over 50 is the part that met a depth over 50, responses in service times"
        )
        if designed:
            console().print("design: figures of the design's own simulation (docs/simulation)")
        write_json(json_file, "flood", {"shards": shards, "begun": begun, "ended": ended, "seed": seed}, found)
        if plot_file is not None:
            from loadtest.simulate import plots

            plots.isolation(found, plot_file)
        tell_written(json_file, plot_file)


@group.command("table")
def whole_table(
    save: Annotated[
        bool, typer.Option("--save", help="Also theory, old depths and floods; write docs/simulation.")
    ] = False,
    part: Annotated[
        list[str] | None,
        typer.Option(
            "--part", help="With --save, only table, theory, ages or floods; again for more. Others are kept."
        ),
    ] = None,
    processes: Processes = 0,
    json_file: JsonFile = None,
    plot_file: PlotFile = None,
) -> None:
    """Reproduce the design's table of placement beside what it says, up to 10,000 shards and a million tenants."""
    with failures():
        from loadtest.simulate import pages, plots, study
        from loadtest.simulate import table as tables
        from loadtest.simulate.checks import Effort

        check_paths(json_file, plot_file)
        if part and not save:
            raise ValueError("--part needs --save")
        if save:
            effort, chosen = Effort(), tuple(part or study.PARTS)
            before = study.load((FOLDER / "table.json").read_text()) if part else None
            with progress(study.runs_of(effort, chosen)) as done:
                whole = study.run(effort, processes, done, chosen, before)
            pages.save(whole, FOLDER)
            cells = whole.cells
        else:
            with progress(tables.runs_of()) as done:
                cells = tables.make(processes=processes, done=done)
        numbers = ("shards", "age", "design", "max / mean", "lowest", "highest", "ratio", "exactly so old")
        shown = table("policy", *numbers, right=numbers)
        for cell in cells:
            ratios = (cell.published, cell.found, cell.low, cell.high, cell.ratio, cell.delayed)
            shown.add_row(cell.policy, f"{cell.shards:,}", str(cell.age), *map(figure, ratios))
        console().print(shown)
        console().print(
            f"max / mean: depth of the deepest shard against the mean, {tables.EVENTS_A_SHARD} events a shard; design: "
            "figures of the design's own simulation (docs/simulation); ratio: found against those"
        )
        write_json(json_file, "table", {}, cells)
        if plot_file is not None:
            plots.spread(cells, plot_file)
        tell_written(json_file, plot_file, FOLDER if save else None)
