"""The recorded study: what docs/simulation says follows from its data, and the data hold what they are to show."""

from pathlib import Path

import pytest

from loadtest.simulate import policies, report, study, table

FOLDER = Path(__file__).parents[4] / "docs" / "simulation"


def recorded() -> study.Study:
    return study.load((FOLDER / "table.json").read_text())


def test_the_page_is_written_from_the_data() -> None:
    """Nobody edited it, and writing and reading lose nothing."""
    one = recorded()
    assert report.write(one) == (FOLDER / "README.md").read_text()
    assert study.load(study.dump(one)) == one
    for name in (report.SPREAD, report.RESPONSES, report.ISOLATION):
        assert (FOLDER / name).exists()
    with pytest.raises(ValueError, match="another format"):
        study.load('{"format": 0}')


def test_theory_holds_within_5_percent() -> None:
    """Every judged figure, and those that the issue names are among them."""
    checks = recorded().checks
    assert [check.name for check in checks if check.judged and abs(check.difference) > 0.05] == []
    judged = " ".join(check.name for check in checks if check.judged)
    for name in ("max: random", "max - mean: best_of_two", "mean response: random", "mean response: best_of_three"):
        assert name in judged


def test_the_whole_table_is_there() -> None:
    """Every figure that is published, at 10,000 shards and a million tenants too."""
    cells = {(cell.shards, cell.policy, cell.age): cell for cell in recorded().cells}
    for shards, rows in table.PUBLISHED.items():
        for policy, values in rows.items():
            for age, value in zip(table.AGES, values, strict=False):
                assert cells[shards, policy, age].published == value
    assert cells[10_000, "hash", 0].tenants == 1_000_000


def test_a_recorded_figure_is_what_the_simulator_says_today() -> None:
    """The median over the same seeds."""
    cell = next(one for one in recorded().cells if (one.shards, one.policy, one.age) == (100, "best_of_two", 10))
    part = table.PARTS[0]
    found = policies.compare(100, part.tenants, stale_depths=(10,), seeds=part.seeds, policies=("best_of_two",))
    assert (found[0].max_over_mean, found[0].low, found[0].high) == pytest.approx((cell.found, cell.low, cell.high))
