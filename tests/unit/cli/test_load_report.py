"""What `evenflow load` says of a run."""

import io
from typing import Any

import pytest
from rich.console import Console

from cli.load_report import Asked, failure, show
from loadtest.open_loop.result import Latency, LoadResult

ONE = Latency(10, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)


def found(**told: Any) -> LoadResult:
    known: dict[str, Any] = {"planned": 10, "sent": 10, "late": 0, "dropped": 0, "accepted": 10, "refused": {}}
    times = {"accept": ONE, "start": ONE, "settled": ONE}
    more = {"unanswered": 0, "seconds": 1.0, "drained_seconds": 0.2, "generator_cpu": 0.1}
    return LoadResult("http", **{**known, **more, **times, **told})


def shown(result: LoadResult, asked: Asked) -> str:
    out = io.StringIO()
    show(result, asked, Console(file=out, width=200, highlight=False))
    return out.getvalue()


@pytest.mark.parametrize(
    ("told", "asked", "says"),
    [
        ({}, Asked(), ""),
        (
            {"refused": {"ResourceNotFoundException": 10}, "accepted": 0},
            Asked(function="nope"),
            "'nope': `evenflow dep",
        ),
        ({"refused": {"FUNCTION_NOT_FOUND": 10}, "accepted": 0}, Asked(host="far"), "no function `load` on that fleet"),
        ({"refused": {"connection": 10}, "accepted": 0}, Asked(), "nobody listens"),
        ({"refused": {"connection": 4}, "accepted": 6}, Asked(), "of 10 events 4 refused: the door went away"),
        ({"dropped": 3, "unanswered": 2}, Asked(), "2 unanswered, 3 dropped: as many requests as --in-flight"),
        ({"not_started": 1}, Asked(), "1 not started"),
        ({"not_settled": 1}, Asked(), ""),
    ],
)
def test_what_was_lost_is_said_with_what_to_do(told: dict[str, Any], asked: Asked, says: str) -> None:
    line = failure(found(**told), asked)
    assert says in line and bool(line) == bool(says) and "\n" not in line


def test_a_closed_loop_is_called_one() -> None:
    text = shown(found(), Asked(callers=8))
    assert "closed loop, 8 callers: it hides stalls" in text
    assert "planned" not in text and "intended" not in text
    assert "from the intended send" in shown(found(), Asked())


def test_synchronous_events_have_answers_and_samples_are_called_so() -> None:
    text = shown(found(start=None, settled=None), Asked(synchronous=True, function="mine"))
    assert "answer " in text and "accept" not in text and "not started" not in text
    text = shown(found(), Asked(function="mine"))
    assert "start (a sample)" in text and "settled (a sample)" in text
    assert "start (a sample)" not in shown(found(), Asked())


def test_the_noisy_tenant_has_rows_of_its_own() -> None:
    groups = {"noisy": {"accept": ONE, "start": ONE}, "others": {"accept": ONE}}
    text = shown(found(groups=groups), Asked())
    assert all(row in text for row in ("accept, noisy", "accept, others", "start, noisy"))


def test_the_drain_is_no_shorter_than_what_settled() -> None:
    assert "; drained 60.10 s after" in shown(found(settled_seconds=60.1), Asked())
    assert "; not drained 60.00 s after" in shown(found(drained_seconds=60.0, not_started=1), Asked())
