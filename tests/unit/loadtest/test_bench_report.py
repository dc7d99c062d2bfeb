"""From figures to the table and the files."""

import json

import pytest

from loadtest.bench import faces, options, report
from loadtest.bench.meter import Rate
from loadtest.bench.results import Results
from loadtest.bench.rows import ALWAYS, CELERY, EVENFLOW, HUEY

MACHINE = {
    "time": "2026-01-01T00:00:00Z",
    "commit": "abc",
    "cpu": "some CPU",
    "cores": 2,
    "memory_mib": 1,
    "kernel": "6",
    "file_system": "ext4",
    "python": "3.11",
    "evenflow_sqlite": "3.51",
    "huey_sqlite": "3.40",
    "redis": "absent",
    "huey_version": "3",
    "taskiq_version": "0",
    "celery_version": "5",
    "nats": "absent",
    "nats_py_version": "2",
    "grpcio_version": "1",
}


def _results(with_taskiq: bool = True) -> Results:
    results = Results()
    for per_second in (12_000, 15_000, 18_000):
        results.add_rate("accept_http", EVENFLOW, Rate(per_second, 1.0, 30.0, {"frontend": 40.0, "queue": 12.0}))
    results.add("accept", HUEY, 4_000)
    results.add("accept_http_one", EVENFLOW, 900)
    if with_taskiq:
        results.add("accept", ALWAYS, 6_000)
        results.add("accept", CELERY, 1_000)
    results.add("memory_pss", EVENFLOW, 400.0)
    results.notes.append("a note")
    return results


def test_a_line_has_medians_spread_ratio_goal_and_verdict() -> None:
    """15,000 against the faster durable peer's 6,000: 2.5 times, where 3 were wanted; one caller has Huey's alone."""
    first, one_caller, memory = report.lines(_results(), {})
    assert first.cells[2] == "15,000\n(12,000 to 18,000)"
    assert first.cells[3:9] == ("4,000", "6,000", report.ABSENT, "1,000", report.ABSENT, "2.50x")
    assert first.words == ("missed",)
    assert one_caller.cells[3:6] == ("4,000", report.ABSENT, report.ABSENT)
    assert memory.cells[-4:] == (report.ABSENT, "<= 350 MiB", "missed", report.ABSENT)


def test_without_redis_goals_against_it_stay_open() -> None:
    """No ratio against the peers that happen to be here."""
    first = report.lines(_results(with_taskiq=False), {})[0]
    assert first.words == ("not measured",)
    assert first.cells[8] == report.ABSENT


def test_the_json_holds_every_repeat_and_where_cpu_went() -> None:
    """It survives JSON, and names what it is of."""
    told = json.loads(json.dumps(report.as_json(_results(), MACHINE, {"repeats": 3})))
    row = told["rows"][0]
    assert row["values"] == [12_000, 15_000, 18_000]
    assert row["generator_cpu_percent"] == 30.0
    assert row["cpu_us_per_event"] == {"frontend": 40.0, "queue": 12.0}
    assert row["goals"] == [{"goal": ">= 3x Huey, taskiq always and Celery always", "ratio": 2.5, "met": False}]
    assert told["peers"]["accept/huey"]["median"] == 4_000


def test_both_faces_show_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Terminal and Markdown: figures, verdicts, CPU and notes."""
    results = _results()
    lines, cpu = report.lines(results, {}), report.cpu_lines(results)
    faces.print_table(lines, cpu, results.notes, dict(MACHINE))
    page = faces.as_markdown(lines, cpu, results.notes, dict(MACHINE))
    for text in (capsys.readouterr().out, page):
        for expected in ("15,000", "missed", "frontend 40.0", "30 % of a core", "a note", "some CPU"):
            assert expected in text, expected
    assert all(line.count("|") == len(report.HEADINGS) + 1 for line in page.splitlines() if line.startswith("|"))


def test_options_come_from_arguments_and_environment() -> None:
    """QUICK=1 and --quick mean the same; a full run has five repeats."""
    assert options.parse([], {"QUICK": "1"}) == options.parse(["--quick"], {})
    assert options.parse([], {}).repeats == 5
    assert options.parse(["--repeats", "7"], {"SAVE": "1"}).saves is True
    told = options.parse(["--shards", "2", "--set", "a=1", "--set", "b=2"], {})
    assert told.up_arguments == ("--shards", "2", "--set", "a=1", "--set", "b=2")
    with pytest.raises(SystemExit):
        options.parse(["--repeats", "0"], {})
    for sizes in (options.QUICK_SIZES, options.FULL_SIZES):
        assert sizes.accept_batches % 100 == 0 and sizes.end_to_end_batches % 100 == 0
