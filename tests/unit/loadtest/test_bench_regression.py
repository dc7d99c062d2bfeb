"""A regression shows, noise does not, another machine is not compared."""

import dataclasses
from pathlib import Path

import pytest

from loadtest.bench import faces, history, regression, report
from loadtest.bench.history import SavedRow, SavedRun
from loadtest.bench.meter import Rate
from loadtest.bench.regression import Trend
from loadtest.bench.results import Results
from loadtest.bench.rows import ALWAYS, CELERY, EVENFLOW, HUEY, ROWS
from loadtest.bench.stats import Summary, summarize

MACHINE = {"cpu": "some CPU", "cores": 2, "memory_mib": 1, "file_system": "ext4", "kernel": "6", "python": "3.11"}
BY_MEASURE = {row.measure: row for row in ROWS}


def _row(measure: str, evenflow: Summary, **ratios: Summary) -> SavedRow:
    named = {name.replace("_", "-"): one for name, one in ratios.items()}
    return SavedRow(BY_MEASURE[measure].unit, evenflow, {}, named, ())


def _spread(median: float, part: float = 0.02) -> Summary:
    return Summary(median, median * (1 - part), median * (1 + part), 5)


def _run(commit: str = "abc", **rows: SavedRow) -> SavedRun:
    return SavedRun("2026-01-01T00:00:00Z", commit, MACHINE, False, (), rows)


def _trend(measure: str, now: SavedRow, then: SavedRow) -> Trend:
    return regression.judge(BY_MEASURE[measure], now, then).trend


def test_a_ratio_that_fell_beyond_both_spreads_is_a_regression() -> None:
    """Though the machine was twice as fast this time, so that the figure itself rose."""
    then = _row("accept_batches", _spread(40_000), huey=_spread(10))
    now = _row("accept_batches", _spread(70_000), huey=_spread(8))
    change = regression.judge(BY_MEASURE["accept_batches"], now, then)
    assert change.trend is Trend.WORSE
    assert change.text() == "-20 % (ratio) regression"
    assert _trend("accept_batches", then, now) is Trend.BETTER


def test_a_slower_machine_is_no_regression() -> None:
    """Evenflow and its peers at half the speed."""
    then = _row("accept_batches", _spread(40_000), huey=_spread(10))
    now = _row("accept_batches", _spread(20_000), huey=_spread(10.1))
    assert _trend("accept_batches", now, then) is Trend.SAME


def test_noise_is_no_regression() -> None:
    """Spreads that overlap; and a small step, however narrow the spreads."""
    then = _row("end_to_end_batches", _spread(6_000), huey=_spread(3.7, 0.15))
    assert (
        _trend("end_to_end_batches", _row("end_to_end_batches", _spread(5_000), huey=_spread(3.2)), then) is Trend.SAME
    )
    then = _row("node_drain", _spread(37_000, 0.001))
    assert _trend("node_drain", _row("node_drain", _spread(36_000, 0.001)), then) is Trend.SAME


def test_one_peer_that_had_a_good_day_is_no_regression() -> None:
    """Worse against Huey, as ever against taskiq."""
    then = _row("end_to_end_http", _spread(4_400), huey=_spread(2.5), taskiq_always=_spread(2))
    now = _row("end_to_end_http", _spread(4_400), huey=_spread(1.5), taskiq_always=_spread(2))
    assert _trend("end_to_end_http", now, then) is Trend.SAME


def test_without_a_peer_in_both_runs_the_figure_counts() -> None:
    """JetStream was not there then; and no peer has the row of one queue node."""
    then = _row("node_accept", _spread(72_000))
    assert _trend("node_accept", _row("node_accept", _spread(50_000)), then) is Trend.WORSE
    then = _row("accept_batches", _spread(40_000))
    now = _row("accept_batches", _spread(30_000), jetstream=_spread(2))
    change = regression.judge(BY_MEASURE["accept_batches"], now, then)
    assert (change.trend, change.is_ratio) == (Trend.WORSE, False)


@pytest.mark.parametrize(
    ("measure", "then", "now", "trend"),
    [
        # One value in a run says nothing of its spread.
        ("idle_http_p99", 5.0, 6.0, Trend.SAME),
        ("idle_http_p99", 5.0, 7.0, Trend.WORSE),
        ("memory_pss", 250.0, 180.0, Trend.BETTER),
        # Percentages in points: from 0.1 % to 0.4 % is no matter.
        ("idle_cpu", 0.1, 0.4, Trend.SAME),
        ("idle_cpu", 3.0, 9.0, Trend.WORSE),
        ("idle_cpu", 0.0, 9.0, Trend.WORSE),
    ],
)
def test_less_is_better_where_a_figure_is_a_cost(measure: str, then: float, now: float, trend: Trend) -> None:
    """And a figure with a single value needs a larger step."""
    before, after = (_row(measure, Summary(value, value, value, 1)) for value in (then, now))
    assert _trend(measure, after, before) is trend


def test_only_a_whole_run_of_a_like_machine_and_fleet_is_compared() -> None:
    """The last of those; a kernel or a Python that is newer is part of what is compared."""
    like, other = _run("like"), dataclasses.replace(_run("other"), machine={**MACHINE, "cores": 64})
    quick = dataclasses.replace(_run("quick"), is_quick=True)
    shards = dataclasses.replace(_run("shards"), up=("--shards", "2"))
    now = dataclasses.replace(_run("now"), machine={**MACHINE, "kernel": "7"})
    older = _run("older")
    assert history.like([older, like, other, quick, shards], now) == [older, like]
    assert history.like([other, quick, shards], now) == []
    assert "no run on a machine like this one" in regression.note([], {})
    assert len(history.like([like] * 50, now)) == history.MAX_BACK


def test_memory_is_compared_with_a_tolerance() -> None:
    """A kernel tells a few MiB more or less from boot to boot; twice the memory is another machine."""
    then = dataclasses.replace(_run(), machine={**MACHINE, "memory_mib": 24_105})
    for memory, is_like in ((24_090, True), (24_500, True), (48_210, False)):
        assert (
            bool(history.like([then], dataclasses.replace(_run(), machine={**MACHINE, "memory_mib": memory})))
            is is_like
        )


def test_small_losses_that_add_up_are_a_regression() -> None:
    """Ten runs, each 4 % less than the one before: against the last each is as it was."""
    runs = [
        _run(f"{number}", accept_batches=_row("accept_batches", _spread(40_000 * 0.96**number, 0.01)))
        for number in range(10)
    ]
    assert _trend("accept_batches", runs[9].rows["accept_batches"], runs[8].rows["accept_batches"]) is Trend.SAME
    changes = regression.compare(runs[9], runs[:9])
    assert (changes["accept_batches"].trend, changes["accept_batches"].runs) == (Trend.WORSE, 9)
    assert "since the middle of 9 runs" in changes["accept_batches"].text()
    assert "1 regression" in regression.note(runs[:9], changes)
    steady = [_run(accept_batches=_row("accept_batches", _spread(40_000 + 500 * (number % 3)))) for number in range(10)]
    assert not regression.worse(regression.compare(steady[9], steady[:9]))
    assert regression.compare(runs[9], []) == {}


def test_more_rounds_do_not_hide_a_regression() -> None:
    """One odd round in each run: the ends overlap, the middle halves are apart."""
    then = _row("accept_batches", summarize([100.0, 101, 99, 100, 102, 98, 100, 101, 80]))
    now = _row("accept_batches", summarize([80.0, 81, 79, 80, 82, 78, 80, 81, 100]))
    assert _trend("accept_batches", now, then) is Trend.WORSE
    assert _trend("accept_batches", then, now) is Trend.BETTER


def test_a_regression_fails_a_whole_run_only(capsys: pytest.CaptureFixture[str]) -> None:
    """And is named in a line of its own either way."""
    assert faces.conclude(["accept"], is_quick=False) == faces.EXIT_REGRESSION != 0
    assert faces.conclude(["accept"], is_quick=True) == faces.conclude([], is_quick=False) == 0
    told = capsys.readouterr()
    assert (told.out + told.err).count("REGRESSION: accept") == 2


def _facts() -> dict[str, object]:
    results = Results()
    for per_second, huey in ((12_000, 4_000), (15_000, 5_000), (18_000, 6_500)):
        results.add_rate("accept_http", EVENFLOW, Rate(per_second, 1.0, 30.0))
        for key, rate in ((HUEY, huey), (ALWAYS, 3_000), (CELERY, 1_000)):
            results.add("accept", key, rate)
    results.add("ready_seconds", EVENFLOW, 2.0)
    machine = {**MACHINE, "time": "2026-01-01T00:00:00Z", "commit": "abc", "more": "facts"}
    return report.as_json(results, machine, {"quick": False, "up": []})


def test_a_run_survives_the_file(tmp_path: Path) -> None:
    """Medians, spreads, ratios round by round, goals and the machine; a line a run."""
    run = history.of_report(_facts())
    row = run.rows["accept_http"]
    assert row.evenflow == summarize([12_000, 15_000, 18_000])
    ratio = row.ratios["huey"]
    assert (ratio.median, ratio.low, ratio.high, ratio.count) == (3.0, 18_000 / 6_500, 3.0, 3)
    assert [(goal.ratio, goal.met) for goal in row.goals] == [(3.0, True)]
    assert run.machine == MACHINE
    path = tmp_path / "history.jsonl"
    assert history.read(path) == []
    history.append(path, run)
    history.append(path, dataclasses.replace(run, commit="def"))
    assert history.read(path) == [run, dataclasses.replace(run, commit="def")]


def test_the_published_history_can_be_read_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Every line of docs/benchmarks/history.jsonl, the rows that no older run had included."""
    runs = history.read(Path(__file__).parents[3] / "docs" / "benchmarks" / "history.jsonl")
    assert [run.time for run in runs] == sorted(run.time for run in runs)
    faces.print_history(runs)
    text = capsys.readouterr().out
    assert all(run.commit in text for run in runs[-faces.MAX_RUNS_SHOWN :])
    assert "missed" in text
    assert regression.compare(runs[-1], runs).keys() <= BY_MEASURE.keys()


def test_the_table_marks_a_regression() -> None:
    """In its own column, and counted in the note."""
    now = history.of_report(_facts())
    faster = dataclasses.replace(
        now.rows["accept_http"], ratios={HUEY: _spread(9), ALWAYS: _spread(9), CELERY: _spread(90)}
    )
    then = dataclasses.replace(now, rows={**now.rows, "accept_http": faster})
    changes = regression.compare(now, [then])
    results = Results()
    results.add("accept_http", EVENFLOW, 15_000)
    results.add("memory_pss", EVENFLOW, 200)
    first, second = report.lines(results, changes)
    assert first.cells[-1].endswith("regression") and second.cells[-1] == report.ABSENT
    assert "1 regression." in regression.note([then], changes)
