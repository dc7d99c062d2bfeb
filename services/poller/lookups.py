"""Asks control about functions that the view does not know: once for all events that wait, and never in a flood."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from evenflow.control.v1 import resources_pb2

from services.poller.functions import FunctionKey
from services.shared.config_view import ConfigView
from services.shared.errors import EvenflowError

# True: control has answered, the view says the truth. False: it could not be asked.
Told = Callable[[bool], None]
MAX_OPEN_QUESTIONS = 64
log = logging.getLogger(__name__)


class Configuration(Protocol):
    """What a poller needs of the control follower."""

    @property
    def view(self) -> ConfigView:
        """The fleet as known now."""
        ...

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call this after every change."""
        ...

    def ask_function(self, tenant_id: str, function_name: str) -> Awaitable[resources_pb2.Function | None]:
        """Ask control once."""
        ...


class Lookups:
    """One question a function; its answer goes to everybody who waits for it."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._waiting: dict[FunctionKey, list[Told]] = {}
        self._queued: list[FunctionKey] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, key: FunctionKey, told: Told) -> None:
        """Have `told` called once control was asked; what it answered stands in the view."""
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(told)
            return
        self._waiting[key] = [told]
        if len(self._tasks) < MAX_OPEN_QUESTIONS:
            self._start(key)
        else:
            self._queued.append(key)

    async def close(self) -> None:
        """Drop all questions."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._waiting.clear()

    def _start(self, key: FunctionKey) -> None:
        task = asyncio.create_task(self._question(key), name="ask function")
        self._tasks.add(task)

        def ended(_task: object) -> None:
            self._tasks.discard(task)
            if self._queued:
                self._start(self._queued.pop())

        task.add_done_callback(ended)

    async def _question(self, key: FunctionKey) -> None:
        is_answered = False
        try:
            await self._configuration.ask_function(*key)
            is_answered = True
        except EvenflowError as e:
            log.info("%s", e.message)
        finally:
            for told in self._waiting.pop(key, ()):
                told(is_answered)
