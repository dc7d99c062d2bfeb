"""Virtual time."""

import pytest

from loadtest.simulate.event_loop import EventLoop


def test_actions_run_in_the_order_of_time_and_then_of_making() -> None:
    """An action may make another one; what is due at the end or later stays."""
    loop = EventLoop()
    seen: list[tuple[float, str]] = []

    def note(name: str) -> None:
        seen.append((loop.now, name))
        if name == "b":
            loop.at(2.0, note, "made late")

    for when, name in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (3.0, "never")):
        loop.at(when, note, name)
    loop.run(3.0)
    assert seen == [(1.0, "a"), (1.0, "b"), (2.0, "c"), (2.0, "made late")]
    assert loop.now == 3.0


def test_a_period_does_not_drift() -> None:
    """The last of many is at its exact multiple."""
    loop = EventLoop()
    seen: list[float] = []
    loop.every(0.1, lambda _: seen.append(loop.now), first=0.5)
    loop.run(100.55)
    assert len(seen) == 1_001
    assert seen[-1] == 0.5 + 1_000 * 0.1


def test_the_past_cannot_be_changed() -> None:
    """Nor is there a period of nothing."""
    loop = EventLoop()
    loop.run(5.0)
    with pytest.raises(ValueError, match="is over"):
        loop.at(4.0, print)
    with pytest.raises(ValueError, match="above 0"):
        loop.every(0.0, print)
