"""`evenflow simulate`: what it prints, writes and refuses."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.app import app
from cli.failures import CliError
from loadtest.simulate.choices import NAMES

SMALL = ("--shards", "8", "--seeds", "2", "--processes", "1")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["simulate", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_placement_prints_draws_and_writes(tmp_path: Path) -> None:
    """A table, a plot and its figures; the same seeds, the same figures."""
    files = ("--json", str(tmp_path / "a.json"), "--plot", str(tmp_path / "a.svg"))
    run("placement", *SMALL, "--tenants", "50", "--age", "0", "--age", "2", *files)
    shown = run("placement", *SMALL, "--tenants", "50", "--age", "0", "--age", "2", "--json", str(tmp_path / "b.json"))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    told = json.loads((tmp_path / "a.json").read_text())
    assert [(row["policy"], row["stale_events_a_shard"]) for row in told["rows"]][:4] == [
        ("hash", 0),
        ("random", 0),
        ("best_of_two", 0),
        ("best_of_two", 2),
    ]
    assert all(row["policy"] in shown for row in told["rows"])
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")
    assert "8 shards, 100 events a shard, 50 tenants" in shown and f"written: {tmp_path / 'b.json'}" in shown


def test_queueing_and_flood_print_draw_and_write(tmp_path: Path) -> None:
    """Small ones, as PNG."""
    files = ("--json", str(tmp_path / "q.json"), "--plot", str(tmp_path / "q.png"))
    run("queueing", *SMALL, "--length", "20", "--policy", "best_of_two", "--age", "0", "--age", "3", *files)
    rows = json.loads((tmp_path / "q.json").read_text())["rows"]
    assert [row["report_age"] for row in rows] == [0.0, 3.0]
    files = ("--json", str(tmp_path / "f.json"), "--plot", str(tmp_path / "f.png"))
    run("flood", "--shards", "8", "--ended", "20", "--processes", "1", *files)
    assert {row["order"] for row in json.loads((tmp_path / "f.json").read_text())["rows"]} == {"fifo", "fair"}
    for name in ("q.png", "f.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"


def test_policies_may_have_dashes_and_help_has_them_all() -> None:
    shown = run("placement", *SMALL, "--tenants", "50", "--age", "0", "--policy", "best-of-two", "--events", "5")
    assert "best_of_two" in shown
    told = " ".join(run("placement", "--help").split())
    assert all(name in told for name in NAMES)


def test_a_load_above_1_says_so_and_nothing_is_nan() -> None:
    queue = ("queueing", "--shards", "1", "--seeds", "1", "--processes", "1", "--length", "1", "--age", "0")
    shown = run(*queue, "--load", "0.001", "--policy", "random")
    assert "nan" not in shown.split() and "grow for ever" not in shown
    assert "load is above 1: queues grow for ever" in run(*queue, "--load", "2", "--policy", "random")


def test_the_designs_figures_stand_beside_its_own_scenario_only() -> None:
    flood = ("flood", "--processes", "1", "--shards", "8", "--ended", "20")
    assert "design" not in run(*flood)


@pytest.mark.parametrize(
    "arguments, text",
    [
        (("placement", "--policy", "best"), "no policy of the simulator"),
        (("placement", "--reports", "late"), "no kind of stale depths"),
        (("placement", "--plot", "figure.pdf"), "ends in .svg or .png"),
        (("placement", "--json", "no/such/folder/a.json"), "there is no folder"),
        (("queueing", "--service", "normal"), "no distribution"),
        (("queueing", "--length", "1e9"), "at most 50,000,000"),
        (("flood", "--begun", "30", "--ended", "20"), "--ended must be above --begun"),
    ],
)
def test_bad_input_ends_in_one_line(arguments: tuple[str, ...], text: str) -> None:
    """Exit code 2 and what is wrong, before any long work."""
    with pytest.raises(CliError, match=text) as caught:
        CliRunner().invoke(app, ["simulate", *arguments, "--processes", "1"], catch_exceptions=False)
    assert caught.value.exit_code == 2
    assert "\n" not in caught.value.message
