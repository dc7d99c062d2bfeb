"""The ledger of usage: exact sums, bounded days and functions, and what its files survive."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime import usage
from services.runtime.usage import FOLDED_DAY, NS_PER_DAY, UsageLedger, UsageRow
from services.runtime.usage_files import UsageFiles, day_number, day_text

DAY = day_number("2026-11-25")


def at(day: int) -> int:
    """Noon of that day."""
    return day * NS_PER_DAY + NS_PER_DAY // 2


def everything(ledger: UsageLedger) -> dict[tuple[int, str, str], list[int]]:
    """All rows by day, tenant and function."""
    return {(day, *key): row.values() for day, key, row in ledger.rows(FOLDED_DAY)}


def test_a_run_is_counted_under_its_function_and_day() -> None:
    """Compute is memory size times billed time."""
    ledger = UsageLedger()
    ledger.ran(("t", "f"), at(DAY), 128, 3, 1, is_error=False)
    ledger.ran(("t", "f"), at(DAY), 256, 10, 5, is_error=True)
    ledger.ran(("t", "f"), at(DAY + 1), 128, 1, 1, is_error=False)
    ledger.initialised(("t", "g"), at(DAY), 7)
    assert everything(ledger) == {
        (DAY, "t", "f"): [2, 13, 3 * 128 + 10 * 256, 6, 1, 0],
        (DAY, "t", "g"): [0, 0, 0, 0, 0, 7],
        (DAY + 1, "t", "f"): [1, 1, 128, 1, 0, 0],
    }
    assert [day for day, _, _ in ledger.rows(DAY + 1)] == [DAY + 1]
    assert ledger.changed == {DAY, DAY + 1}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 400), st.integers(1, 900_000)), max_size=300))
def test_nothing_is_lost_when_old_days_are_folded(runs: list[tuple[str, int, int]]) -> None:
    """Whatever the order of days, clocks set back included: every tenant's sum is exact, and the days are bounded."""
    ledger, wanted = UsageLedger(), Counter[str]()
    for tenant, day, billed_ms in runs:
        ledger.ran((tenant, "f"), at(DAY + day), 128, billed_ms, 1, is_error=False)
        wanted[tenant] += billed_ms
    found = Counter[str]()
    for (_, tenant, _), values in everything(ledger).items():
        found[tenant] += values[1]
    assert found == wanted
    days = {day for day, _, _ in ledger.rows(1)}
    assert len(days) <= usage.MAX_DAYS and all(day > ledger.folded_through for day in days)


def test_endless_functions_do_not_grow_it_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """First by tenant together, then all together."""
    monkeypatch.setattr(usage, "MAX_ROWS_A_DAY", 2)
    ledger = UsageLedger()
    for tenant in "abcd":
        for name in "fg":
            ledger.ran((tenant, name), at(DAY), 128, 1, 1, is_error=False)
    assert {key: values[0] for key, values in everything(ledger).items()} == {
        (DAY, "a", "f"): 1, (DAY, "a", "g"): 1, (DAY, "b", ""): 2, (DAY, "c", ""): 2, (DAY, "", ""): 2,
    }  # fmt: skip


async def test_what_is_saved_is_there_after_a_start(tmp_path: Path) -> None:
    """And counting goes on from it."""
    ledger = UsageLedger()
    ledger.ran(("t", "f"), at(DAY), 128, 3, 1, is_error=False)
    await UsageFiles(ledger, _made(tmp_path)).save()
    assert ledger.changed == set()
    again = UsageLedger()
    UsageFiles(again, tmp_path).load()
    again.ran(("t", "f"), at(DAY), 128, 4, 1, is_error=False)
    assert everything(again) == {(DAY, "t", "f"): [2, 7, 7 * 128, 2, 0, 0]}


async def test_a_fold_counts_once_whenever_the_host_is_killed(tmp_path: Path) -> None:
    """Before, between and after the replacement of the file and the removal of the days in it."""
    ledger = UsageLedger()
    files = UsageFiles(ledger, _made(tmp_path))
    for day in range(usage.MAX_DAYS):
        ledger.ran(("t", f"f{day}"), at(DAY + day), 128, 1, 1, is_error=False)
    await files.save()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for day in range(usage.MAX_DAYS, usage.MAX_DAYS + 3):
        ledger.ran(("t", "late"), at(DAY + day), 128, 1, 1, is_error=False)
    await files.save()
    assert not (tmp_path / f"{day_text(DAY + 2)}.json").exists()
    for name, data in before.items():
        # As if the removal had not come to pass.
        if not (tmp_path / name).exists():
            (tmp_path / name).write_bytes(data)
    again = UsageLedger()
    UsageFiles(again, tmp_path).load()
    assert sum(values[0] for values in everything(again).values()) == usage.MAX_DAYS + 3
    assert everything(again)[FOLDED_DAY, "t", ""][0] == 3
    assert everything(again) == everything(ledger)


def test_a_damaged_file_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Named in the log; the other days are read."""
    for name, text in (
        (day_text(DAY), '{"format": 1, "rows": [["t", "f", [1, 2, 3, 4, 5, 6]]]}'),
        (day_text(DAY + 1), '{"format": 1, "rows": [["t", "f", [1, 2'),
        (day_text(DAY + 2), '{"format": 9, "rows": []}'),
        (day_text(DAY + 3), '{"format": 1, "rows": [["t", "f", [1, 2, 3, 4, 5, -6]]]}'),
        (day_text(DAY + 4), "[]"),
    ):
        (tmp_path / f"{name}.json").write_text(text)
    ledger = UsageLedger()
    UsageFiles(ledger, tmp_path).load()
    assert everything(ledger) == {(DAY, "t", "f"): [1, 2, 3, 4, 5, 6]}
    assert len(list(tmp_path.glob("*.damaged"))) == 4 and len(caplog.records) == 4
    assert "is set aside" in caplog.text


async def test_what_cannot_be_saved_is_saved_later(tmp_path: Path) -> None:
    """A folder that is away, as a full disk would be."""
    ledger = UsageLedger()
    files = UsageFiles(ledger, tmp_path / "usage")
    ledger.ran(("t", "f"), at(DAY), 128, 3, 1, is_error=False)
    await files.save()
    assert ledger.changed == {DAY}
    (tmp_path / "usage").mkdir()
    await files.save()
    saved = json.loads((tmp_path / "usage" / f"{day_text(DAY)}.json").read_text())
    assert saved["rows"] == [["t", "f", [1, 3, 384, 1, 0, 0]]]


def test_a_row_knows_its_own_sum() -> None:
    """Field by field."""
    row = UsageRow(1, 2, 3, 4, 5, 6)
    row.add(UsageRow(10, 20, 30, 40, 50, 60))
    assert row.values() == [11, 22, 33, 44, 55, 66]


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder
