"""What came out, as a page and for programs; pure."""

from typing import Any

from loadtest.bench.stats import quantile, shown
from loadtest.many_functions.scenario import Found, Sizes

FORMAT = 1


def failures(sizes: Sizes, found: Found) -> list[str]:
    """What is not as it must be: every invocation answered, the budget kept, evictions visible."""
    wanted = sizes.functions * sizes.rounds
    problems = []
    if len(found.round_trip_ms) != wanted:
        problems.append(f"{len(found.round_trip_ms)} of {wanted} invocations were answered")
    if found.most_memory_mb > sizes.budget_mb:
        problems.append(f"sandboxes had {found.most_memory_mb} MB of a budget of {sizes.budget_mb} MB")
    if sizes.functions > sizes.sandboxes and not found.evictions.get("memory"):
        problems.append('no eviction with cause "memory" in the metrics')
    return problems


def rows(sizes: Sizes, found: Found) -> dict[str, float]:
    """The figures, by what they are."""
    runs = len(found.round_trip_ms)
    return {
        "functions": sizes.functions,
        "memory budget, MB": sizes.budget_mb,
        "deploying all of them, s": found.deploy_seconds,
        "deploying all of them, functions/s": sizes.functions / found.deploy_seconds,
        "invocations": runs,
        "errors": 0,
        "invocations/s": runs / found.seconds,
        "cold starts, % of invocations": 100 * found.cold_starts / runs,
        "round trip p50, ms": quantile(found.round_trip_ms, 0.5),
        "round trip p99, ms": quantile(found.round_trip_ms, 0.99),
        "evictions for memory": found.evictions.get("memory", 0),
        "most memory in use, MB": found.most_memory_mb,
    }


def as_json(sizes: Sizes, found: Found, machine: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "format": FORMAT,
        "machine": machine,
        "run": {"rounds": sizes.rounds, "in_flight": sizes.in_flight, "sandboxes": sizes.sandboxes},
        "figures": {name: round(value, 3) for name, value in rows(sizes, found).items()},
        "evictions": found.evictions,
        "notes": notes,
    }


def as_markdown(sizes: Sizes, found: Found, about: str, notes: list[str]) -> str:
    """The page."""
    told = [
        "# Many functions: a thousand in turn on memory for fifty",
        "",
        "Written by `make many-functions SAVE=1`. One fleet (`evenflow up --set",
        f"runtime.memory_mb={sizes.budget_mb}`), functions of {sizes.budget_mb // sizes.sandboxes} MB, synchronous",
        f"invocations through the HTTP door, each function in turn, {sizes.rounds} rounds, {sizes.in_flight} in",
        "flight: the worst case for a pool, since a function's turn comes again when its sandbox is long gone. Any",
        "answer but the function's own ends the run.",
        "",
        about,
        "",
        "| what | |",
        "|---|---|",
        *(f"| {name} | {shown(value)} |" for name, value in rows(sizes, found).items()),
        "",
        *(f"- {note}" for note in notes),
    ]
    return "\n".join(told) + "\n"
