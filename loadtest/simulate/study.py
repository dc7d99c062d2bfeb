"""Everything that docs/simulation tells: the table, theory, stale depths and a flood, in one file of data."""

import dataclasses
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loadtest.simulate import flood, staleness, table
from loadtest.simulate.checks import LOAD, Check, Effort, run_checks
from loadtest.simulate.checks import runs_of as runs_of_checks

FORMAT = 1
# Service times since the flood began: all of a flood, and the part whose figures are those of capacity.md.
FLOOD_WINDOWS = ((0.0, 2_000.0), (400.0, 1_200.0))
CURVE_SHARDS = 100
CURVE_LENGTH = 1_500.0
CURVE_SEED = 0


@dataclass(frozen=True, slots=True)
class Study:
    """What the runs found; the same program and seeds give the same figures, `seconds` apart."""

    cells: Sequence[table.Cell]
    luck: Sequence[table.Luck]
    checks: Sequence[Check]
    curves: Sequence[staleness.Curve]
    floods: Sequence[flood.Isolation]
    effort: Effort
    seconds: float
    python: str
    numpy: str


def run(effort: Effort, processes: int = 0, done: Callable[[], None] = lambda: None) -> Study:
    """All of it: minutes on two cores. `done` is called runs_of(effort) times."""
    began = time.monotonic()
    cells = table.make(processes=processes, done=done)
    checked = run_checks(effort, processes, done)
    curves = staleness.make(CURVE_SHARDS, LOAD, CURVE_LENGTH, CURVE_SEED, processes, done)
    floods = [
        *flood.make(FLOOD_WINDOWS[:1], processes=processes, done=done),
        *flood.make(FLOOD_WINDOWS[1:], ("fifo",), processes=processes, done=done),
    ]
    return Study(
        cells,
        [table.luck(part.tenants) for part in table.PARTS],
        checked,
        curves,
        floods,
        effort,
        time.monotonic() - began,
        platform.python_version(),
        np.__version__,
    )


def runs_of(effort: Effort) -> int:
    """Runs, for a progress bar."""
    floods = flood.runs_of(FLOOD_WINDOWS[:1]) + flood.runs_of(FLOOD_WINDOWS[1:], ("fifo",))
    return table.runs_of() + runs_of_checks(effort) + staleness.runs_of() + floods


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
