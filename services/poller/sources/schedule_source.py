"""Schedules: each due time becomes one event, whoever runs the schedule then."""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from evenflow.control.v1 import resources_pb2
from evenflow.frontend.v1 import frontend_pb2

from services.policy.backoff import equal_jitter_ms
from services.policy.scheduled_events import DEFAULT_CATCH_UP_SECONDS, fire_token, scheduled_event
from services.policy.schedules import latest_fire, parse
from services.poller.sources.announcer import Submit
from services.poller.sources.errands import names_of
from services.poller.sources.running import Ownership
from services.poller.sources.telemetry import ScheduleTelemetry
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason
from services.shared.metrics import Metrics

SOURCE = "schedule"
SUBMIT_WITHIN_MS = 10_000.0
RETRY_BASE_MS = 200.0
RETRY_CAP_MS = 10_000.0
# The wall clock was set back by more than this: fires that were past may be to come again. Their tokens are the same.
CLOCK_JUMP_MS = 2_000
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Means:
    """What schedules need from outside."""

    submit: Submit
    clock: Clock
    draw: Callable[[], float]
    telemetry: ScheduleTelemetry
    speed: float


class ScheduleSources:
    """See SourceKind."""

    name = "schedule"

    def __init__(
        self,
        *,
        submit: Submit,
        clock: Clock,
        metrics: Metrics,
        speed: float = 1.0,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`speed`: how many times faster than the clock the time of schedules passes, from when each was made."""
        self._means = Means(submit, clock, draw, ScheduleTelemetry(metrics), speed)

    def wants(self, source: resources_pb2.EventSource) -> bool:
        """See SourceKind."""
        return source.HasField("schedule")

    def begin(self, ownership: Ownership) -> "ScheduleSource":
        """See SourceKind."""
        return ScheduleSource(self._means, ownership)

    def tick(self, kept_ids: Callable[[], set[str]], revision: int, *, is_quiet: bool) -> None:
        """See SourceKind."""

    def halt(self) -> None:
        """See SourceKind."""

    async def stop(self) -> None:
        """See SourceKind."""


class ScheduleSource:
    """See RunningSource.

    A fire counts as made when the door has it durably, under a token of schedule and due time, and control is told: the
    next owner goes on after it. An owner before who could not tell any more made it moments ago: its token is known.
    One that cannot be submitted is tried again until it is older than the catch-up time; of several that were missed
    only the latest is made.
    """

    def __init__(self, means: Means, ownership: Ownership) -> None:
        self.source = ownership.source
        self.submitted_total = 0
        self.last_error = ""
        self.is_failed = False
        self._means = means
        self._fleet = ownership.fleet
        self._remaining_ms = ownership.remaining_ms
        self._report_done = ownership.report_done
        self._is_ending = False
        self._is_submitting = False
        self._failures = 0
        self._not_before_ms = 0.0
        schedule = ownership.source.schedule
        self._names = (schedule.name, ownership.source.function_name, ownership.source.tenant_id)
        self._catch_up_ms = (schedule.catch_up_seconds or DEFAULT_CATCH_UP_SECONDS) * 1_000
        # A schedule that was changed begins anew then, so that it does not fire for times before.
        self._begun_ms = ownership.source.modified_at_ms or ownership.source.created_at_ms
        self._due_ms: int | None = None
        self._seen_wall_ms = self._now_ms()
        try:
            self._schedule = parse(schedule.expression)
        except ValueError as e:
            # Control lets none in; one from an older state shows here and never fires.
            self.last_error = str(e)
            self._is_ending = True
            log.error("schedule %s: %s", names_of(ownership.source), e)
            return
        self._go_on(ownership.done_until_ms)

    @property
    def is_over(self) -> bool:
        """See RunningSource."""
        return self._is_ending and not self._is_submitting

    def renew(self, epoch: int, done_until_ms: int) -> None:
        """See RunningSource: who had it in between made some of what is due here."""
        if not self._is_ending and not self._is_submitting:
            self._go_on(done_until_ms)

    def step(self) -> None:
        """See RunningSource."""
        clock = self._means.clock
        now_ms = self._now_ms()
        was_ms, self._seen_wall_ms = self._seen_wall_ms, now_ms
        if self._is_ending or self._is_submitting:
            return
        if now_ms < was_ms - CLOCK_JUMP_MS:
            self._aim(self._begun_ms)
        if self._due_ms is None or now_ms < self._due_ms or clock.monotonic_ms() < self._not_before_ms:
            return
        if now_ms - self._due_ms > self._catch_up_ms:
            self._means.telemetry.missed(*self._names)
            log.warning("schedule %s: the fire of %d was missed", names_of(self.source), self._due_ms)
            self._aim(self._due_ms)
        elif (remaining_ms := self._remaining_ms()) > 0:
            # Of several that are due, the latest.
            later = latest_fire(self._schedule, self._due_ms, now_ms, self._begun_ms)
            self._fire(self._due_ms if later is None else later, min(SUBMIT_WITHIN_MS, remaining_ms))

    def retire(self) -> None:
        """See RunningSource."""
        self._is_ending = True

    async def close(self) -> None:
        """See RunningSource."""
        self.retire()

    def _now_ms(self) -> int:
        """The schedule's time; every owner has the same."""
        wall_ms, speed = self._means.clock.wall_ms(), self._means.speed
        return wall_ms if speed == 1 else self._begun_ms + int((wall_ms - self._begun_ms) * speed)

    def _go_on(self, done_until_ms: int) -> None:
        """Aim at what the owner before left. One in the future is of a wall clock that was set back since."""
        is_known = self._begun_ms < done_until_ms <= self._now_ms()
        self._aim(done_until_ms if is_known else self._begun_ms)

    def _aim(self, after_ms: int) -> None:
        """Set the next due time: the latest that was missed and may still be made, else the first that is to come."""
        now_ms = self._now_ms()
        after_ms = max(after_ms, now_ms - self._catch_up_ms - 1)
        missed_ms = latest_fire(self._schedule, after_ms, now_ms, self._begun_ms)
        self._due_ms = missed_ms or self._schedule.next_after(max(after_ms, now_ms), self._begun_ms)

    def _fire(self, due_ms: int, within_ms: float) -> None:
        source = self.source
        payload = source.schedule.input.encode() or scheduled_event(
            source_id=source.source_id,
            name=source.schedule.name or source.source_id,
            region=self._fleet.region,
            account_id=self._fleet.account_id,
            due_ms=due_ms,
        )
        event = frontend_pb2.EventSubmission(
            function_name=source.function_name,
            qualifier=source.qualifier,
            payload=payload,
            client_token=fire_token(source.source_id, due_ms),
            tenant_id=source.tenant_id,
            source=SOURCE,
        )
        self._due_ms = due_ms
        self._is_submitting = True
        self._means.submit(event, within_ms, lambda error: self._answered(due_ms, error))

    def _answered(self, due_ms: int, error: EvenflowError | None) -> None:
        self._is_submitting = False
        if error is not None and error.reason != Reason.ERROR_REASON_TOKEN_REUSED:
            self.last_error = error.message
            if error.kind.retryable:
                self._means.telemetry.retried(*self._names)
                self._failures += 1
                wait_ms = equal_jitter_ms(self._failures, RETRY_BASE_MS, RETRY_CAP_MS, self._means.draw())
                self._not_before_ms = self._means.clock.monotonic_ms() + wait_ms
                return
            self._means.telemetry.refused(*self._names)
            log.warning("schedule %s: a fire was refused for good: %s", names_of(self.source), error.message)
        else:
            self._means.telemetry.fired(*self._names)
            self.submitted_total += 1
            self.last_error = ""
        self._failures, self._not_before_ms = 0, 0.0
        self._report_done(due_ms)
        self._aim(due_ms)
