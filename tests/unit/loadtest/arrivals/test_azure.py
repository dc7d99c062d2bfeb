"""Replays of the Azure Functions traces: their shape stays, time and rate are ours, and other files are refused."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from loadtest.arrivals import azure
from loadtest.arrivals.azure import HEAD_2019, HEAD_2021, MINUTES, BadTrace, replay
from loadtest.arrivals.shapes import Shape
from loadtest.arrivals.traffic import schedule
from loadtest.open_loop.spec import Traffic


def write_2019(path: Path, rows: Sequence[tuple[str, dict[int, int]]]) -> Path:
    """rows: the owner, and counts by minute (1-based) of one function."""
    lines = [",".join((*HEAD_2019, *map(str, range(1, MINUTES + 1))))]
    for number, (owner, counts) in enumerate(rows):
        values = (str(counts.get(minute, 0)) for minute in range(1, MINUTES + 1))
        lines.append(",".join((owner, f"app{number}", f"f{number}", "http", *values)))
    path.write_text("\n".join(lines) + "\n")
    return path


def write_2021(path: Path, rows: Sequence[tuple[str, float, float]]) -> Path:
    lines = [",".join(HEAD_2021), *(f"{app},f,{end},{duration}" for app, end, duration in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_2019_keeps_its_minutes_and_owners(tmp_path: Path) -> None:
    # The quiet owner comes first in the file, in the last minute; the hot one has two functions, in the first.
    trace = write_2019(tmp_path / "day.csv", [("quiet", {1440: 100}), ("hot", {1: 500}), ("hot", {1: 400})])
    found = replay(trace, 144.0, 10.0, "1", tenants=10)
    assert len(found) == 1_440 and found.seconds == 144.0
    hot, quiet = found.at_seconds[found.tenants == 0], found.at_seconds[found.tenants == 1]
    assert len(hot) + len(quiet) == 1_440 and len(hot) == pytest.approx(1_296, rel=0.05)
    assert hot.max() < 0.1 and quiet.min() >= 143.9 and quiet.max() < 144.0
    assert not found.work_ms.any()


def test_2021_starts_before_its_end_and_is_busy_as_long(tmp_path: Path) -> None:
    trace = write_2021(tmp_path / "t.csv", [("a", 110.0, 10.0), ("b", 150.5, 0.5), ("a", 200.25, 0.25)])
    found = replay(trace, 10.0, 0.3, "1", tenants=2)
    assert found.at_seconds.tolist() == pytest.approx([0.0, 5.0, 10.0])
    assert found.at_seconds[-1] < 10.0
    assert found.work_ms.tolist() == [10_000.0, 500.0, 250.0]
    assert found.tenants.tolist() == [0, 1, 0]


def test_2021_is_thinned_or_multiplied_to_the_rate(tmp_path: Path) -> None:
    rows = [("a" if place % 4 else "b", 1_000.0 + place, 0.01) for place in range(400)]
    trace = write_2021(tmp_path / "t.csv", rows)
    fewer, more = replay(trace, 10.0, 10.0, "1", 2), replay(trace, 10.0, 500.0, "1", 2)
    assert (len(fewer), len(more)) == (100, 5_000)
    for found in (fewer, more):
        assert np.all(np.diff(found.at_seconds) >= 0) and found.at_seconds[-1] < 10.0
    assert np.mean(more.tenants == 1) == pytest.approx(0.25, abs=0.05)
    assert len(np.unique(more.at_seconds)) > 4_000, "copies do not all leave at one moment"


@pytest.mark.parametrize("seed", ["1", "2"])
def test_a_seed_is_a_schedule(tmp_path: Path, seed: str) -> None:
    trace = write_2019(tmp_path / "day.csv", [("o", {5: 10, 700: 30})])
    one = replay(trace, 10.0, 20.0, seed, 1)
    assert np.array_equal(one.at_seconds, replay(trace, 10.0, 20.0, seed, 1).at_seconds)
    assert not np.array_equal(one.at_seconds, replay(trace, 10.0, 20.0, seed + "x", 1).at_seconds)


def test_owners_beyond_the_tenants_share_them(tmp_path: Path) -> None:
    trace = write_2019(tmp_path / "day.csv", [(f"o{number}", {1: 10}) for number in range(7)])
    assert set(replay(trace, 10.0, 50.0, "1", 3).tenants.tolist()) == {0, 1, 2}


def test_traffic_replays_a_file(tmp_path: Path) -> None:
    trace = write_2021(tmp_path / "t.csv", [("a", 1.0, 0.5), ("b", 2.0, 0.5)])
    found = schedule(Traffic(Shape("poisson", 10.0), 5.0, "1", tenants=2, replay=str(trace)))
    assert len(found) == 50 and set(found.work_ms.tolist()) == {500.0}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ": the file is empty"),
        ("a,b,c\n1,2,3\n", ":1: the first line"),
        ("app,func,end_timestamp,duration\n", "no invocations"),
        ("app,func,end_timestamp,duration\na,f,1.0,0.5\na,f,x,0.5\n", ":3: end_timestamp and duration are seconds"),
        ("app,func,end_timestamp,duration\na,f,1.0\n", ":2: 3 columns; 4 are expected"),
        ("app,func,end_timestamp,duration\na,f,1.0,-1\n", ":2: "),
        ("app,func,end_timestamp,duration\na,f,nan,1\n", ":2: "),
    ],
)
def test_other_files_are_refused_with_the_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "odd.csv"
    path.write_text(text)
    with pytest.raises(BadTrace) as refused:
        replay(path, 10.0, 1.0, "1", 1)
    assert says in str(refused.value) and str(path) in str(refused.value)


def test_a_packed_file_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "trace.tar.xz"
    path.write_bytes(bytes(range(256)) * 4)
    with pytest.raises(BadTrace, match=r"trace\.tar\.xz:1: .*unpack it first"):
        replay(path, 10.0, 1.0, "1", 1)


def test_bad_counts_are_refused_with_the_line(tmp_path: Path) -> None:
    path = write_2019(tmp_path / "day.csv", [("o", {1: 1}), ("o", {2: -4})])
    with pytest.raises(BadTrace, match=r":3: counts of a minute are 0 to"):
        replay(path, 10.0, 1.0, "1", 1)
    path.write_text(path.read_text().replace("-4", "many"))
    with pytest.raises(BadTrace, match=r":3: counts of a minute are whole numbers"):
        replay(path, 10.0, 1.0, "1", 1)
    with pytest.raises(BadTrace, match="no invocations"):
        replay(write_2019(path, [("o", {})]), 10.0, 1.0, "1", 1)


def test_owners_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure, "MAX_OWNERS", 1)
    path = write_2019(tmp_path / "day.csv", [("o", {1: 1}), ("p", {2: 4})])
    with pytest.raises(BadTrace, match=":3: more than 1 owners"):
        replay(path, 10.0, 1.0, "1", 1)
