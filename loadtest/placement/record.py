"""The recorded file: every run with its depths, measured and simulated, one run a line; and the way back."""

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtest.placement.variants import Variant
from loadtest.placement.verdict import Verdict, judge
from loadtest.simulate.spread import max_minus_mean, max_over_mean, mean


@dataclass(frozen=True, slots=True)
class Independent:
    """max - mean by the simulator with draws that the fleet does not have: mean and variance over them."""

    max_minus_mean: float
    variance: float


@dataclass(frozen=True, slots=True)
class Run:
    """One seed. depths: as the queue told them, by shard; simulated: the same traffic and the same draws.

    unknown_events: mean over the choices of the events that the choosing frontend did not know of, None where
    that was not looked at; swapped: simulated
    max - mean under each other policy, empty where there are real runs of those.
    """

    seed: int
    largest_part: float
    depths: tuple[int, ...]
    simulated: tuple[int, ...]
    independent: Independent
    unknown_events: float | None
    swapped: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """All seeds of one variant."""

    variant: Variant
    runs: tuple[Run, ...]
    # When and with which commit.
    measured: str = ""

    @property
    def verdict(self) -> Verdict:
        """Whether they are what the policy should give."""
        return judge(
            [run.depths for run in self.runs],
            [run.simulated for run in self.runs],
            [run.independent.max_minus_mean for run in self.runs],
        )

    def swapped(self, policy: str) -> float:
        """Measured max - mean against the mean of what the simulator says under another policy: 0.1 is 10 % more."""
        return self.verdict.measured / statistics.fmean(run.swapped[policy] for run in self.runs) - 1

    @property
    def independent(self) -> tuple[float, float]:
        """max - mean with other draws: the mean over the seeds, and its standard error over as many real runs."""
        variance = statistics.fmean(run.independent.variance for run in self.runs)
        middle = statistics.fmean(run.independent.max_minus_mean for run in self.runs)
        return middle, (variance / len(self.runs)) ** 0.5

    @property
    def unknown_events(self) -> float | None:
        """Mean over the seeds in which it was looked at."""
        found = [run.unknown_events for run in self.runs if run.unknown_events is not None]
        return statistics.fmean(found) if found else None


def dump(about: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The file's text."""
    parts = []
    for row in rows:
        verdict = row.verdict
        head = {
            "name": row.variant.name,
            "measured": row.measured,
            "variant": dataclasses.asdict(row.variant),
            "agrees": verdict.agrees,
            "max_minus_mean": round(verdict.measured, 3),
            "simulated_max_minus_mean": round(verdict.simulated, 3),
            "difference": round(verdict.difference, 4),
            "independent_difference": round(verdict.independent_difference, 4),
            "independent_error": round(verdict.error, 4),
        }
        runs = ",\n".join("   " + json.dumps(_run(one)) for one in row.runs)
        parts.append("  " + json.dumps(head)[:-1] + ', "runs": [\n' + runs + "\n  ]}")
    return json.dumps(dict(about), indent=1)[:-2] + ',\n "rows": [\n' + ",\n".join(parts) + "\n ]\n}\n"


def load(text: str) -> list[Row]:
    """The rows of a recorded file. ValueError, KeyError or TypeError: it is none."""
    rows = []
    for row in json.loads(text)["rows"]:
        runs = tuple(
            Run(
                one["seed"],
                one["largest_part"],
                tuple(one["depths"]),
                tuple(one["simulated"]),
                Independent(**one["independent"]),
                one["unknown_events"],
                one["swapped"],
            )
            for one in row["runs"]
        )
        rows.append(Row(Variant(**row["variant"]), runs, row["measured"]))
    return rows


def _run(run: Run) -> dict[str, Any]:
    return {
        "seed": run.seed,
        "max": max(run.depths),
        "mean": mean(run.depths),
        "max_minus_mean": round(max_minus_mean(run.depths), 3),
        "max_over_mean": round(max_over_mean(run.depths), 4),
        "largest_part": round(run.largest_part, 6),
        "independent": {name: round(value, 4) for name, value in dataclasses.asdict(run.independent).items()},
        "unknown_events": run.unknown_events,
        "swapped": {policy: round(value, 3) for policy, value in run.swapped.items()},
        "depths": list(run.depths),
        "simulated": list(run.simulated),
    }
