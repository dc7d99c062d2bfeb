"""One run as its master sees it: who sends which part, when all have ended, and whether it counts."""

import logging
import secrets
import time
from collections.abc import Sequence
from typing import Any

import gevent
from locust.runners import STATE_MISSING, LocalRunner, MasterRunner

from loadtest.locust_users import order as orders
from loadtest.locust_users import rows, tally
from loadtest.locust_users.driver import DEFAULT_HOST
from loadtest.locust_users.order import Order
from loadtest.locust_users.settings import DEFAULT_OPEN_SECONDS, Settings, check_host, read
from loadtest.locust_users.tally import Tally
from loadtest.workloads.work import RUN_BITS

logger = logging.getLogger("evenflow.load")
# The process's exit code when the run counts for nothing. Locust's own are 0, 1 (failed requests) and 2.
EXIT_VOID = 3
EXIT_USAGE = 2
# A run that is stopped within this time of its schedule's end is at its end.
_END_SECONDS = 0.5
_RUN_TIME_SECONDS = 2.0
# Beyond the drain itself: making the schedule, messages, a driver that is behind.
_MORE_SECONDS = 15.0
_POLL_SECONDS = 0.05


class Overseer:
    """The run that is under way, or the last one."""

    def __init__(self, environment: Any, runner: Any) -> None:
        self._environment = environment
        self._runner = runner
        self.order: Order | None = None
        self._settings: Settings | None = None
        self._tallies: dict[str, Tally] = {}
        self._ready: set[str] = set()
        self._began = 0.0
        self._is_told = True
        self._is_ending = False

    def check(self) -> Settings:
        """What the options ask for. BadOption: they make no run, or --host is no HTTP door."""
        check_host(self._environment.host)
        return read(vars(self._environment.parsed_options))

    def begin(self) -> None:
        """Give out the order of a new run, with the options. BadOption: they make none."""
        options = self._environment.parsed_options
        self.order = None
        setattr(options, orders.ATTRIBUTE, None)
        self._settings = self.check()
        self._tallies = {}
        self._began = time.monotonic()
        self._is_told = self._is_ending = False
        self._ready = set()
        self._environment.process_exit_code = None
        seconds = float(options.run_time or 0) or DEFAULT_OPEN_SECONDS
        self._settings.check_seconds(seconds)
        users = {one.__name__: float(one.weight) for one in self._environment.user_classes}
        self.order = Order(secrets.randbits(RUN_BITS), seconds, self._drivers(), users)
        setattr(options, orders.ATTRIBUTE, orders.as_plain(self.order))
        if self._settings.is_open:
            # With a run time Locust itself ends it, or should.
            gevent.spawn_later(seconds + (_RUN_TIME_SECONDS if options.run_time else 0), self._end, self.order)

    def note(self, driver: str, run: int, one: Tally) -> None:
        """What a driver counted so far; another run's is left out."""
        if self.order is not None and run == self.order.run:
            self._tallies[driver] = one

    def is_ready(self, driver: str, run: int) -> bool:
        """A driver has its part of this run; whether it was the last one, so that all may begin."""
        if self.order is None or run != self.order.run or driver not in self.order.drivers:
            return False
        self._ready.add(driver)
        return len(self._ready) == len(self.order.drivers)

    def end(self) -> bool:
        """The run is being stopped; whether that cuts its schedule short."""
        assert self.order is not None
        self._is_ending = True
        return time.monotonic() - self._began < self.order.seconds - _END_SECONDS

    def wait_for_drivers(self) -> None:
        """Until each has told its end, or is lost, or the time for it is over."""
        assert self.order is not None and self._settings is not None
        until = time.monotonic() + self._settings.drain_seconds + _MORE_SECONDS
        while time.monotonic() < until and any(self._is_awaited(driver) for driver in self.order.drivers):
            gevent.sleep(_POLL_SECONDS)

    def judge(self) -> None:
        """Say what was found, once a run; a void one gives the process its exit code."""
        if self.order is None or self._settings is None or self._is_told:
            return
        self._is_told = True
        is_open = self._settings.is_open
        for line in tally.lines(self.order.drivers, self._tallies, is_open):
            logger.info(line)
        failures = [str(one.error) for one in self._environment.stats.errors.values()]
        doors = f"{self._environment.host or DEFAULT_HOST} and {self._settings.grpc}"
        found = tally.total(list(self._tallies.values()))
        if hint := tally.hint(found, failures, self._settings.function, doors):
            logger.error("%s", hint)
        if not is_open:
            return
        reasons = tally.open_loop_void(self.order.drivers, self._tallies)
        for reason in reasons:
            logger.error("VOID: %s", reason)
            rows.note_failure(self._environment.stats, rows.OPEN, rows.VOID, reason)
        if reasons:
            self._environment.process_exit_code = EXIT_VOID
        else:
            logger.info("open loop: valid, response times count from the intended sends")

    def _drivers(self) -> Sequence[str]:
        runner = self._runner
        if isinstance(runner, MasterRunner):
            clients = runner.clients
            ready = [client.id for client in clients.ready + clients.running + clients.spawning]
            return sorted(ready, key=runner.get_worker_index)
        assert isinstance(runner, LocalRunner)
        return [runner.client_id]

    def _is_awaited(self, driver: str) -> bool:
        if (told := self._tallies.get(driver)) is not None and told.is_final:
            return False
        if not isinstance(self._runner, MasterRunner):
            return False
        client = self._runner.clients.get(driver)
        return client is not None and client.state != STATE_MISSING

    def _end(self, order: Order) -> None:
        # The schedule of a run without a run time is over; unless it was stopped, and another one is under way.
        if self.order is not order or self._is_ending or self._is_told:
            return
        if self._environment.parsed_options.headless:
            self._runner.quit()
        else:
            self._runner.stop()
