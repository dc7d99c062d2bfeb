"""What a run of all seeds comes to: the committed JSON and the text for people. Pure."""

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from loadtest.fair_share.measure import Dwell, Result
from loadtest.fair_share.plan import Plan

# The bystander's flooded p99 over its baseline, at most.
GOAL = 2.0
MIN_SEEDS = 3
MIN_FLOOD_SECONDS = 30.0
MAX_LATE_PART = 0.01


def late_part(results: Sequence[Result]) -> float:
    """Late sends of all sends."""
    phases = [phase for result in results for phase in (result.baseline, result.flood)]
    return sum(phase.late for phase in phases) / sum(phase.sends for phase in phases)


def why_void(plan: Plan, results: Sequence[Result]) -> list[str]:
    """What keeps the run from being one to judge by; empty: nothing."""
    found = []
    if len(results) < MIN_SEEDS:
        found.append(f"{len(results)} seeds, {MIN_SEEDS} are needed")
    if plan.flood_seconds < MIN_FLOOD_SECONDS:
        found.append(f"the flood lasted {plan.flood_seconds:g} s, {MIN_FLOOD_SECONDS:g} s are needed")
    if late_part(results) > MAX_LATE_PART:
        found.append(f"{late_part(results):.1%} of the sends were late, {MAX_LATE_PART:.0%} may be")
    for result in results:
        offered, started = plan.background_load * plan.capacity_per_second, result.flood.started_per_second
        if started < offered:
            found.append(f"seed {result.seed}: with the flood {started:.0f} runs/s began, less than the background")
    return found


def ratio(results: Sequence[Result]) -> float:
    """The median over the seeds."""
    return statistics.median(result.ratio for result in results)


def as_json(about: Mapping[str, Any], plan: Plan, results: Sequence[Result]) -> str:
    """The recorded file."""
    told = {
        **about,
        "plan": dataclasses.asdict(plan),
        "capacity_per_second": plan.capacity_per_second,
        "ratio": round(ratio(results), 3),
        "goal": GOAL,
        "void": why_void(plan, results),
        "seeds": [{**_rounded(dataclasses.asdict(one)), "ratio": round(one.ratio, 3)} for one in results],
    }
    return json.dumps(told, indent=1) + "\n"


def as_text(about: Mapping[str, Any], plan: Plan, results: Sequence[Result]) -> str:
    """The text of docs/fairness/report.md."""
    void, found = why_void(plan, results), ratio(results)
    verdict = f"**{found:.2f}** (goal: at most {GOAL:g}): {'met' if found <= GOAL else 'missed'}."
    lines = ["# A flood and a bystander", "Written by `make fair-share`.", ""]
    if void:
        lines += ["> **Provisional, not a result to judge by**: " + "; ".join(void) + ".", ""]
    lines += [
        "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in about.items()) + ".",
        "",
        f"A whole fleet. Handlers sleep {plan.handler_ms} ms, {plan.slots} may run at once (account concurrency): "
        f"{plan.capacity_per_second:g} events/s. {plan.quiet_tenants + 1} tenants, each with an access key and a "
        f"function of its own, need {plan.background_load:.0%} of that; the bystander is one of them "
        f"({plan.bystander_per_second:g}/s). Then another tenant sends {plan.noisy_load:g} times the capacity for "
        f"{plan.flood_seconds:g} s beside them. Arrivals are Poisson, seeded, open loop; dwell is from the *intended* "
        "send to the start of the handler, over every event of the phase, the first moments of the flood included.",
        "",
        f"The bystander's p99 with the flood over its p99 without, median of {len(results)} seeds: {verdict}",
        "",
        "| seed | bystander's dwell p50 / p99, ms: baseline | flooded | ratio "
        "| other quiet tenants' p50 / p99: baseline | flooded | noisy runs/s | all runs/s | late sends |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in results:
        late = one.baseline.late + one.flood.late
        cells = [
            str(one.seed),
            _shown(one.baseline.bystander),
            _shown(one.flood.bystander),
            f"{one.ratio:.2f}",
            _shown(one.baseline.quiet),
            _shown(one.flood.quiet),
            f"{one.flood.noisy_started_per_second:.0f}",
            f"{one.flood.started_per_second:.0f}",
            f"{late} of {one.baseline.sends + one.flood.sends}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _shown(dwell: Dwell) -> str:
    return f"{dwell.p50_ms:.1f} / {dwell.p99_ms:.1f} (n={dwell.count})"


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return round(value, 3) if isinstance(value, float) else value
