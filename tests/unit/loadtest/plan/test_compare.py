"""Two plans: a difference is told only where it is shown, and unlike conditions are."""

from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.plan import compare, files
from loadtest.plan.findings import Findings, conclude
from loadtest.plan.measured import Measured
from loadtest.plan.report import compare_page
from tests.unit.loadtest.plan.known_fleet import KnownFleet
from tests.unit.loadtest.plan.test_report import shape_of


@pytest.fixture(scope="module")
def slower() -> compare.Plan:
    """A fleet with five slots instead of eight, whose frontend needs twice the CPU."""
    fleet = KnownFleet(slots=5, demand={**KnownFleet().demand, "frontend": 0.0008})
    measured = fleet.measured((50.0, 100.0, 150.0, 200.0, 220.0, 230.0, 240.0, 260.0), repeats_at=200.0, callers=())
    return compare.Plan("slower", measured, conclude(measured))


def test_a_real_difference_is_shown_with_its_ratio(
    measured: Measured, findings: Findings, slower: compare.Plan
) -> None:
    found = compare.compare(compare.Plan("known", measured, findings), slower)
    assert found.best.differs and found.best.verdict == "b is lower"
    assert found.best.ratio == pytest.approx(200 / 340)
    # Slots 5 of 8, and the larger pool waits less at the same use.
    assert found.best.interval is not None and found.best.interval.holds(0.6)
    demands = {one.what: one for one in found.demands}
    assert demands["frontend"].ratio == pytest.approx(2, rel=0.05) and demands["frontend"].differs
    assert demands["queue"].verdict == "no difference shown"
    assert found.changed == {"slots": ("8", "5")} and found.is_fair


def test_the_same_plan_differs_in_nothing(measured: Measured, findings: Findings) -> None:
    plan = compare.Plan("one", measured, findings)
    found = compare.compare(plan, plan)
    assert not found.best.differs and not any(one.differs for one in found.demands)
    assert found.is_fair and not found.changed
    assert "no difference shown" in compare.as_text(found)


def test_another_machine_objective_or_load_is_a_warning(measured: Measured, findings: Findings) -> None:
    other = replace(
        measured,
        machine={**measured.machine, "cores": 64, "commit": "another"},
        objective=replace(measured.objective, start_p99_ms=500.0),
        spec=replace(measured.spec, door="grpc"),
    )
    found = compare.compare(compare.Plan("a", measured, findings), compare.Plan("b", other, findings))
    assert set(found.unlike) == {"cores", "objective start_p99_ms", "load door"} and not found.is_fair
    assert set(found.changed) == {"commit"}
    text = compare.as_text(found)
    assert text.startswith("Not comparable: cores, objective start_p99_ms, load door differ\n")
    assert "differs: cores: 2 in a, 64 in b" in text
    assert "no difference shown" not in text + compare_page.write(found, text)
    assert "Not comparable: cores" in compare_page.write(found, text)


def test_without_an_interval_no_difference_is_claimed(
    measured: Measured, findings: Findings, slower: compare.Plan
) -> None:
    held = replace(measured, runs=tuple(run for run in measured.runs if not run.failed))
    found = compare.compare(compare.Plan("a", held, conclude(held)), slower)
    assert not found.best.differs and "no interval" in found.best.verdict


def test_it_reads_two_files_and_writes_a_page(
    tmp_path: Path, measured: Measured, findings: Findings, slower: compare.Plan
) -> None:
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    one.write_text(files.as_text(measured, findings))
    other.write_text(files.as_text(slower.measured, slower.findings))
    text = compare.run(one, other, tmp_path / "both.html")
    assert text.startswith("a: one: holds 340 events/s") and "b: other: holds 200 events/s" in text
    shape = shape_of((tmp_path / "both.html").read_text())
    assert shape.seen.count("svg") == 3
    with pytest.raises(ValueError, match=r"ends in \.html"):
        compare.run(one, other, tmp_path / "both.txt")
    with pytest.raises(files.PlanFileError, match=r"both\.html: it is not JSON"):
        compare.run(one, tmp_path / "both.html", None)


def test_files_of_one_name_are_told_apart_by_their_paths(tmp_path: Path, measured: Measured) -> None:
    short = replace(measured, runs=measured.runs[:2])
    paths = [tmp_path / name / "plan.json" for name in ("old", "new")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(files.as_text(short, conclude(short)))
    assert f"a: {paths[0]}: " in (text := compare.run(paths[0], paths[1], None)) and f"b: {paths[1]}: " in text
