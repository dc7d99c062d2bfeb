"""Waiting for a condition, bounded; never a sleep that stands for one."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
_POLL_SECONDS = 0.01


async def eventually(predicate: Callable[[], T | Awaitable[T]], within_seconds: float = 5.0, what: str = "") -> T:
    """The predicate's first true value; AssertionError when there is none in time."""
    deadline = time.monotonic() + within_seconds
    while True:
        found = predicate()
        value: T = await found if inspect.isawaitable(found) else found
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_seconds} s: {what or predicate}")
        await asyncio.sleep(_POLL_SECONDS)


async def until(condition: Callable[[], Awaitable[bool]], within_seconds: float = 5.0, what: str = "") -> None:
    """Until the condition, a coroutine function, holds; AssertionError when it does not in time."""
    awaited: Callable[[], bool | Awaitable[bool]] = condition
    await eventually(awaited, within_seconds, what)


def wait_until(predicate: Callable[[], T], within_seconds: float = 5.0, what: str = "") -> T:
    """The same for code without a loop."""
    deadline = time.monotonic() + within_seconds
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_seconds} s: {what or predicate}")
        time.sleep(_POLL_SECONDS)
