"""A function that crowds full hosts is held to what keeps it going; nobody else is."""

from services.poller.functions import FunctionKey, InFlight
from services.poller.limits import Limits
from services.poller.pace import AHEAD_MS, MIN_LEASES, Pace

NOISY, QUIET = ("noisy", "f"), ("quiet", "f")
TICK_MS = 100.0
MAX_LEASES = 2_000


class Rig:
    """A pace, the bounds that it told, and hosts of so many slots whose load is told to it."""

    def __init__(self) -> None:
        self.bounds: dict[FunctionKey, int | None] = {}
        self.told = 0
        self.pace = Pace(self._tell, MAX_LEASES)
        self.running: dict[FunctionKey, InFlight] = {NOISY: InFlight(), QUIET: InFlight()}
        self.now_ms = 0.0

    def _tell(self, key: FunctionKey, bound: int | None) -> None:
        self.bounds[key] = bound
        self.told += 1

    def tick(self, ended: dict[FunctionKey, int], *, waiting: int, busy: int = 16, run_ms: float = 50.0) -> None:
        """A tick after so many runs."""
        self.now_ms += TICK_MS
        for key, count in ended.items():
            for _ in range(count):
                self.pace.ended(key, self.running[key], run_ms, self.now_ms)
        self.pace.tick(self.now_ms, busy, waiting)


def test_a_flood_is_held_to_its_pace_and_who_sends_little_to_nothing() -> None:
    """Little's law: ten runs in 100 ms, of 50 ms each and as long ahead as allowed."""
    rig = Rig()
    rig.running[NOISY].count, rig.running[QUIET].count = 400, 6
    for _ in range(30):
        rig.tick({NOISY: 10, QUIET: 2}, waiting=390)
    expected = 0.1 * (50.0 + AHEAD_MS)
    assert QUIET not in rig.bounds
    bound = rig.bounds[NOISY]
    assert bound is not None and expected * 0.75 <= bound <= expected * 1.4
    # Steady: not a message to the queue nodes at every tick.
    assert rig.told <= 5


def test_it_is_never_held_to_fewer_than_a_few() -> None:
    """Also when nothing of it ends."""
    rig = Rig()
    rig.running[NOISY].count = 400
    rig.tick({NOISY: 1}, waiting=390)
    for _ in range(50):
        rig.tick({}, waiting=390)
    assert rig.bounds[NOISY] == MIN_LEASES


def test_hosts_that_take_more_get_more() -> None:
    """The bound doubles while little waits there, and is lifted in the end."""
    rig = Rig()
    rig.running[NOISY].count = 400
    rig.tick({NOISY: 1}, waiting=390)
    before = rig.bounds[NOISY]
    rig.running[NOISY].count = before or 0
    rig.tick({NOISY: 1}, waiting=0)
    assert before is not None and rig.bounds[NOISY] == before * 2
    for _ in range(10):
        rig.tick({NOISY: 1}, waiting=1)
    assert rig.bounds[NOISY] is None


def test_it_is_let_go_when_the_others_have_as_much() -> None:
    """At full hosts a function with an eighth of what is there, or less, is not held."""
    rig = Rig()
    rig.running[NOISY].count = 40
    rig.tick({NOISY: 1, QUIET: 1}, waiting=100)
    assert rig.bounds[NOISY] is not None
    rig.running[QUIET].count = 40 * 8
    for _ in range(10):
        rig.tick({NOISY: 1, QUIET: 1}, waiting=100)
    assert rig.bounds[NOISY] is None


def test_a_fast_function_by_itself_is_not_slowed() -> None:
    """13,000 runs a second at a full host: what it may have is more than a poller ever holds for it."""
    rig = Rig()
    rig.running[NOISY].count = 448
    for _ in range(20):
        rig.tick({NOISY: 1_300}, waiting=190, busy=2, run_ms=0.05)
    bound = rig.bounds.get(NOISY)
    assert bound is None or bound > 1_000


def test_runs_of_minutes_are_remembered_for_minutes() -> None:
    """Sixteen slots, runs of 60 s, one ending every 3.75 s: the pace does not fall to nothing between two of them."""
    rig = Rig()
    rig.running[NOISY].count = 300
    for tick in range(3_000):
        rig.tick({NOISY: 1} if tick % 38 == 0 else {}, waiting=284, run_ms=60_000.0)
    assert (rig.bounds[NOISY] or 0) >= MIN_LEASES


def test_what_has_ended_is_forgotten() -> None:
    """A function without leases leaves nothing behind."""
    rig = Rig()
    rig.tick({NOISY: 3}, waiting=0)
    for _ in range(400):
        rig.tick({}, waiting=0)
    assert not rig.pace._flows


def test_the_least_of_all_bounds_counts() -> None:
    """A pause is a pause, whatever the pace; lifting the pace brings back the others."""
    told: dict[FunctionKey, int | None] = {}
    limits = Limits(told.__setitem__, MAX_LEASES)
    limits.set_pace(NOISY, 20)
    assert told[NOISY] == 20
    limits.pause(NOISY, True)
    assert told[NOISY] == 0
    limits.pause(NOISY, False)
    limits.set_pace(NOISY, None)
    assert told[NOISY] is None
