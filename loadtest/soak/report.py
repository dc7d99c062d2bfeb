"""What came out: a page, facts for programs, a plot."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from loadtest.plan.site import SANDBOXES
from loadtest.soak import plan as plans
from loadtest.soak.judge import QUANTILES, RECORDS, SHARD_FILES, WAL, Judged, Run, by_stretch
from loadtest.soak.verdict import LATENCY_RATIO, MIB
from loadtest.soak.watch import Sample

FORMAT = 1


def line(sample: Sample) -> str:
    """One look, for whoever waits."""
    services = sum(one.rss_bytes for name, one in sample.nodes.items() if name != SANDBOXES) / MIB
    fds = sum(max(one.fds, 0) for name, one in sample.nodes.items() if name != SANDBOXES)
    sandboxes = sample.nodes[SANDBOXES].processes if SANDBOXES in sample.nodes else 0
    return (
        f"{sample.at_seconds:6.0f} s: {services:.0f} MiB, {fds} fds, {sandboxes} sandbox processes, "
        f"shards {sample.disk.get(SHARD_FILES, 0) / MIB:.1f} MiB, WAL {sample.disk.get(WAL, 0) / MIB:.1f} MiB, "
        f"{sample.outcomes:,} outcomes, {sample.dead_letters:,} dead letters, depth {sample.depth:,}, "
        f"{sample.finished:,} ended, load {sample.load_average:.1f}"
    )


def latencies(run: Run) -> dict[str, dict[str, tuple[list[float], list[float]]]]:
    """By measure and quantile: the begin of each stretch and its ms."""
    return {
        measure: {name: by_stretch(at, values_ms, part, run.plan.sample_seconds) for name, part in QUANTILES.items()}
        for measure, (at, values_ms) in run.latencies.items()
    }


def as_json(run: Run, judged: Judged, about: dict[str, Any], notes: Sequence[str]) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "format": FORMAT,
        "machine": about,
        "plan": {**asdict(run.plan), "warm_up_seconds": run.plan.warm_up_seconds, **asdict(run.plan.fleet())},
        "flat": not judged.not_flat,
        "latency_not_judged": judged.latency_void,
        "findings": [asdict(one) for one in judged.findings],
        "ledger": {**asdict(run.ledger), "lost": run.ledger.lost},
        "missed_looks": run.missed,
        "samples": [asdict(one) for one in run.samples],
        "latencies_ms": {
            measure: {
                name: [[round(at, 1), round(ms, 3)] for at, ms in zip(*found, strict=True)]
                for name, found in by_name.items()
            }
            for measure, by_name in latencies(run).items()
        },
        "notes": list(notes),
    }


def as_markdown(run: Run, judged: Judged, about: str, notes: Sequence[str]) -> str:
    """The page."""
    plan, not_flat = run.plan, judged.not_flat
    seconds = plan.seconds
    said = "**Flat.**" if not not_flat else f"**Not flat**: {', '.join(one.name for one in not_flat)}."
    # What was not judged is said beside what was.
    if judged.latency_void:
        said += f" Latency not judged: {judged.latency_void}."
    told = [
        "# Soak: a fleet under steady load",
        "",
        f"Written by `make soak SAVE=1`. {plan.minutes:g} minutes at {plan.rate:g} events a second (Poisson, open",
        f"loop), half through the HTTP door and half through the gRPC door, on {plans.QUEUES} queue nodes,",
        f"{plans.POLLERS} pollers, {plans.RUNTIMES} runtime hosts, {plans.SHARDS} shards. Handlers sleep",
        f"{plans.SLEEP_MS:g} ms; {100 * plans.FAIL_RATE:g} % of the events fail, are tried again once, and then go to",
        "a failure destination (those of the HTTP door) or to the dead letters (gRPC).",
        f"{plans.PROBES_PER_SECOND:g} probes a second are followed to their end.",
        "",
        said,
        "",
        "Growth until a store is full is by design, so every store is made small enough to be full in the warm-up of",
        f"{plan.warm_up_seconds:.0f} s, and what comes then is judged:",
        "",
        *(f"- `{key}={value}`" for key, value in plan.fleet().settings.items()),
        "",
        "A slope is Theil and Sen's over all samples after the warm-up. A series grows when the lower end of the",
        "slope's 95 % interval is above the first bound and it came to more than the second one in all. Latencies: the",
        f"median stretch of the last third against {LATENCY_RATIO:g} times that of the first, beyond the scheduler's",
        f"noise. The folder `{RECORDS}` grows by 32 bytes an event, the generator's own records, and is not judged.",
        "",
        about,
        "",
        "![series](soak.svg)",
        "",
        "| series | found | allowed | |",
        "|---|---|---|---|",
        *(
            f"| {one.name} | {one.figure} | {one.bound} | {'flat' if one.is_flat else '**not flat**: ' + one.look_at} |"
            for one in judged.findings
        ),
        "",
    ]
    if judged.latency_void:
        told += ["Latencies, not judged:", "", "| measure | median stretch |", "|---|---|"]
        for measure, by_name in latencies(run).items():
            for name, (at, values_ms) in by_name.items():
                judged_ms = [ms for begin, ms in zip(at, values_ms, strict=True) if begin >= plan.warm_up_seconds]
                shown = f"{float(np.median(judged_ms)):.1f} ms" if judged_ms else "none"
                told.append(f"| {measure}, {name} | {shown} |")
        told.append("")
    told += [f"- {note}" for note in notes]
    told.append(f"- {len(run.samples)} looks, one every {plan.sample_seconds:g} s of {seconds:.0f} s")
    return "\n".join(told) + "\n"


def plot(run: Run, path: Path) -> None:
    """Eight panels over the time of the run, the warm-up shaded; SVG or PNG by the name."""
    # Drawing needs seconds to be loaded, and is not needed without --save.
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "evenflow", "font.size": 9})
    from matplotlib import pyplot

    minutes = [one.at_seconds / 60 for one in run.samples]
    names = [name for name in dict.fromkeys(n for one in run.samples for n in one.nodes) if name != SANDBOXES]
    figure, panels = pyplot.subplots(2, 4, figsize=(16, 6.5))
    titles: dict[str, dict[str, tuple[Sequence[float], Sequence[float]]]] = {
        "memory, MiB": {
            name: (minutes, [one.nodes[name].rss_bytes / MIB if name in one.nodes else np.nan for one in run.samples])
            for name in names
        },
        "open fds": {
            name: (minutes, [one.nodes[name].fds if name in one.nodes else np.nan for one in run.samples])
            for name in names
        },
        "disk, MiB": {
            kind: (minutes, [one.disk.get(kind, 0) / MIB for one in run.samples])
            for kind in sorted({kind for one in run.samples for kind in one.disk} - {RECORDS})
        },
        "outcome rows": {"outcomes": (minutes, [one.outcomes for one in run.samples])},
        "dead letters": {"dead letters": (minutes, [one.dead_letters for one in run.samples])},
        "depth": {"depth": (minutes, [one.depth for one in run.samples])},
        "sandbox processes": {
            SANDBOXES: (
                minutes,
                [one.nodes[SANDBOXES].processes if SANDBOXES in one.nodes else 0 for one in run.samples],
            )
        },
        "p99, ms": {
            measure: ([at / 60 for at in by_name["p99"][0]], by_name["p99"][1])
            for measure, by_name in latencies(run).items()
        },
    }
    for panel, (title, lines) in zip(panels.flat, titles.items(), strict=True):
        panel.axvspan(0, run.plan.warm_up_seconds / 60, color="#eeeeee")
        for name, (at, values) in lines.items():
            panel.plot(at, values, linewidth=1, label=name)
        panel.set_title(title)
        panel.set_ylim(bottom=0)
        panel.set_xlabel("minutes")
        if len(lines) > 1:
            panel.legend(frameon=False, fontsize=6)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
