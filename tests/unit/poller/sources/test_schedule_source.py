"""Schedules with the test's clock: when they fire, under which token, what is made up for and what is not."""

import json
from collections.abc import Callable, Iterator

import pytest
from evenflow.control.v1 import resources_pb2
from evenflow.frontend.v1 import frontend_pb2

from services.policy.scheduled_events import fire_token
from services.poller.settings import PollerSettings
from services.poller.sources.running import Ownership
from services.poller.sources.schedule_source import ScheduleSource, ScheduleSources
from services.shared.clock import FakeClock
from services.shared.errors import EvenflowError, Reason
from services.shared.metrics import Metrics

# A whole minute: 2027-01-15T08:00:00Z.
START_MS = 1_800_000_000_000
MINUTE_MS = 60_000
FLEET = resources_pb2.Fleet(account_id="123456789012", region="eu-central-1")
Done = Callable[[EvenflowError | None], None]


class Door:
    """Takes fires; `refusal` is what each gets, Ellipsis keeps them waiting."""

    def __init__(self) -> None:
        self.events: list[frontend_pb2.EventSubmission] = []
        self.waiting: list[Done] = []
        self.refusal: EvenflowError | None = None
        self.holds = False

    def submit(self, event: frontend_pb2.EventSubmission, within_ms: float, done: Done) -> None:
        assert within_ms > 0
        self.events.append(event)
        if self.holds:
            self.waiting.append(done)
        else:
            done(self.refusal)

    @property
    def tokens(self) -> list[str]:
        return [event.client_token for event in self.events]


class Rig:
    def __init__(self, metrics: Metrics) -> None:
        self.clock = FakeClock(START_MS)
        self.door = Door()
        self.kind = ScheduleSources(submit=self.door.submit, clock=self.clock, metrics=metrics, draw=lambda: 0.999_999)
        self.lease_ms = 10_000.0
        self.done_ms: list[int] = []

    def begin(
        self, expression: str = "rate(1 minute)", begun_ms: int = START_MS, done_until_ms: int = 0, **more: object
    ) -> ScheduleSource:
        source = resources_pb2.EventSource(
            source_id="source-1",
            tenant_id="default",
            function_name="tick",
            qualifier="live",
            created_at_ms=begun_ms,
            schedule=resources_pb2.ScheduleSource(expression=expression, name="every-minute", **more),  # type: ignore[arg-type]
        )
        assert self.kind.wants(source)
        remaining_ms, report = lambda: self.lease_ms, self.done_ms.append
        return self.kind.begin(Ownership(source, FLEET, 1, 1, remaining_ms, done_until_ms, report))

    def pass_ms(self, source: ScheduleSource, delta_ms: int, step_ms: int = 500) -> None:
        for _ in range(delta_ms // step_ms):
            self.clock.advance(step_ms)
            source.step()


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Metrics]:
    folder = str(tmp_path_factory.mktemp("metrics"))
    made = Metrics("poller", PollerSettings(node_id="poller-0", data_dir=folder, run_dir=folder, token_file=""))
    yield made
    made.shutdown()


@pytest.fixture
def rig(metrics: Metrics) -> Rig:
    return Rig(metrics)


def test_each_due_time_is_one_event_under_a_token_of_its_own(rig: Rig) -> None:
    """Every minute one fire, as EventBridge words it, for the function and its qualifier."""
    source = rig.begin()
    rig.pass_ms(source, 3 * MINUTE_MS)
    assert rig.door.tokens == [fire_token("source-1", START_MS + n * MINUTE_MS) for n in (1, 2, 3)]
    event = rig.door.events[0]
    assert (event.function_name, event.qualifier, event.tenant_id, event.source) == (
        "tick",
        "live",
        "default",
        "schedule",
    )
    found = json.loads(event.payload)
    assert len(found.pop("id")) == 36
    assert found == {
        "version": "0",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "123456789012",
        "time": "2027-01-15T08:01:00Z",
        "region": "eu-central-1",
        "resources": ["arn:aws:events:eu-central-1:123456789012:rule/every-minute"],
        "detail": {},
    }
    assert source.submitted_total == 3


def test_two_owners_of_one_fire_send_the_same_to_the_byte(rig: Rig) -> None:
    """Whoever takes over after a fire repeats it under the same token, so that it is one event."""
    first = rig.begin()
    rig.pass_ms(first, MINUTE_MS)
    second = rig.begin()
    second.step()
    assert len(rig.door.events) == 2
    assert rig.door.events[0] == rig.door.events[1]
    rig.pass_ms(second, MINUTE_MS)
    assert rig.door.tokens[2] == fire_token("source-1", START_MS + 2 * MINUTE_MS)


def test_a_new_owner_does_not_repeat_what_is_known_to_be_made(rig: Rig) -> None:
    """However long ago: its token may be forgotten by then. What is due after that is made."""
    first = rig.begin("rate(1 hour)", catch_up_seconds=86_400)
    rig.pass_ms(first, 60 * MINUTE_MS, 10_000)
    assert rig.done_ms == [START_MS + 60 * MINUTE_MS]
    first.retire()
    rig.clock.advance(50 * MINUTE_MS)
    second = rig.begin("rate(1 hour)", done_until_ms=rig.done_ms[-1], catch_up_seconds=86_400)
    second.step()
    assert len(rig.door.events) == 1
    rig.clock.advance(10 * MINUTE_MS)
    second.step()
    assert rig.door.tokens[1:] == [fire_token("source-1", START_MS + 120 * MINUTE_MS)]
    # Another one had it for hours while this process was frozen.
    rig.clock.advance(180 * MINUTE_MS)
    second.renew(3, START_MS + 300 * MINUTE_MS)
    second.step()
    assert len(rig.door.events) == 2


def test_what_was_not_made_is_not_told_as_done(rig: Rig) -> None:
    """A door that is away: the next owner makes up for it. One in the future is of a clock that was wrong."""
    rig.door.refusal = EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, "no door")
    rig.pass_ms(rig.begin(), MINUTE_MS)
    assert not rig.done_ms
    rig.door.refusal = None
    rig.begin(done_until_ms=START_MS + 1_000 * MINUTE_MS).step()
    assert rig.done_ms == [START_MS + MINUTE_MS]


def test_the_given_input_replaces_the_event(rig: Rig) -> None:
    """Byte by byte."""
    rig.pass_ms(rig.begin(input='{"go": 1}'), MINUTE_MS)
    assert [event.payload for event in rig.door.events] == [b'{"go": 1}']


def test_of_the_missed_fires_the_latest_is_made_up_for(rig: Rig) -> None:
    """Nobody owned it for ten minutes: one fire, not ten; none for the time before it was made."""
    rig.clock.advance(10 * MINUTE_MS + 5_000)
    source = rig.begin(catch_up_seconds=3_600)
    source.step()
    source.step()
    assert rig.door.tokens == [fire_token("source-1", START_MS + 10 * MINUTE_MS)]
    fresh = rig.begin(begun_ms=START_MS + 10 * MINUTE_MS + 1)
    fresh.step()
    assert len(rig.door.events) == 1


def test_a_fire_that_was_missed_for_too_long_is_skipped(rig: Rig) -> None:
    """Hourly, five minutes late, and a catch-up of a minute: the next fire is the next hour's."""
    rig.clock.advance(65 * MINUTE_MS)
    source = rig.begin("rate(1 hour)")
    rig.pass_ms(source, MINUTE_MS)
    assert not rig.door.events
    late = rig.begin("rate(1 hour)", catch_up_seconds=600)
    late.step()
    assert rig.door.tokens == [fire_token("source-1", START_MS + 60 * MINUTE_MS)]


def test_a_fire_that_cannot_be_submitted_is_tried_again_with_back_off(rig: Rig) -> None:
    """The same token until the door takes it, then the next due time."""
    rig.door.refusal = EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, "no door")
    source = rig.begin(catch_up_seconds=600)
    rig.pass_ms(source, MINUTE_MS)
    assert len(rig.door.events) == 1 and source.last_error == "no door"
    rig.pass_ms(source, 200, 50)
    assert len(rig.door.events) == 2
    rig.pass_ms(source, 399, 399)
    assert len(rig.door.events) == 2
    rig.door.refusal = None
    rig.pass_ms(source, 100, 50)
    assert set(rig.door.tokens) == {fire_token("source-1", START_MS + MINUTE_MS)}
    assert source.last_error == ""
    rig.pass_ms(source, MINUTE_MS)
    assert rig.door.tokens[-1] == fire_token("source-1", START_MS + 2 * MINUTE_MS)


def test_a_fire_that_the_door_never_takes_gives_way_to_the_next(rig: Rig) -> None:
    """After the catch-up time; one that is refused for good at once."""
    rig.door.refusal = EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, "no door")
    source = rig.begin("rate(5 minutes)")
    rig.pass_ms(source, 7 * MINUTE_MS)
    rig.door.refusal = EvenflowError(Reason.ERROR_REASON_FUNCTION_NOT_FOUND, "gone")
    rig.pass_ms(source, 4 * MINUTE_MS)
    assert sorted(set(rig.door.tokens)) == sorted(fire_token("source-1", START_MS + n * 5 * MINUTE_MS) for n in (1, 2))
    assert rig.door.tokens.count(fire_token("source-1", START_MS + 10 * MINUTE_MS)) == 1


def test_nothing_fires_without_a_lease_nor_while_an_answer_is_owed(rig: Rig) -> None:
    """A lease that ended is somebody else's; one fire of a schedule is under way at a time."""
    source = rig.begin()
    rig.lease_ms = 0.0
    rig.pass_ms(source, MINUTE_MS)
    assert not rig.door.events
    rig.lease_ms, rig.door.holds = 10_000.0, True
    rig.pass_ms(source, 2 * MINUTE_MS)
    assert len(rig.door.events) == 1
    source.retire()
    assert not source.is_over
    rig.door.waiting.pop()(None)
    assert source.is_over
    rig.pass_ms(source, MINUTE_MS)
    assert len(rig.door.events) == 1


def test_a_wall_clock_that_is_set_back_does_not_silence_a_schedule(rig: Rig) -> None:
    """It was a day ahead and is corrected: fires go on by the right time."""
    source = rig.begin()
    rig.clock.jump_wall(86_400_000)
    rig.pass_ms(source, MINUTE_MS)
    rig.clock.jump_wall(-86_400_000)
    rig.door.events.clear()
    rig.pass_ms(source, 2 * MINUTE_MS)
    assert len(rig.door.events) >= 2
    assert rig.door.tokens[-1] == fire_token("source-1", START_MS + 3 * MINUTE_MS)


def test_a_schedule_that_cannot_be_read_says_so_and_fires_never(rig: Rig) -> None:
    """Control lets none in; an older state may have one."""
    source = rig.begin("whenever")
    rig.pass_ms(source, MINUTE_MS)
    assert "no schedule" in source.last_error
    assert not rig.door.events
