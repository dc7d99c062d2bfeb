"""The recorded study: what docs/simulation says follows from its data, and the data hold what they are to show."""

import dataclasses
from pathlib import Path

import pytest

from loadtest.simulate import checks, policies, report, study, table

FOLDER = Path(__file__).parents[4] / "docs" / "simulation"


@pytest.fixture(scope="module", name="one")
def recorded() -> study.Study:
    return study.load((FOLDER / "table.json").read_text())


def test_the_page_is_written_from_the_data(one: study.Study) -> None:
    """Nobody edited it, and writing and reading lose nothing."""
    assert report.write(one) == (FOLDER / "README.md").read_text()
    assert study.load(study.dump(one)) == one
    for name in (report.SPREAD, report.RESPONSES, report.ISOLATION):
        assert (FOLDER / name).exists()
    with pytest.raises(ValueError, match="another format"):
        study.load('{"format": 0}')


def test_theory_holds_within_5_percent(one: study.Study) -> None:
    """Every figure of theory that is judged; those of the issue with seeds enough to tell."""
    theory = [check for check in one.checks if check.source in checks.THEORY and check.judged]
    assert [(check.name, check.difference) for check in theory if not check.holds] == []
    told = {check.name: check for check in theory}
    for name in (
        "max - mean: random, 100 shards, 100 events a shard",
        "max - mean: random, 10,000 shards, 100 events a shard",
        "max - mean: best_of_two, 100 shards, 100 events a shard",
        "max - mean: best_of_two, 10,000 shards, 10 events a shard",
        "mean response: random, load 0.9",
        "mean response: best_of_two, load 0.9",
        "mean response: best_of_three, load 0.9",
    ):
        assert abs(told[name].difference) <= 0.05 and (told[name].error or 1.0) <= 0.03, told[name]


def test_what_fails_is_shown_as_failed(one: study.Study) -> None:
    """Only the far tail of P(depth >= i) is not judged; nothing is taken out for having failed."""
    assert all(check.name.startswith("P(depth") for check in one.checks if not check.judged)
    text = report.write(one)
    assert text.count("**no**") == sum(not check.holds for check in one.checks) > 0
    assert {check.source for check in one.checks if not check.holds} <= {checks.ASYMPTOTIC, checks.DESIGN}
    for age in (0, 5, 20):
        assert f"global least, depths {age} service times old" in text


def test_a_flood_is_told_with_what_never_ended(one: study.Study) -> None:
    """p99 of the others is a lower bound where it lies among them, and the whole run stands beside the window."""
    whole = {(o.name, o.order): o for o in one.floods if (o.begun, o.ended) == study.FLOOD_WINDOWS[0]}
    spread = whole["best of two", "fifo"]
    assert spread.never_ended > 0.05 and spread.p99_text.startswith("> ")
    text = report.write(one)
    for figure in (spread.p99_text, f"{spread.never_ended:.2%}", f"{spread.deep_part:.2%}", "looked for and chosen"):
        assert figure in text


def test_a_part_is_run_by_itself_and_the_rest_is_kept(one: study.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not without anything to keep."""
    monkeypatch.setattr(study, "FLOOD_WINDOWS", ((0.0, 4.0), (1.0, 3.0)))
    again = study.run(one.effort, 1, parts=("floods",), before=one)
    assert dataclasses.replace(again, floods=one.floods, cpu_seconds=one.cpu_seconds) == one != again
    with pytest.raises(ValueError, match="nothing is recorded"):
        study.run(one.effort, 1, parts=("floods",))
    with pytest.raises(ValueError, match="no part of the study"):
        study.run(one.effort, 1, parts=("all",), before=one)


def test_the_whole_table_is_there(one: study.Study) -> None:
    """Every figure that is published, at 10,000 shards and a million tenants too."""
    cells = {(cell.shards, cell.policy, cell.age): cell for cell in one.cells}
    for shards, rows in table.PUBLISHED.items():
        for policy, values in rows.items():
            for age, value in zip(table.AGES, values, strict=False):
                assert cells[shards, policy, age].published == value
    assert cells[10_000, "hash", 0].tenants == 1_000_000


def test_a_recorded_figure_is_what_the_simulator_says_today(one: study.Study) -> None:
    """The median over the same seeds, of the policy whose figures are the most chance."""
    cell = next(cell for cell in one.cells if (cell.shards, cell.policy, cell.age) == (100, "random", 0))
    part = table.PARTS[0]
    found = policies.compare(100, part.tenants, stale_depths=(0,), seeds=part.seeds, policies=("random",))
    assert (found[0].max_over_mean, found[0].low, found[0].high) == pytest.approx((cell.found, cell.low, cell.high))
