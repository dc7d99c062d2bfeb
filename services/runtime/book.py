"""The functions of this host: found in the view, or asked of control once for all invocations that wait."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from evenflow.control.v1 import resources_pb2

from services.runtime.function_log import FunctionLogs
from services.runtime.functions import HostedFunction
from services.runtime.runs import Run
from services.shared.clock import Clock
from services.shared.errors import EvenflowError
from services.shared.follower import ConfigView

FunctionKey = tuple[str, str]
Told = Callable[[Run, HostedFunction | None, EvenflowError | None], None]


class Configuration(Protocol):
    """What a host needs of the follower."""

    view: ConfigView

    def ask_function(self, tenant_id: str, function_name: str) -> Awaitable[resources_pb2.Function | None]:
        """The function as control has it now. EvenflowError: control cannot be asked."""
        ...


class FunctionBook:
    """Every function that was invoked here of late. `on_replaced`: its sandboxes of until now are stale."""

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
        self._functions: dict[FunctionKey, HostedFunction] = {}
        self._asking: dict[FunctionKey, list[Run]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def view(self) -> ConfigView:
        """The fleet as known now."""
        return self._configuration.view

    def all(self) -> list[HostedFunction]:
        """The functions, as a list of its own."""
        return list(self._functions.values())

    def forget(self, function: HostedFunction) -> None:
        """Drop it when nothing of it is left."""
        if function.is_unused:
            self._functions.pop(function.key, None)

    def find(self, key: FunctionKey, revision: int) -> HostedFunction | None:
        """The function at this revision or a later one; None: neither here nor in the view."""
        function = self._functions.get(key)
        if function is not None and function.function.revision >= revision:
            return function
        found = self.view.functions.get(key)
        if found is None or found.revision < revision:
            return None
        return self._adopt(found)

    def ask(self, key: FunctionKey, run: Run, told: Told) -> None:
        """Ask control; `told` gets the function, or None and the error if control could not be asked."""
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
            told(run, self._adopt(found) if found is not None else None, unanswered)

    def _adopt(self, found: resources_pb2.Function) -> HostedFunction:
        key = found.tenant_id, found.function_name
        function = self._functions.get(key)
        if function is None:
            function = self._functions[key] = HostedFunction(found, self._logs.of(*key))
        elif function.function is not found and function.take(found):
            self._on_replaced(function)
        function.last_used_ms = self._clock.monotonic_ms()
        return function
