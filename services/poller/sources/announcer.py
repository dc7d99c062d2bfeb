"""Turns paths of a bucket into events: look, submit, note in the journal; what is refused for now, again later."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from evenflow.control.v1 import resources_pb2
from evenflow.frontend.v1 import frontend_pb2

from services.policy.accounts import account_of
from services.policy.backoff import equal_jitter_ms
from services.policy.s3_events import ObjectVersion, client_token, created_event
from services.poller.sources.backlog import Backlog, Wish
from services.poller.sources.errands import Errands
from services.poller.sources.folder import Halted
from services.poller.sources.journal import ANNOUNCED, REFUSED, Journal, JournalClosed
from services.poller.sources.look import Look, Sight, look_at
from services.poller.sources.telemetry import SourceTelemetry
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason

Submit = Callable[[frontend_pb2.EventSubmission, float, Callable[[EvenflowError | None], None]], None]
SOURCE = "bucket"
# Paths of one source that wait for a look or a retry; more stay in the folder and are found by a scan.
MAX_BACKLOG = 10_000
SUBMIT_WITHIN_MS = 10_000.0
RETRY_BASE_MS = 200.0
RETRY_CAP_MS = 30_000.0
SETTLE_MS = 2_000.0
_RETRIED = "retried"
# These say that the fleet is not itself now, nothing about the object.
_FLEET_REASONS = (Reason.ERROR_REASON_UNAUTHENTICATED, Reason.ERROR_REASON_ACCESS_DENIED)


@dataclass(frozen=True, slots=True)
class Means:
    """What announcing needs from outside. `halt` is set when the process ends."""

    submit: Submit
    clock: Clock
    draw: Callable[[], float]
    telemetry: SourceTelemetry
    halt: threading.Event


class Announcer:
    """Announces the objects of one source; at most `in_flight` are looked at or submitted at once."""

    def __init__(
        self,
        means: Means,
        errands: Errands,
        source: resources_pb2.EventSource,
        fleet: resources_pb2.Fleet,
        *,
        root: str,
        in_flight: int,
        remaining_ms: Callable[[], float],
        step: Callable[[], None],
    ) -> None:
        """`remaining_ms`: how long the lease still holds. `step`: asked for when something changed."""
        self.backlog = Backlog(MAX_BACKLOG)
        self._means = means
        self._errands = errands
        self._source = source
        self._fleet = fleet
        self._root = root
        self._in_flight = in_flight
        self._remaining_ms = remaining_ms
        self._step = step
        self._names = (source.bucket.bucket, source.function_name, source.tenant_id)
        self._marks: list[tuple[Wish, ObjectVersion, str]] = []
        self._is_marking = False
        self._is_ending = False
        self.announced_total = 0
        self.last_error = ""
        # Set while the journal is open.
        self.journal: Journal | None = None

    def launch(self, now_ms: float, room: int) -> None:
        """Take up what waits; at most `room` more objects."""
        journal = self.journal
        if journal is None or self._is_ending or self._remaining_ms() <= 0:
            return
        room = min(room, self._in_flight) - self.backlog.active
        while room > 0 and (wish := self.backlog.take(now_ms)) is not None:
            self._errands.spawn(self._announce(wish, journal))
            room -= 1

    def end(self) -> None:
        """Submit nothing more; answers to come are still noted."""
        self._is_ending = True
        self.backlog.clear()

    def write_marks(self) -> None:
        """Note in the journal what was answered."""
        if self._marks and not self._is_marking and self.journal is not None:
            self._is_marking = True
            self._errands.spawn(self._write(self.journal))

    def take_marks(self) -> list[tuple[ObjectVersion, str]]:
        """What is not noted yet, for the last write."""
        marks, self._marks = self._marks, []
        return [(version, state) for _, version, state in marks]

    async def _announce(self, wish: Wish, journal: Journal) -> None:
        look = Look(Sight.NOTHING)
        try:
            look = await self._look(wish, journal)
        except (Halted, JournalClosed):
            pass
        except OSError as e:
            self._errands.warn_once(f"look {e.errno}", "an object of bucket %s cannot be read: %s", self._names[0], e)
        finally:
            # Also when the task is cancelled, or fails.
            if look.version is None or look.sight not in (Sight.READY, Sight.UNSETTLED):
                self.backlog.end(wish)
        if look.version is None:
            return
        if look.sight is Sight.UNSETTLED:
            wish.seen = look.version.identity
            self.backlog.put_off(wish, self._means.clock.monotonic_ms() + SETTLE_MS)
        elif look.sight is Sight.READY:
            self._submit(wish, look, look.version)

    async def _look(self, wish: Wish, journal: Journal) -> Look:
        def look(reads_large: bool) -> Look:
            return look_at(
                self._root,
                wish.path,
                journal,
                self._means.halt,
                is_whole=wish.is_whole,
                seen=wish.seen,
                reads_large=reads_large,
            )

        found = await self._errands.run(lambda: look(False))
        if found.sight is Sight.LARGE:
            found = await self._errands.read(lambda: look(True))
        return found

    def _submit(self, wish: Wish, look: Look, version: ObjectVersion) -> None:
        # Looking took time: the lease may have ended meanwhile. Whoever has it now finds the object.
        remaining_ms = self._remaining_ms()
        if self._is_ending or remaining_ms <= 0:
            self.backlog.end(wish)
            return
        source = self._source
        payload = created_event(
            source_id=source.source_id,
            bucket=source.bucket.bucket,
            region=self._fleet.region,
            account_id=account_of(source.tenant_id, self._fleet.account_id),
            version=version,
            arrived_ns=look.arrived_ns,
            md5_hex=look.md5_hex,
        )
        event = frontend_pb2.EventSubmission(
            function_name=source.function_name,
            payload=payload,
            client_token=client_token(source.source_id, version),
            tenant_id=source.tenant_id,
            source=SOURCE,
        )
        within_ms = min(SUBMIT_WITHIN_MS, remaining_ms)
        self._means.submit(event, within_ms, lambda error: self._answered(wish, version, error))

    def _answered(self, wish: Wish, version: ObjectVersion, error: EvenflowError | None) -> None:
        # The token is of this object alone: a copy with other times in it is the same event.
        if error is None or error.reason == Reason.ERROR_REASON_TOKEN_REUSED:
            self._means.telemetry.announced(*self._names)
            self.announced_total += 1
            self.last_error = ""
            self._errands.forget_topic(_RETRIED)
            self._marks.append((wish, version, ANNOUNCED))
            self._errands.call_soon(self._step)
            return
        self.last_error = error.message
        if error.kind.retryable or error.reason in _FLEET_REASONS:
            self._means.telemetry.retried(*self._names)
            self._retry(wish, error)
        else:
            self._means.telemetry.refused(*self._names)
            self._errands.warn_once(
                f"refused {error.reason}",
                "an event of bucket %s for %s was refused for good (%s); further ones like it are not logged",
                self._source.bucket.bucket,
                self._source.function_name,
                error.message,
            )
            self._marks.append((wish, version, REFUSED))
        # Not at once: the answer may come from within the submission.
        self._errands.call_soon(self._step)

    def _retry(self, wish: Wish, error: EvenflowError) -> None:
        if self._is_ending:
            self.backlog.end(wish)
            return
        wish.failures += 1
        wait_ms = equal_jitter_ms(wish.failures, RETRY_BASE_MS, RETRY_CAP_MS, self._means.draw())
        now_ms = self._means.clock.monotonic_ms()
        self.backlog.put_off(wish, now_ms + max(wait_ms, min(error.retry_after_ms, RETRY_CAP_MS)))
        self._errands.warn_once(
            _RETRIED,
            "events of bucket %s cannot be submitted now and are tried again: %s",
            self._names[0],
            error.message,
        )

    async def _write(self, journal: Journal) -> None:
        marks, self._marks = self._marks, []
        try:
            await self._errands.run(lambda: journal.mark([(version, state) for _, version, state in marks]))
        except JournalClosed:
            pass
        finally:
            # What could not be noted is found again, and announced under the same token.
            for wish, _, _ in marks:
                self.backlog.end(wish)
            self._is_marking = False
