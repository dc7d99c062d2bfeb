"""Clocks: two times that are kept apart."""

import pytest

from services.shared.clock import FakeClock, SystemClock


def test_the_machines_clocks_agree_on_their_units() -> None:
    """Wall time in ms and ns; monotonic time does not go back."""
    clock = SystemClock()
    wall_ms, wall_ns, first = clock.wall_ms(), clock.wall_ns(), clock.monotonic_ms()
    assert abs(wall_ns // 1_000_000 - wall_ms) < 10_000 and wall_ms > 1_600_000_000_000
    assert clock.monotonic_ms() >= first


def test_a_fake_clock_moves_by_hand_only() -> None:
    """Time passes on both; a jump is of the wall clock alone."""
    clock = FakeClock()
    wall, steady = clock.wall_ms(), clock.monotonic_ms()
    assert (clock.wall_ms(), clock.monotonic_ms()) == (wall, steady) and wall != steady
    clock.advance(1_500)
    assert (clock.wall_ms() - wall, clock.monotonic_ms() - steady) == (1_500, 1_500)
    clock.jump_wall(-3_600_000)
    assert (clock.wall_ms() - wall, clock.monotonic_ms() - steady) == (1_500 - 3_600_000, 1_500)
    assert clock.wall_ns() == clock.wall_ms() * 1_000_000


def test_monotonic_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="does not go back"):
        FakeClock().advance(-1)
