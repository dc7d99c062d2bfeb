"""Rows of several hosts become one table."""

from evenflow.runtime.v1 import runtime_pb2

from cli.charges import summarise, usd


def row(tenant: str, name: str, day: str, runs: int, mb_ms: int = 0) -> runtime_pb2.UsageRow:
    return runtime_pb2.UsageRow(
        tenant_id=tenant, function_name=name, day=day, invocations=runs, request_units=runs, mb_ms=mb_ms
    )


ROWS = [
    row("a", "f", "2026-11-24", 1_000_000),
    row("a", "f", "2026-11-25", 2_000_000),
    row("a", "g", "2026-11-25", 1_000_000, 1_024_000_000),
    row("b", "f", "2026-11-25", 1),
    row("a", "", "", 5_000_000),
]


def test_by_function_the_dearest_comes_first() -> None:
    """What several functions used together keeps a line of its own."""
    sums, total = summarise(ROWS, "function")
    assert list(sums) == [("a", "(several)"), ("a", "f"), ("a", "g"), ("b", "f")]
    assert total.request_units == 9_000_001 and usd(total.charge.requests_usd) == "1.80000020"
    assert usd(sums["a", "g"].charge.total_usd) == "0.21666670"


def test_by_tenant_and_by_day() -> None:
    """Days in order, what came before them first."""
    assert list(summarise(ROWS, "tenant")[0]) == [("a",), ("b",)]
    by_day, _ = summarise(ROWS, "day")
    assert list(by_day) == [("(earlier)",), ("2026-11-24",), ("2026-11-25",)]
    assert by_day["2026-11-25",].invocations == 3_000_001


def test_json_has_exact_numbers() -> None:
    """Dollars and GB-seconds as decimal text."""
    told = summarise(ROWS[2:3], "day")[1].as_dictionary()
    assert told["gb_seconds"] == "1000" and told["total_usd"] == "0.21666670" and told["requests"] == 1_000_000


def test_nothing_costs_nothing() -> None:
    """Sums of no rows."""
    sums, total = summarise([], "function")
    assert not sums and usd(total.charge.total_usd) == "0.00000000"
