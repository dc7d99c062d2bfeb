"""Provisioned concurrency on this host: as many sandboxes of a version as control says are kept ready, used or not.

They are never ended for being idle nor for another function's start; invocations take them first and spill over to
sandboxes on demand. What is reported to control as held is the number that is ready, and with it, in a sentence, why
the others do not come up.
"""

import asyncio
import logging

from evenflow.common.v1 import event_pb2

from services.policy.backoff import exponential_ms
from services.runtime.admission import Shares
from services.runtime.book import FunctionBook
from services.runtime.functions import HostedFunction
from services.runtime.placing import Placing
from services.runtime.room import Room
from services.runtime.sandboxes import Sandbox
from services.shared.clock import Clock
from services.shared.errors import EvenflowError
from services.shared.function_view import version_of

# After a handler that could not be loaded, or a sandbox that died before it ran anything.
INIT_RETRY_MS = 1_000.0
MAX_INIT_RETRY_MS = 60_000.0
# Targets come one by one, at a join all that there are: they are followed together.
FOLLOW_DELAY_SECONDS = 0.01
log = logging.getLogger(__name__)


class Provisioning:
    """Follows the targets and keeps them; see provision.Provision for the counts."""

    def __init__(self, shares: Shares, book: FunctionBook, room: Room, placing: Placing, clock: Clock) -> None:
        self._shares = shares
        self._book = book
        self._room = room
        self._placing = placing
        self._clock = clock
        self._is_stopping = False
        self._following: asyncio.TimerHandle | None = None
        # With the timer of the next try after a failure.
        self._functions: dict[HostedFunction, asyncio.TimerHandle | None] = {}

    def functions(self) -> list[HostedFunction]:
        """Those with a target, or with something left of one."""
        return list(self._functions)

    def follow_soon(self) -> None:
        """One of perhaps many targets changed: `follow` in a moment."""
        if self._following is None and not self._is_stopping:
            self._following = asyncio.get_running_loop().call_later(FOLLOW_DELAY_SECONDS, self.follow)

    def follow(self) -> None:
        """Targets or functions changed: begin what is missing, end what is too much."""
        if self._following is not None:
            self._following.cancel()
            self._following = None
        if self._is_stopping:
            return
        known = self._book.view.functions
        targets = {
            key: target
            for key, target in self._shares.provisioned().items()
            if key[:2] in known and version_of(known[key[:2]], key[2]) is not None
        }
        for function in self.functions():
            if function.version_key not in targets:
                self._set_target(function, 0)
        for key, target in targets.items():
            found = self._book.find(key, 0)
            if found is not None and found.provisioned.target != target:
                self._functions.setdefault(found, None)
                self._set_target(found, target)

    def has_enough(self, function: HostedFunction) -> bool:
        """Whether one more ready sandbox would be one too much."""
        return function.provisioned.ready >= function.provisioned.target

    def replaced(self, function: HostedFunction) -> None:
        """Its code changed: what runs something with the old one is not counted as ready any more."""
        provisioned = function.provisioned
        provisioned.failures, provisioned.retry_at_ms, provisioned.failure = 0, 0.0, ""
        if provisioned.busy:
            for sandbox in self._room.nursery.sandboxes.values():
                # Also one that is ending: until it is gone its run counts as busy.
                if sandbox.function is function and sandbox.is_provisioned and sandbox.run is not None:
                    self._room.nursery.census.demoted(sandbox)
            provisioned.busy = 0
        self.report(function)

    def report(self, function: HostedFunction) -> None:
        """Tell control if the number that is ready changed, or what is wrong."""
        provisioned = function.provisioned
        if not provisioned.target or self.has_enough(function):
            provisioned.failure = ""
        failure = provisioned.failure or self._lack_of_room(function)
        self._shares.set_ready(function.provisioned_key, provisioned.ready, provisioned.busy, failure)
        if not provisioned.target and not provisioned.ready:
            timer = self._functions.pop(function, None)
            if timer is not None:
                timer.cancel()

    def succeeded(self, function: HostedFunction) -> None:
        """One more is ready."""
        function.provisioned.failures, function.provisioned.failure = 0, ""
        self.report(function)

    def hindered(self, function: HostedFunction, error: EvenflowError) -> None:
        """No sandbox of it can be started, which is not the function's own fault: tried again with every tick."""
        provisioned = function.provisioned
        if provisioned.missing:
            provisioned.failure = error.message
            self.report(function)

    def failed(self, function: HostedFunction, text: str) -> None:
        """A start failed through the function's own fault, which `text` says: the next one waits."""
        provisioned = function.provisioned
        provisioned.failure = text
        self.report(function)
        provisioned.failures += 1
        delay_ms = exponential_ms(provisioned.failures, INIT_RETRY_MS, MAX_INIT_RETRY_MS)
        provisioned.retry_at_ms = self._clock.monotonic_ms() + delay_ms
        log.warning(
            "a provisioned sandbox does not come up: %s; the next try is in %.0f s",
            text,
            delay_ms / 1_000,
            extra={"function_name": function.key[1]},
        )
        if self._functions.get(function) is None and function in self._functions:
            self._functions[function] = asyncio.get_running_loop().call_later(delay_ms / 1_000, self._again, function)

    def died(self, sandbox: Sandbox) -> None:
        """One that was ready is gone; who dies before any run would die again at once."""
        if sandbox.end_cause in ("crashed", "broke protocol", "") and not sandbox.invocations:
            self.failed(sandbox.function, "a sandbox ended by itself before it ran anything")
        self.report(sandbox.function)

    def stop(self) -> None:
        """Keep nothing ready any more: the host drains."""
        self._is_stopping = True
        if self._following is not None:
            self._following.cancel()
        for function in self._functions:
            function.provisioned.target = 0
        for timer in self._functions.values():
            if timer is not None:
                timer.cancel()
        self._functions.clear()

    def _again(self, function: HostedFunction) -> None:
        self._functions[function] = None
        left_ms = function.provisioned.retry_at_ms - self._clock.monotonic_ms()
        if left_ms > 0:
            loop = asyncio.get_running_loop()
            self._functions[function] = loop.call_later(left_ms / 1_000, self._again, function)
        else:
            self._placing.pump(function)

    def _set_target(self, function: HostedFunction, target: int) -> None:
        provisioned = function.provisioned
        provisioned.target = target
        # What starts is let come and is ended then: it cannot be told apart from one that is waited for.
        for sandbox in provisioned.idle[: max(0, provisioned.ready - target)]:
            self._room.retire(sandbox, "lowered")
        self.report(function)
        if provisioned.missing:
            self._placing.pump(function)
            lack = self._lack_of_room(function)
            if lack:
                log.warning("%s", lack, extra={"function_name": function.key[1]})
                self.report(function)

    def _lack_of_room(self, function: HostedFunction) -> str:
        provisioned = function.provisioned
        error = self._room.too_large(function) if provisioned.missing else None
        if error is None:
            return ""
        return f"{provisioned.missing} of {provisioned.target} sandboxes do not fit: {error.message}"


def text_of(outcome: event_pb2.Outcome) -> str:
    """Why a start failed, in words. Pure."""
    return f"loading the handler failed: {outcome.error_type}: {outcome.error_message}"
