"""One process that sends: its doors, its counts, its part of an open loop; what the user classes call."""

import bisect
import itertools
import logging
import random
import time
from collections.abc import Callable
from typing import Any

import gevent
import numpy as np
from gevent.event import Event

from loadtest.arrivals import traffic
from loadtest.locust_users import order as orders
from loadtest.locust_users import schedule as schedules
from loadtest.locust_users.answers import Answer, NotTaken
from loadtest.locust_users.doors import Doors
from loadtest.locust_users.dwell import Follower
from loadtest.locust_users.kinds import KINDS
from loadtest.locust_users.open_loop import OpenLoop
from loadtest.locust_users.order import Order
from loadtest.locust_users.sample import Sample
from loadtest.locust_users.settings import Settings, read
from loadtest.locust_users.tally import Tally
from loadtest.workloads.work import payload

logger = logging.getLogger("evenflow.load")
# The numbers of a closed loop's events: each driver has so many of its own.
_NUMBERS_OF_ONE_DRIVER = 1 << 32
_IDLE_SECONDS = 0.05
# For the others' schedules; then a driver begins by itself.
GO_SECONDS = 10.0
DEFAULT_HOST = "http://127.0.0.1:9000"
_BATCH = "GrpcPublishBatch"


class Driver:
    """One run in one process, from its start to `drain`."""

    def __init__(self, environment: Any, order: Order, part: int, on_ready: Callable[[], None]) -> None:
        """`part`: which of the run's drivers this is; on_ready: told once its part of a schedule could begin, which it
        then does at `go`. ValueError: the options do not make a run."""
        self.order = order
        self.tally = Tally()
        self._part = part
        self._environment = environment
        self._settings: Settings = read(vars(environment.parsed_options))
        self._doors = Doors(environment.host or DEFAULT_HOST, self._settings)
        self._randomness = random.Random(f"{self._settings.seed} driver {part}")
        self._reached = np.cumsum(self._settings.weights()).tolist()
        self._numbers = itertools.count(part * _NUMBERS_OF_ONE_DRIVER)
        self._follower = Follower(self._doors.grpc, environment.stats, self._make_sample(), self.tally)
        self._is_closing = self._is_cut = self._is_sent = False
        self._cpu_began, self._began = time.process_time(), time.monotonic()
        self._loop: OpenLoop | None = None
        self._on_ready = on_ready
        self._may_go = Event()
        self._sending: Any = gevent.spawn(self._send_part) if self._settings.is_open else None

    def go(self) -> None:
        """All drivers have their parts: begin, so that a herd or a burst is one, whoever sends it."""
        self._may_go.set()

    def closed_send(self, user: str) -> None:
        """One turn of a closed-loop user: a request and its answer, or, in an open loop or at the end, a short wait."""
        if self._settings.is_open or self._is_closing:
            gevent.sleep(_IDLE_SECONDS)
            return
        drawn = self._randomness.random() * self._reached[-1]
        tenant = min(bisect.bisect_right(self._reached, drawn), len(self._reached) - 1)
        self.tally.sent += 1
        self._send(user, tenant, next(self._numbers), 0.0, time.perf_counter())

    def measure_cpu(self) -> None:
        """Bring the tally's CPU up to now, while it still sends."""
        if not self._is_sent:
            self.tally.cpu = (time.process_time() - self._cpu_began) / max(1e-3, time.monotonic() - self._began)

    def drain(self, is_cut: bool) -> None:
        """End it: the schedule is sent to its end, or cut; then answers and followed events are waited for."""
        if self.tally.is_final:
            return
        if self._sending is not None:
            self._is_cut = is_cut
            if is_cut:
                self._may_go.set()
                if self._loop is not None:
                    self._loop.cut()
            self._sending.join()
        self.measure_cpu()
        self._is_closing = self._is_sent = True
        until = time.monotonic() + self._settings.drain_seconds
        if self._loop is not None:
            self._loop.finish(until)
        # Locust ends its users at once: what they have under way would be nobody's.
        while self.tally.answered < self.tally.sent and time.monotonic() < until:
            gevent.sleep(_IDLE_SECONDS)
        self._follower.finish(until)
        self.tally.is_final = True

    def close(self) -> None:
        """Hang up; after `drain`."""
        self._doors.close()

    def _make_sample(self) -> Sample:
        settings, drivers = self._settings, len(self.order.drivers)
        total = sum(self.order.users.values())
        events = sum(
            weight * (settings.batch_events if user == _BATCH else 1)
            for user, weight in self.order.users.items()
            if KINDS[user].is_async
        )
        expected = settings.open_rate * events / total / drivers
        return Sample(settings.dwell_rate / drivers, expected, self._randomness.random)

    def _send_part(self) -> None:
        settings = self._settings
        if self._is_cut:
            return
        try:
            whole = traffic.schedule(settings.traffic(self.order.seconds))
        except (ValueError, OSError) as e:
            # Nothing is sent, and so the run is void; the master's log has this one's lines.
            logger.error("no schedule: %s", e)
            return
        names = list(self.order.users)
        kinds = schedules.kinds(self.order.users, len(whole), settings.seed)
        part = whole.part(self._part, len(self.order.drivers))
        users = [names[kinds[number]] for number in part.numbers]
        self._loop = OpenLoop(part, users, self._send, settings.in_flight, self.tally, self._environment.stats)
        self._on_ready()
        if not self._may_go.wait(GO_SECONDS):
            logger.warning("driver %d: the others were not ready within %g s", self._part, GO_SECONDS)
        if self._is_cut:
            return
        logger.info("driver %d: %s sends within %g s", self._part, f"{len(part):,}", self.order.seconds)
        # The schedule's making is no part of the sends.
        self._cpu_began, self._began = time.process_time(), time.monotonic()
        self._loop.run()
        self.measure_cpu()
        self._is_sent = True

    def _send(self, user: str, tenant: int, number: int, work_ms: float, at: float) -> None:
        """One request; its response time counts from `at`, in time.perf_counter's seconds."""
        settings, kind = self._settings, KINDS[user]
        key = settings.key_of(tenant)
        events = settings.batch_events if user == _BATCH else 1
        first = number * settings.batch_events
        payloads = [payload(settings.work, self.order.run, first + place, work_ms) for place in range(events)]
        answer, failure = Answer(), None
        try:
            answer = self._doors.send(user, payloads, key)
        except NotTaken as e:
            failure = e
        except gevent.GreenletExit:
            if not self._settings.is_open:
                # Locust ends a user: nobody waits for this answer any more, and the end of the run must not, either.
                self.tally.sent -= 1
                raise
            failure = NotTaken("no answer by the end of the run")
        self.tally.answered += 1
        self.tally.failed += failure is not None
        self._environment.events.request.fire(
            request_type=kind.door,
            name=kind.name,
            response_time=(time.perf_counter() - at) * 1_000,
            response_length=answer.size_bytes,
            exception=failure,
            context={},
        )
        self._follower.offer(answer.request_ids, key)


def order_of(environment: Any) -> Order | None:
    """The order that came with the options; None: there is none, so there is no run."""
    told = getattr(environment.parsed_options, orders.ATTRIBUTE, None)
    return orders.from_plain(told) if told else None
