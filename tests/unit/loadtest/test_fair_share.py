"""The fairness measurement: schedules, what handlers leave behind, and when a run may be judged by."""

import dataclasses
import json
from pathlib import Path

import pytest

from loadtest.fair_share import report, starts
from loadtest.fair_share.measure import Dwell, Phase, Result
from loadtest.fair_share.plan import BYSTANDER, NOISY, Plan, schedule
from loadtest.fair_share.start_reader import StartReader

QUIET = Dwell(1_000, 5.0, 20.0, 40.0)


def phase(p99_ms: float, late: int = 0, started: float = 320.0) -> Phase:
    return Phase(dataclasses.replace(QUIET, p99_ms=p99_ms), QUIET, 5.0, 1_000, late, 0, 96.0, started, 9.0)


def results(*flooded_p99_ms: float, late: int = 0, started: float = 320.0) -> list[Result]:
    return [Result(n, phase(20.0), phase(p99, late, started), 0) for n, p99 in enumerate(flooded_p99_ms)]


def test_the_background_needs_its_part_of_the_capacity_and_the_flood_comes_on_top() -> None:
    """16 slots of 50 ms: 320 a second."""
    plan = Plan()
    quiet, flooded = plan.rates(flooded=False), plan.rates(flooded=True)
    assert plan.capacity_per_second == 320
    assert sum(quiet.values()) == pytest.approx(0.7 * 320)
    assert NOISY not in quiet and flooded[NOISY] == 640 and flooded[BYSTANDER] == quiet[BYSTANDER]
    assert set(plan.tenants) == set(flooded)


def test_a_schedule_is_seeded_poisson_and_in_order() -> None:
    """About as many as the rate says; one tenant's arrivals do not depend on who else sends."""
    one = schedule({"a": 50.0, "b": 5.0}, 100.0, "1")
    assert one == schedule({"a": 50.0, "b": 5.0}, 100.0, "1")
    assert [s.at_seconds for s in one] == sorted(s.at_seconds for s in one)
    assert [s.number for s in one] == list(range(len(one)))
    mine = [s.at_seconds for s in one if s.tenant == "b"]
    assert 400 < len(mine) < 600
    assert mine == [s.at_seconds for s in schedule({"b": 5.0, "c": 1.0}, 100.0, "1") if s.tenant == "b"]


def test_starts_are_read_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also half a record at the end of a file; a second start of one event is counted and does not hide the first."""
    monkeypatch.setenv(starts.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(starts, "_own", [])
    reader = StartReader(tmp_path)
    starts.note(2, 7)
    first = reader.starts(2)[7]
    starts.note(2, 7)
    starts.note(3, 1)
    (file,) = tmp_path.glob(f"*{starts.SUFFIX}")
    with file.open("ab") as more:
        more.write(starts.RECORD.pack(3, 2, 5)[:6])
    assert reader.starts(2) == {7: first} and set(reader.starts(3)) == {1} and reader.repeated == 1
    with file.open("ab") as more:
        more.write(starts.RECORD.pack(3, 2, 5)[6:])
    assert reader.starts(3)[2] == 5


def test_the_ratio_decides_and_a_run_that_is_not_sound_says_so() -> None:
    """The median over the seeds; seeds, duration, late sends and a capacity that was not there make it void."""
    plan = Plan()
    assert report.ratio(results(30.0, 50.0, 36.0)) == pytest.approx(1.8)
    assert not report.why_void(plan, results(30.0, 50.0, 36.0))
    assert "met" in report.as_text({}, plan, results(30.0, 50.0, 36.0))
    assert "missed" in report.as_text({}, plan, results(30.0, 50.0, 46.0))
    for found, word in (
        (report.why_void(plan, results(30.0)), "seeds"),
        (report.why_void(Plan(flood_seconds=10.0), results(30.0, 30.0, 30.0)), "lasted"),
        (report.why_void(plan, results(30.0, 30.0, 30.0, late=30)), "late"),
        (report.why_void(plan, results(30.0, 30.0, 30.0, started=200.0)), "less than"),
    ):
        assert any(word in reason for reason in found), found
    text = report.as_text({}, plan, results(30.0))
    assert "Provisional" in text
    assert json.loads(report.as_json({"cpu": "x"}, plan, results(30.0)))["void"]
