"""What commands make of what the services tell: trees of spans, rates, words for times."""

import io
from typing import Any

import pytest
from rich.console import Console

from cli.commands.top import Look, compare, frame
from cli.commands.trace import needles_of
from cli.failures import CliError, describe_refusal
from cli.output import size_of, span_of_ms
from cli.scrape import Samples, parse
from cli.trace_tree import build, render, walk
from services.shared.errors import EvenflowError, Reason


def span(span_id: str, parent_id: str, name: str, start: int, end: int, **more: Any) -> dict[str, Any]:
    """A line of the span store."""
    return {
        "trace_id": "t" * 32,
        "span_id": span_id,
        "parent_id": parent_id,
        "name": name,
        "node": "node-0",
        "service": "s",
        "start_unix_nano": start,
        "end_unix_nano": end,
        "attributes": {},
        "links": [],
        **more,
    }


def test_spans_become_a_tree_in_order_of_time() -> None:
    """Children under parents whatever their order in the files; a span without its parent is a root."""
    spans = [
        span("c", "b", "late", 30, 40),
        span("d", "b", "early", 20, 90),
        span("b", "a", "middle", 10, 95),
        span("a", "", "root", 0, 100),
        span("e", "gone", "orphan", 50, 60),
    ]
    found = [(parent.span["name"] if parent else "", branch.span["name"]) for parent, branch in walk(build(spans))]
    assert found == [("", "root"), ("root", "middle"), ("middle", "early"), ("middle", "late"), ("", "orphan")]


def test_a_rendered_tree_shows_durations_attributes_and_errors() -> None:
    """One line a span."""
    spans = [
        span("a", "", "frontend.invoke_async", 0, 5_000_000, attributes={"faas.name": "f", "evenflow.shard_id": 0}),
        span("b", "a", "poller.attempt", 2_000_000, 4_500_000, error="no good", attributes={"evenflow.attempt": 2}),
    ]
    screen = Console(file=io.StringIO(), width=200)
    screen.print(render(build(spans)))
    head, first, second = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert "5.0 ms, 2 spans" in head
    assert "frontend.invoke_async  5.0 ms  +0 us  node-0  f, shard 0" in first
    assert "poller.attempt  2.5 ms  +2.0 ms  node-0  attempt 2  no good" in second


def test_an_id_is_looked_for_in_every_form_it_may_mean() -> None:
    """32 digits may be a trace id or a request id without its dashes."""
    request_id = "01a21096-bfa5-7000-9c98-328572703ebe"
    bare = request_id.replace("-", "")
    assert needles_of(request_id.upper()) == (request_id,)
    assert needles_of(bare) == (bare, request_id)
    assert needles_of("473fbbda28f6a0a366da7c3df3eeada5") == ("473fbbda28f6a0a366da7c3df3eeada5",)
    with pytest.raises(CliError, match="neither"):
        needles_of("473f")


def metrics(received: int, runs: int, errors: int, summed: float) -> Samples:
    """What the services' endpoints answer."""
    return parse(
        "# TYPE AsyncEventsReceived_total counter\n"
        f'AsyncEventsReceived_total{{function="f"}} {received}\n'
        "# TYPE Invocations_total counter\n"
        f'Invocations_total{{function="f",tenant="default"}} {runs}\n'
        "# TYPE Errors_total counter\n"
        f'Errors_total{{function="f",tenant="default"}} {errors}\n'
        "# TYPE Duration_milliseconds histogram\n"
        f'Duration_milliseconds_count{{function="f"}} {runs}\n'
        f'Duration_milliseconds_sum{{function="f"}} {summed}\n'
        "# TYPE evenflow_queue_depth gauge\n"
        'evenflow_queue_depth{shard="10"} 4\n'
        'evenflow_queue_depth{shard="2"} 3\n'
    )


def test_two_looks_give_rates_sums_and_means() -> None:
    """Counters by the time between the looks; shards in order; a process that restarted counts as no rate."""
    numbers = compare(Look(10.0, metrics(100, 50, 0, 10.0), ()), Look(12.0, metrics(140, 70, 4, 50.0), ("poller-0",)))
    assert numbers["accepted_per_second"] == 20.0
    assert (numbers["depth"], [s["shard_id"] for s in numbers["shards"]]) == (7, [2, 10])
    (function,) = numbers["functions"]
    assert (function["invocations_per_second"], function["errors_per_second"]) == (10.0, 2.0)
    assert function["duration_mean_ms"] == 2.0
    back = compare(Look(10.0, metrics(100, 50, 0, 10.0), ()), Look(11.0, metrics(3, 2, 0, 1.0), ()))
    assert back["accepted_per_second"] == 0.0
    screen = Console(file=io.StringIO(), width=120)
    screen.print(frame(numbers))
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "accepted 20/s" in text and "no answer from poller-0" in text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0.0004, "0 us"), (0.25, "250 us"), (3.52, "3.5 ms"), (553.4, "553 ms"), (1_000, "1.00 s"), (59_000, "59.0 s"),
     (125_000, "2 min 5 s"), (7_260_000, "2 h 1 min")],
)  # fmt: skip
def test_times_are_told_in_three_digits_or_so(milliseconds: float, text: str) -> None:
    """From microseconds to hours."""
    assert span_of_ms(milliseconds) == text


def test_sizes_are_told_in_units() -> None:
    """Powers of 1,024."""
    assert [size_of(n) for n in (0, 1_023, 18_432, 3 << 20, 5 << 30)] == [
        "0 B",
        "1023 B",
        "18.0 KiB",
        "3.0 MiB",
        "5.0 GiB",
    ]


def test_a_refusal_is_one_line_with_its_reason() -> None:
    """Whatever the peer's text looks like; a dead service is not told in gRPC's words."""
    error = EvenflowError(Reason.ERROR_REASON_FUNCTION_NOT_FOUND, "no function\n  'f'")
    assert describe_refusal(error) == "FUNCTION_NOT_FOUND: no function 'f'"
    gone = EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, "failed to connect to all addresses; last error: UNKNOWN")
    assert "does not answer now" in describe_refusal(gone)


def test_a_terminal_is_not_obeyed_by_what_a_handler_wrote() -> None:
    """Escape sequences, carriage returns, bells, C1 and marks that turn the text around are shown; letters stay."""
    from cli.output import harmless

    assert harmless("a\x1b[31mred\rX\x07\x9b2J\u202ez\n") == "a\\x1b[31mred\\rX\\x07\\x9b2J\\u202ez\n"
    assert harmless("tab\tand\r\nnew line é 日本 🙂\n") == "tab\tand\nnew line é 日本 🙂\n"
