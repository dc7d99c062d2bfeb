"""The versions of functions of this host: found in the view, or asked of control once for all invocations that wait."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from evenflow.control.v1 import resources_pb2

from services.policy.arns import LATEST
from services.runtime import refusals
from services.runtime.function_log import FunctionLogs
from services.runtime.functions import FunctionKey, HostedFunction, VersionKey
from services.runtime.runs import Run
from services.shared.clock import Clock
from services.shared.config_view import ConfigView
from services.shared.errors import EvenflowError
from services.shared.function_view import version_of

# The version, or why there is none.
Told = Callable[[Run, HostedFunction | None, EvenflowError | None], None]


class Configuration(Protocol):
    """Where functions are looked up; ControlFollower in a fleet."""

    @property
    def view(self) -> ConfigView:
        """What is known now."""
        ...

    async def ask_function(self, tenant_id: str, function_name: str) -> resources_pb2.Function | None:
        """The function as control has it now. EvenflowError: control cannot be asked."""
        ...


def version_key_of(run: Run) -> VersionKey:
    """Whose run it is."""
    invocation = run.invocation
    return invocation.tenant_id, invocation.function_name, invocation.version or LATEST


class FunctionBook:
    """Every version that was invoked here of late. `on_replaced`: its sandboxes of until now are stale."""

    def __init__(
        self,
        configuration: Configuration,
        logs: FunctionLogs,
        clock: Clock,
        on_replaced: Callable[[HostedFunction], None],
    ) -> None:
        self._configuration = configuration
        self._logs = logs
        self._clock = clock
        self._on_replaced = on_replaced
        self._functions: dict[VersionKey, HostedFunction] = {}
        self._asking: dict[FunctionKey, list[Run]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def view(self) -> ConfigView:
        """The fleet as known now."""
        return self._configuration.view

    def all(self) -> list[HostedFunction]:
        """The versions, as a list of its own."""
        return list(self._functions.values())

    def forget(self, function: HostedFunction) -> None:
        """Drop it when nothing of it is left."""
        if function.is_unused:
            self._functions.pop(function.version_key, None)

    def find(self, key: VersionKey, revision: int) -> HostedFunction | None:
        """The version, of its function at this revision or a later one; None: neither here nor in the view."""
        function = self._functions.get(key)
        if function is not None and function.function.revision >= revision and not function.is_deleted:
            return function
        found = self.view.functions.get(key[:2])
        if found is None or found.revision < revision:
            return None
        return self._adopt(found, key)

    def is_known(self, key: FunctionKey, revision: int) -> bool:
        """Whether the view has this function at this revision or a later one: a version that it lacks is not there."""
        found = self.view.functions.get(key)
        return found is not None and found.revision >= revision

    def ask(self, run: Run, told: Told) -> None:
        """Ask control; `told` gets the version, or None and why not."""
        key = version_key_of(run)[:2]
        waiting = self._asking.get(key)
        if waiting is not None:
            waiting.append(run)
            return
        self._asking[key] = [run]
        task = asyncio.create_task(self._ask_control(key, told), name="ask control")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Ask nothing any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask_control(self, key: FunctionKey, told: Told) -> None:
        found: resources_pb2.Function | None = None
        unanswered: EvenflowError | None = None
        try:
            found = await self._configuration.ask_function(*key)
        except EvenflowError as e:
            unanswered = e
        finally:
            waiting = self._asking.pop(key)
        # Control may be away: an older configuration is better than none.
        found = found or self.view.functions.get(key)
        for run in waiting:
            version_key = version_key_of(run)
            function = self._adopt(found, version_key) if found is not None else None
            if function is not None:
                told(run, function, None)
                continue
            if found is not None:
                told(run, None, unanswered or refusals.no_version(version_key))
            else:
                text = f"no function {key[1]!r} is deployed for this tenant"
                told(run, None, unanswered or refusals.not_found(text))

    def _adopt(self, found: resources_pb2.Function, key: VersionKey) -> HostedFunction | None:
        """The version of this resource as it is now; None: it has no such version."""
        function = self._functions.get(key)
        if function is None or function.function is not found or function.is_deleted:
            version = version_of(found, key[2])
            if version is None:
                return None
            if function is None:
                function = self._functions[key] = HostedFunction(found, version, self._logs.of(*key[:2]))
            elif function.take(found, version):
                self._on_replaced(function)
        function.last_used_ms = self._clock.monotonic_ms()
        return function
