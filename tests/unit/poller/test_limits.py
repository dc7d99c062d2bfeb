"""What a poller asks of a function: pauses, reservations, and what throttles teach."""

from collections.abc import Iterable

import pytest
from evenflow.control.v1 import resources_pb2

from services.policy.retry import Rules
from services.poller import limits as limits_module
from services.poller.functions import InFlight, KnownFunction, Plan
from services.poller.limits import Limits

KEY = ("default", "f")


def function(reserved: int | None = None, name: str = "f") -> resources_pb2.Function:
    """A function with a reservation."""
    return resources_pb2.Function(tenant_id="default", function_name=name, reserved_concurrency=reserved)


def plan(running: int) -> Plan:
    """A function with so many runs in flight."""
    in_flight = InFlight()
    in_flight.count = running
    return Plan(KnownFunction(function(), (), in_flight), "$LATEST", "arn", Rules())


class Told:
    """What the queue nodes were told last."""

    def __init__(self) -> None:
        self.bounds: dict[tuple[str, str], int | None] = {}
        self.limits = Limits(self.bounds.__setitem__, max_leases=1_000)

    def follow(self, functions: Iterable[resources_pb2.Function], streams: int = 1) -> None:
        """A new configuration."""
        self.limits.follow(functions, streams)


def test_a_reservation_bounds_the_leases_with_a_few_ready() -> None:
    """Beyond what may run, some wait at the hosts; over several streams each has its part."""
    told = Told()
    told.follow([function(100)])
    assert told.bounds[KEY] == 150
    told.follow([function(100)], streams=4)
    assert told.bounds[KEY] == 37
    told.follow([function(1)], streams=4)
    assert told.bounds[KEY] == 3


def test_zero_reserved_is_no_bound_and_a_lifted_one_goes() -> None:
    """Events of a closed function are to be ended, not kept in their shards."""
    told = Told()
    told.follow([function(0)])
    assert told.bounds.get(KEY) is None
    told.follow([function(5)])
    told.follow([function(None)])
    assert told.bounds[KEY] is None
    told.follow([function(5)])
    told.follow([])
    assert told.bounds[KEY] is None


def test_a_pause_wins_over_everything_and_ends() -> None:
    """Paused is 0; resumed is what it was."""
    told = Told()
    told.follow([function(10)])
    told.limits.pause(KEY, True)
    assert told.bounds[KEY] == 0
    assert told.limits.paused == [KEY]
    told.limits.pause(KEY, False)
    assert told.bounds[KEY] == 15


def test_pauses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than the bound is refused; one that is paused already is not."""
    monkeypatch.setattr(limits_module, "MAX_PAUSED", 1)
    told = Told()
    told.limits.pause(KEY, True)
    told.limits.pause(KEY, True)
    with pytest.raises(ValueError, match="resume some"):
        told.limits.pause(("default", "g"), True)


def test_throttles_halve_at_most_once_a_second_and_calm_grows_it_back() -> None:
    """A burst of refusals counts once; without any, the bound grows until it bounds nothing."""
    told = Told()
    told.limits.throttled(plan(40), 0.0)
    assert told.bounds[KEY] == 40
    for running in range(40, 0, -1):
        told.limits.throttled(plan(running), 10.0)
    assert told.bounds[KEY] == 40
    told.limits.throttled(plan(40), 1_000.0)
    assert told.bounds[KEY] == 20
    told.limits.tick(1_500.0)
    assert told.bounds[KEY] == 20
    now_ms, seen = 1_500.0, []
    while told.bounds[KEY] is not None:
        now_ms += 1_000.0
        told.limits.tick(now_ms)
        seen.append(told.bounds[KEY])
        assert len(seen) < 30
    assert seen[0] == 31
    grown = [bound for bound in seen if bound is not None]
    assert grown == sorted(grown)


def test_a_bound_never_falls_below_one() -> None:
    """Else a function would never be tried again."""
    told = Told()
    told.limits.throttled(plan(0), 0.0)
    for second in range(1, 10):
        told.limits.throttled(plan(0), second * 1_000.0)
    assert told.bounds[KEY] == 1


def test_the_lesser_of_reservation_and_lesson_counts() -> None:
    """A lesson above the reservation changes nothing."""
    told = Told()
    told.follow([function(10)])
    told.limits.throttled(plan(400), 0.0)
    assert told.bounds[KEY] == 15


def test_what_is_stuck_at_silent_hosts_takes_nothing_of_a_reservation() -> None:
    """Its leases are held there for long: as many others keep the reservation in use, until they end."""
    told = Told()
    told.follow([function(2), function(None, "free")])
    before = told.bounds[KEY]
    assert before is not None
    told.limits.set_stuck({KEY: 3, ("default", "free"): 5})
    assert told.bounds[KEY] == before + 3 and ("default", "free") not in told.bounds
    told.limits.set_stuck({})
    assert told.bounds[KEY] == before
