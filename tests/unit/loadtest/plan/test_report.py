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
from loadtest.plan.report import page
from loadtest.plan.report.headline import sentences, title

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
    runs = tuple(replace(run, result=replace(run.result, void=("too late",))) for run in measured.runs)
    void = replace(measured, runs=runs)
    told = conclude(void)
    assert title(told) == "No tested rate held the objective on one runtime host of 8 slots"
    assert "NOT valid" in " ".join(sentences(void, told))
    assert "too late" in page.write(void, told)


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
