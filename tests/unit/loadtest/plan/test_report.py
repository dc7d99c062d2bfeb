"""The page says what the findings say, needs nothing from elsewhere, and cannot be broken by what a plan names."""

import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from loadtest.plan import files
from loadtest.plan.findings import Findings, Policy, conclude
from loadtest.plan.measured import Measured
from loadtest.plan.report import page, runs, sizes
from loadtest.plan.report.headline import chosen_slots, plan_with, sentences, title, warning

POLICIES = [Policy("best_of_two", age, 1.02 + age, 2.0, 1.01, 1.03 + 2 * age) for age in (0, 10)]


class Shape(HTMLParser):
    """Counts elements and sees that each one that opens also closes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def shape_of(text: str) -> Shape:
    """Parsed."""
    shape = Shape()
    shape.feed(text)
    assert shape.open == []
    return shape


@pytest.fixture(scope="session")
def text(measured: Measured, findings: Findings) -> str:
    """The page of the known fleet."""
    return page.write(measured, replace(findings, policies=tuple(POLICIES)))


def test_every_plot_is_there_and_nothing_comes_from_elsewhere(text: str) -> None:
    shape = shape_of(text)
    assert shape.seen.count("svg") == 9
    assert "script" not in shape.seen and "img" not in shape.seen and "link" not in shape.seen
    # The name of the SVG vocabulary is no address that is fetched.
    assert "//" not in text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert all(one.startswith("#") and one[1:] in shape.ids for one in shape.references)
    assert len(shape.ids) == len(set(shape.ids))


def test_its_colours_are_the_pages_so_that_dark_works(text: str) -> None:
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        assert set(re.findall(r"#[0-9a-f]{6}\b", re.sub(r'(id|href)="[^"]*"|url\([^)]*\)', "", svg))) <= {"#000000"}
        assert "var(--c1)" in svg and "var(--text)" in svg
    assert "prefers-color-scheme: dark" in text


def test_the_headline_says_rate_interval_bounds_and_why(measured: Measured, findings: Findings, text: str) -> None:
    assert title(findings) == "Holds 340 events/s on one runtime host of 8 slots" and title(findings) in text
    told = " ".join(sentences(measured, findings))
    for part in ("t-interval over 5 runs", "5 of 5 runs held", "accept p99", "<= 100 ms", "sandbox slots", "valid"):
        assert part in told


def test_an_invalid_generator_is_told_first_of_all(measured: Measured) -> None:
    late = tuple(replace(run, result=replace(run.result, void=("too late",))) for run in measured.runs)
    void = replace(measured, runs=late)
    told = conclude(void)
    assert title(told) == "No tested rate held the objective on one runtime host of 8 slots"
    assert warning(told).startswith(f"NOT VALID: {len(late)} of {len(late)} runs were void, 5 of them repeats")
    text = page.write(void, told)
    assert text.index(warning(told)) < text.index(f">{title(told)}<")
    assert "too late" in text and "<title>Evenflow capacity plan: NOT VALID: " in text


def test_it_says_which_rate_to_plan_with(measured: Measured, findings: Findings) -> None:
    assert warning(findings) == ""
    told = plan_with(measured, findings)
    assert told.startswith("Plan with 340 events/s, the rate that held; the tightest bound is used up at ")
    for part in ("the slots are full at ", "under overload ", "the most that ever ended a second"):
        assert part in told


def test_without_a_failure_it_holds_at_least_that(open_runs: Measured) -> None:
    held = replace(open_runs, runs=tuple(run for run in open_runs.runs if not run.failed))
    told = conclude(held)
    assert title(told).startswith("Holds at least ")
    assert "up to the highest that was tried (--max-rate)" in " ".join(sentences(held, told))
    gave_out = replace(held.runs[0], per_second=900.0, result=replace(held.runs[0].result, void=("too late",)))
    void = replace(held, runs=(*held.runs, gave_out))
    assert "the generator gave out first, as runs at 900 events/s were void (too late)" in " ".join(
        sentences(void, conclude(void))
    )


def test_slots_that_the_plan_chose_are_told(measured: Measured, findings: Findings) -> None:
    assert chosen_slots(measured, findings) == ""
    chosen = replace(measured, fleet=replace(measured.fleet, settings={"runtime.max_sandboxes": "8"}))
    assert chosen_slots(chosen, findings) == (
        "8 slots a host are what a plan chooses for handlers that sleep. They are the limit found here: "
        "--set runtime.max_sandboxes=N changes it."
    )


def test_rates_far_beyond_the_measured_ones_are_marked(text: str) -> None:
    """510/s is the highest that was measured: 10,000 is more than ten times it, 1,000 is not."""
    rows = {row[0]: row for row in re.findall(r'<tr><td class="number(?: soft)?">([\d,]+)</td>(.*?)</tr>', text)}
    assert "far beyond what was measured" in rows["10,000"][1] and "soft" in rows["10,000"][1]
    assert "soft" not in rows["1,000"][1]


def test_a_drain_that_was_predicted_badly_is_warned_of(measured: Measured, findings: Findings) -> None:
    assert findings.drain is not None
    assert "may be as far off" not in sizes.drains(findings)
    assert "The prediction is +83.0 % off" in sizes.drains(replace(findings, drain=replace(findings.drain, gap=0.83)))


def test_closed_loops_are_named_by_their_callers_and_offer_no_rate(measured: Measured) -> None:
    assert '<td>64 callers</td><td class="number"></td>' in runs.steps(measured)


def _without(measured: Measured) -> Sequence[Measured]:
    return (
        replace(measured, runs=(), drain=None),
        replace(measured, runs=measured.runs[:1], drain=None),
        replace(measured, runs=tuple(replace(run, samples=()) for run in measured.runs[:6])),
        replace(
            measured,
            runs=tuple(replace(run, result=replace(run.result, start=None, settled=None)) for run in measured.runs[:6]),
        ),
    )


@pytest.mark.parametrize("place", range(4))
def test_a_plan_that_lacks_parts_still_has_a_page(measured: Measured, place: int) -> None:
    lacking = _without(measured)[place]
    shape_of(page.write(lacking, conclude(lacking)))


def test_names_are_text_and_never_markup(measured: Measured, findings: Findings) -> None:
    evil = "<script>alert(1)</script>"
    fleet = replace(measured.fleet, settings={evil: evil})
    named = replace(measured, runs=(), fleet=fleet, machine={**measured.machine, "cpu": evil})
    text = page.write(named, findings)
    assert "<script" not in text and "&lt;script&gt;" in text


def test_both_files_are_written_whole(tmp_path: Path, measured: Measured) -> None:
    short = replace(measured, runs=measured.runs[:2])
    findings = conclude(short)
    path_json = files.save(short, findings, tmp_path / "plan.html")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["plan.html", "plan.json"]
    assert files.load(path_json) == (short, findings)
    with pytest.raises(ValueError, match=r"ends in \.html"):
        files.save(measured, findings, tmp_path / "plan.json")
