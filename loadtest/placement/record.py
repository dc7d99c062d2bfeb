"""The recorded file: every run with its depths and expectations, one run a line; and the way back."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtest.placement.expected import Expected
from loadtest.placement.spread import max_minus_mean, max_over_mean, mean
from loadtest.placement.variants import Variant
from loadtest.placement.verdict import Verdict, judge


@dataclass(frozen=True, slots=True)
class Run:
    """One seed. depths: as the queue told them, by shard; fresh, stale: what to expect (see verdict.judge)."""

    seed: int
    largest_quota: float
    depths: tuple[int, ...]
    fresh: Expected
    stale: Expected


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
        return judge(self.variant, [r.depths for r in self.runs], [r.fresh for r in self.runs], self._stale())

    def _stale(self) -> list[Expected]:
        return [r.stale for r in self.runs]


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
            "outside_by": round(verdict.difference, 3),
            "tolerance": round(verdict.tolerance, 3),
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
                one["largest_quota"],
                tuple(one["depths"]),
                Expected(**one["expected"]),
                Expected(**one["expected_when_stale"]),
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
        "largest_quota": round(run.largest_quota, 6),
        "expected": _expected(run.fresh),
        "expected_when_stale": _expected(run.stale),
        "depths": list(run.depths),
    }


def _expected(expected: Expected) -> dict[str, float]:
    return {name: round(value, 4) for name, value in dataclasses.asdict(expected).items()}
