"""The plain child process of the load tools."""

import asyncio
import threading

import pytest

from loadtest.plain_process import PlainProcess

# Well beyond the threads of the event loop's pool, which such waits once took for good.
MANY = 50


async def test_given_up_waits_hold_no_thread_and_the_end_is_still_seen() -> None:
    """Callers race an answer against the child's end a hundred times a second and cancel the loser."""
    process = PlainProcess(["sleep", "60"], {})
    try:
        threads = threading.active_count()
        for _ in range(MANY):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await process.wait()
        assert threading.active_count() == threads
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 5) == "free"
        waits = [asyncio.ensure_future(process.wait()) for _ in range(3)]
        await asyncio.sleep(0)
    finally:
        process.kill()
    assert await asyncio.wait_for(asyncio.gather(*waits), 5) == [-9, -9, -9]
    assert await process.wait() == process.returncode == -9
