"""Everything that docs/simulation tells: the table, theory, stale depths and a flood, in one file of data."""

import dataclasses
import json
import platform
import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loadtest.simulate import flood, staleness, table
from loadtest.simulate.checks import LOAD, Check, Effort, run_checks
from loadtest.simulate.checks import runs_of as runs_of_checks

FORMAT = 2
# What may be run by itself, the rest being kept as it is recorded.
PARTS = ("table", "theory", "ages", "floods")
# Service times since the flood began: all of it, and a part that was chosen because its figures are near the design's.
FLOOD_WINDOWS = ((0.0, 2_000.0), (400.0, 1_200.0))
CURVE_SHARDS = 100
CURVE_LENGTH = 1_000.0
CURVE_SEED = 0


@dataclass(frozen=True, slots=True)
class Study:
    """What the runs found; the same program and seeds give the same figures, but for `cpu_seconds`, by part."""

    cells: Sequence[table.Cell]
    luck: Sequence[table.Luck]
    checks: Sequence[Check]
    curves: Sequence[staleness.Curve]
    floods: Sequence[flood.Isolation]
    effort: Effort
    cpu_seconds: Mapping[str, float]
    python: str
    numpy: str


def run(
    effort: Effort,
    processes: int = 0,
    done: Callable[[], None] = lambda: None,
    parts: Sequence[str] = PARTS,
    before: Study | None = None,
) -> Study:
    """All of it, or these parts of it and the others as they were `before`: minutes on two cores.

    `done` is called runs_of(effort, parts) times. ValueError: no such part, or nothing to keep of the others.
    """
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no part of the study: {', '.join(PARTS)}")
    makers: Mapping[str, Callable[[], dict[str, Any]]] = {
        "table": lambda: {
            "cells": table.make(processes=processes, done=done),
            "luck": [table.luck(part.tenants) for part in table.PARTS],
        },
        "theory": lambda: {"checks": run_checks(effort, processes, done)},
        "ages": lambda: {"curves": staleness.make(CURVE_SHARDS, LOAD, CURVE_LENGTH, CURVE_SEED, processes, done)},
        "floods": lambda: {
            "floods": [
                *flood.make(FLOOD_WINDOWS[:1], processes=processes, done=done),
                *flood.make(FLOOD_WINDOWS[1:], ("fifo",), processes=processes, done=done),
            ]
        },
    }
    if before is None and set(parts) != set(PARTS):
        raise ValueError("nothing is recorded that the other parts could be kept of: run all of them")
    found: dict[str, Any] = {}
    spent = dict(before.cpu_seconds) if before else {}
    for part in PARTS:
        if part in parts:
            began = _cpu_seconds()
            found |= makers[part]()
            spent[part] = _cpu_seconds() - began
    about: dict[str, Any] = {
        "effort": effort,
        "cpu_seconds": spent,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    return Study(**found, **about) if before is None else dataclasses.replace(before, **found, **about)


def runs_of(effort: Effort, parts: Sequence[str] = PARTS) -> int:
    """Runs, for a progress bar."""
    floods = flood.runs_of(FLOOD_WINDOWS[:1]) + flood.runs_of(FLOOD_WINDOWS[1:], ("fifo",))
    runs = {"table": table.runs_of(), "theory": runs_of_checks(effort), "ages": staleness.runs_of(), "floods": floods}
    return sum(runs.get(part, 0) for part in parts)


def _cpu_seconds() -> float:
    """Of this process and of those that it has started and that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def dump(study: Study) -> str:
    """The file's text, one figure a line."""
    given = _rounded(dataclasses.asdict(study))
    lines = [f' "format": {FORMAT}']
    for name, value in given.items():
        if isinstance(value, list | tuple):
            rows = ",\n".join("  " + json.dumps(row) for row in value)
            lines.append(f' "{name}": [\n{rows}\n ]')
        else:
            lines.append(f' "{name}": {json.dumps(value)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def load(text: str) -> Study:
    """A recorded study. ValueError, KeyError or TypeError: it is none of this format."""
    told = json.loads(text)
    if told.pop("format") != FORMAT:
        raise ValueError(f"a study of another format than {FORMAT}: run `evenflow simulate table --save`")
    kinds: dict[str, Any] = {
        "cells": table.Cell,
        "luck": table.Luck,
        "checks": Check,
        "curves": staleness.Curve,
        "floods": flood.Isolation,
    }
    for name, kind in kinds.items():
        told[name] = [kind(**row) for row in told[name]]
    told["effort"] = Effort(**told["effort"])
    return Study(**told)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return value
