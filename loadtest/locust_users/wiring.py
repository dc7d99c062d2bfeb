"""Ties the run to Locust's events, in each of its roles: the master, a worker, or one process that is both."""

import logging
import sys
from collections.abc import Callable
from typing import Any

import gevent
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

from loadtest.locust_users import tally
from loadtest.locust_users.driver import Driver, order_of
from loadtest.locust_users.options import add_options
from loadtest.locust_users.overseer import EXIT_USAGE, Overseer
from loadtest.locust_users.settings import BadOption

logger = logging.getLogger("evenflow.load")
# Messages of ours between Locust's processes, and our part of its reports.
_DRAIN = "evenflow_drain"
_DRAINED = "evenflow_drained"
_READY = "evenflow_ready"
_GO = "evenflow_go"
_PART = "evenflow"
# Each environment's driver: Locust makes the users, and hands them the environment alone.
_drivers: dict[int, Driver] = {}


def running(environment: Any) -> Driver | None:
    """The driver of the run that is under way in this process; None: there is none."""
    return _drivers.get(id(environment))


def connect(events: Any) -> None:
    """Listen to Locust's events; once, from the locustfile."""
    events.init_command_line_parser.add_listener(add_options)
    events.init.add_listener(_init)


def _init(environment: Any, runner: Any, **_: Any) -> None:
    events = environment.events
    if isinstance(runner, WorkerRunner):
        _init_worker(environment, runner)
        return
    overseer = Overseer(environment, runner)
    if environment.parsed_options.headless:
        try:
            overseer.check()
        except BadOption as e:
            print(f"error: {e}", file=sys.stderr)
            sys.exit(EXIT_USAGE)

    def on_start(**_: Any) -> None:
        try:
            overseer.begin()
        except BadOption as e:
            logger.error("%s", e)
            gevent.spawn(runner.stop)
            return
        if isinstance(runner, LocalRunner):
            _begin(environment, runner.client_id, lambda _: _go(environment))

    def on_stopping(**_: Any) -> None:
        if overseer.order is None:
            return
        is_cut = overseer.end()
        if isinstance(runner, MasterRunner):
            runner.send_message(_DRAIN, {"is_cut": is_cut})
            overseer.wait_for_drivers()
        elif driver := running(environment):
            overseer.note(runner.client_id, driver.order.run, driver.tally)
            driver.drain(is_cut)

    events.test_start.add_listener(on_start)
    events.test_stopping.add_listener(on_stopping)
    events.test_stop.add_listener(lambda **_: overseer.judge())
    if isinstance(runner, MasterRunner):
        _listen_to_workers(events, runner, overseer)


def _listen_to_workers(events: Any, runner: MasterRunner, overseer: Overseer) -> None:
    def on_report(client_id: str, data: dict[str, Any]) -> None:
        if told := data.get(_PART):
            overseer.note(client_id, told["run"], tally.from_plain(told["tally"]))

    def on_drained(msg: Any, **_: Any) -> None:
        # Its last figures come with it: after a stop Locust waits half a second for them, which may be too short.
        events.worker_report.fire(client_id=msg.node_id, data=msg.data)

    def on_ready(msg: Any, **_: Any) -> None:
        if overseer.is_ready(msg.node_id, msg.data["run"]):
            runner.send_message(_GO, msg.data)

    events.worker_report.add_listener(on_report)
    runner.register_message(_READY, on_ready)
    runner.register_message(_DRAINED, on_drained)


def _init_worker(environment: Any, runner: WorkerRunner) -> None:
    events = environment.events

    def on_report(client_id: str, data: dict[str, Any]) -> None:
        if driver := running(environment):
            driver.measure_cpu()
            data[_PART] = {"run": driver.order.run, "tally": tally.as_plain(driver.tally)}

    def on_drain(msg: Any, **_: Any) -> None:
        if driver := running(environment):
            driver.drain(bool(msg.data["is_cut"]))
            report: dict[str, Any] = {}
            events.report_to_master.fire(client_id=runner.client_id, data=report)
            runner.send_message(_DRAINED, report)

    def on_go(msg: Any, **_: Any) -> None:
        if (driver := running(environment)) and driver.order.run == msg.data["run"]:
            driver.go()

    def on_ready(run: int) -> None:
        runner.send_message(_READY, {"run": run})

    events.test_start.add_listener(lambda **_: _begin(environment, runner.client_id, on_ready))
    runner.register_message(_GO, on_go)
    events.report_to_master.add_listener(on_report)
    # Beside the other messages: while it drains, the master's heartbeats are answered.
    runner.register_message(_DRAIN, on_drain, concurrent=True)


def _go(environment: Any) -> None:
    if driver := running(environment):
        driver.go()


def _begin(environment: Any, driver_id: str, on_ready: Callable[[int], None]) -> None:
    """Start this process's part of a run that was ordered; on_ready: told the run once the part could begin."""
    if last := _drivers.pop(id(environment), None):
        last.close()
    order = order_of(environment)
    part = order.part_of(driver_id) if order is not None else None
    if order is None or part is None:
        logger.warning("this process came after the start of the run, and sends nothing")
        return
    run = order.run
    _drivers[id(environment)] = Driver(environment, order, part, lambda: on_ready(run))
