"""Every attack on the weakest and the strongest tier there is, a few on others; `make attacks` tries all of them.

Each attack is a program that runs as a handler and, where that says anything, as a plain process that must succeed.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from services.runtime.sandbox import landlock
from tests.attacks import columns, report
from tests.attacks.attacks import ATTACKS, BY_NUMBER, HOSTILE, SNAP_START
from tests.attacks.expected import LANDLOCK_OF_THIS_TABLE
from tests.attacks.run import run
from tests.attacks.verdicts import controls_missed, surprises

QUICK_SECONDS = 240.0
_STRONGEST = "c" if os.geteuid() == 0 else "0n"
_ALL_NUMBERS = [attack.number for attack in ATTACKS]
QUICK: dict[str, list[int]] = {
    _STRONGEST: [*_ALL_NUMBERS, *([SNAP_START.number] if SNAP_START.is_tried(_STRONGEST) else []), HOSTILE.number],
    "0": _ALL_NUMBERS,
    f"{_STRONGEST}-isolated": [9, 10],
    "0-isolated": [10],
}
pytestmark = [
    pytest.mark.timeout(QUICK_SECONDS),
    pytest.mark.skipif(landlock.version() < LANDLOCK_OF_THIS_TABLE, reason="the table is of kernels with Landlock 6"),
]


@pytest.fixture(scope="module")
def runs() -> dict[str, dict[str, Any]]:
    """The columns, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(
            lambda item: run(columns.BY_NAME[item[0]], item[1], quick=True, within_seconds=QUICK_SECONDS),
            QUICK.items(),
        )
        return dict(zip(QUICK, found, strict=True))


@pytest.mark.parametrize(
    ("name", "number"),
    [(name, number) for name, numbers in QUICK.items() for number in numbers],
    ids=lambda value: value if isinstance(value, str) else BY_NUMBER[value].name.replace(" ", "-"),
)
def test_what_must_be_stopped_is(runs: dict[str, dict[str, Any]], name: str, number: int) -> None:
    """Nothing is obtained but what expected.py admits; the neighbour has no errors; nothing is left behind."""
    facts = runs[name]
    if not facts["supported"]:
        pytest.skip(facts["reason"])
    attack, column = BY_NUMBER[number].without_slow(), columns.BY_NAME[name]
    row = facts["attacks"][str(number)]
    assert not surprises(attack, column, row)
    assert not controls_missed(attack, column, row)


def test_the_published_table_is_of_this_suite() -> None:
    """docs/isolation.md shows what docs/isolation.json holds, and that has every attack and variant of today."""
    found = json.loads(report.FACTS.read_text())
    assert not report.is_of_this_suite(found), "run `make attacks`"
    page = report.PAGE.read_text()
    assert report.with_table(page, found) == page, "run `make attacks`"
