"""Chains of functions: what a handler's calls say of theirs, and when one is stopped."""

import pytest

from services.policy import lineage

TRACE = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"


def test_a_header_is_read_back_one_step_further() -> None:
    """What an invocation's calls carry makes the next one stand one deeper, up to the sixteenth."""
    header = lineage.trace_header(TRACE, bytes.fromhex("0011223344"), 3)
    assert header == "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1;Lineage=1:00112233:3"
    assert lineage.depth_after(header.encode()) == 4
    assert lineage.depth_after(lineage.trace_header(TRACE, b"\1" * 16, 15).encode()) == 16
    assert lineage.depth_after(b"Root=1-2-3;Lineage=1:0:99999") == 16
    assert lineage.trace_header("", b"\1" * 16, 1) == ""


@pytest.mark.parametrize(
    "header", [b"", b"Root=1-5759e988-bd862e3fe1be46a994272793", b"Lineage=", b"Lineage=1:zz:1", b"XLineage=1:0:5"]
)
def test_a_header_that_names_no_chain_begins_one(header: bytes) -> None:
    """A caller's own tracing is no chain."""
    assert lineage.depth_after(header) == 0


def test_the_seventeenth_is_stopped_unless_the_function_allows_it() -> None:
    """Sixteen run."""
    assert not lineage.is_stopped(15, allows_recursion=False)
    assert lineage.is_stopped(16, allows_recursion=False)
    assert not lineage.is_stopped(16, allows_recursion=True)
