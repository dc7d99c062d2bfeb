"""The line for starts: order of arrival, one place each, nobody overtakes the first."""

import pytest
from evenflow.control.v1 import resources_pb2

from services.runtime.functions import HostedFunction
from services.runtime.start_line import StartLine


def function(name: str, *, sandboxes: int = 0) -> HostedFunction:
    """One that wants something."""
    function = resources_pb2.Function(tenant_id="t", function_name=name)
    made = HostedFunction(function, function.latest, None)  # type: ignore[arg-type]
    made.busy = sandboxes
    made.provisioned.target = 10
    return made


@pytest.fixture
def line() -> StartLine:
    """An empty one."""
    return StartLine()


def test_an_empty_line_lets_everybody_start(line: StartLine) -> None:
    """And has no first."""
    assert line.may_start(function("a")) and line.first is None and not line


def test_only_the_first_may_start(line: StartLine) -> None:
    """Joining again does not change the place; leaving lets the next one come."""
    a, b = function("a"), function("b")
    for one in (a, b, a):
        line.join(one)
    assert line.may_start(a) and not line.may_start(b) and not line.may_start(function("c"))
    line.leave(a)
    assert line.first is b and a not in line
    line.leave(a)
    assert len(line) == 1


def test_who_had_a_turn_goes_to_the_end(line: StartLine) -> None:
    """If it is in the line at all."""
    a, b = function("a"), function("b")
    line.join(a)
    line.join(b)
    line.to_the_end(a)
    line.to_the_end(function("c"))
    assert line.first is b and len(line) == 2


def test_those_that_want_nothing_any_more_fall_out(line: StartLine) -> None:
    """Their runs were withdrawn, say: they must not hold up the others."""
    a, b = function("a"), function("b")
    line.join(a)
    line.join(b)
    a.provisioned.target = 0
    assert line.first is b and len(line) == 1


def test_it_knows_whether_somebody_has_nothing_at_all(line: StartLine) -> None:
    """As of when they looked last."""
    a, b = function("a"), function("b", sandboxes=1)
    line.join(b)
    assert not line.has_bare
    line.join(a)
    assert line.has_bare
    a.busy = 1
    line.join(a)
    assert not line.has_bare
    a.busy = 0
    line.join(a)
    line.leave(a)
    assert not line.has_bare
