"""What a run's findings mean: stopped, not stopped, by design, not shown. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from tests.attacks.attacks import Attack
from tests.attacks.columns import Column
from tests.attacks.expected import CONTROLS_OF_ROOT, gap_of

Row = Mapping[str, Any]
Runs = Mapping[str, Mapping[str, Any]]


class Verdict(StrEnum):
    """Of a variant, and of an attack as a whole, where the worst one counts."""

    STOPPED = "stopped"
    # Refused, but no plain process showed on this machine what success would have looked like.
    NOT_SHOWN = "stopped, not shown"
    BY_DESIGN = "by design"
    NOT_STOPPED = "not stopped"


_WORST_FIRST = (Verdict.NOT_STOPPED, Verdict.BY_DESIGN, Verdict.NOT_SHOWN, Verdict.STOPPED)


def variants_of(attack: Attack, column: Column, row: Row, shown: set[tuple[int, str]]) -> dict[str, Verdict]:
    """Each variant's verdict; what happened to others counts as a variant, too. shown: see `shown_by`."""
    verdicts = {}
    for name, finding in row["findings"].items():
        gap = gap_of(attack.number, name, column)
        if finding["obtained"]:
            verdicts[name] = Verdict.BY_DESIGN if gap is not None and gap.by_design else Verdict.NOT_STOPPED
        elif gap is not None and gap.by_design:
            # Not tried, as it is allowed.
            verdicts[name] = Verdict.BY_DESIGN
        elif name in attack.controls and (attack.number, name) not in shown:
            verdicts[name] = Verdict.NOT_SHOWN
        else:
            verdicts[name] = Verdict.STOPPED
    return verdicts


def worst(verdicts: Mapping[str, Verdict]) -> Verdict:
    """Of an attack."""
    return next(verdict for verdict in _WORST_FIRST if verdict in {Verdict.STOPPED, *verdicts.values()})


def shown_by(runs: Runs) -> set[tuple[int, str]]:
    """Variants that succeeded in a plain process of any column of these runs."""
    return {
        (int(number), name)
        for run in runs.values()
        for number, row in run.get("attacks", {}).items()
        for name, control in row["controls"].items()
        if control["obtained"]
    }


def surprises(attack: Attack, column: Column, row: Row) -> list[str]:
    """What got through although nothing says that it may, in words for who reads a failed test."""
    found = []
    for name, finding in row["findings"].items():
        if finding["obtained"] and gap_of(attack.number, name, column) is None:
            found.append(f"{column.name} {attack.name}, {name}: {finding['obtained'][:3]}")
    missing = set(attack.variants) - set(row["findings"])
    if missing:
        found.append(f"{column.name} {attack.name}: no finding for {sorted(missing)}")
    return found


def controls_missed(attack: Attack, column: Column, row: Row) -> list[str]:
    """Variants whose plain process failed although it runs as who should succeed."""
    return [
        f"{column.name} {attack.name}, {name}: {row['controls'].get(name, row['controls'])}"
        for name in attack.controls
        if not row["controls"].get(name, {}).get("obtained")
        and (column.user == "root" or (attack.number, name) not in CONTROLS_OF_ROOT)
    ]
