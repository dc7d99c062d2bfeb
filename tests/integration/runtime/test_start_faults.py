"""Starts that the machine refuses: tried again while somebody waits, and not for ever."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from evenflow.common.v1 import errors_pb2, event_pb2

from services.runtime import kept_seats, parents, placing
from tests.integration.runtime.kit import HostKit
from tests.kit.waiting import eventually

S = event_pb2.OutcomeStatus
R = errors_pb2.ErrorReason
SLOW_INIT = "import time\ntime.sleep(0.4)\ndef handler(event, context):\n    return 'ran'\n"
ENDS_AT_INIT = """
import os, pathlib, time
mark = pathlib.Path(os.environ.get("TMPDIR", "/tmp"), "mark")
if not mark.exists():
    mark.touch()
    END
def handler(event, context):
    return mark.exists()
"""


def kill_parents(kit: HostKit) -> None:
    """As the kernel does when memory is short."""
    for pid in kit.host.parent_pids():
        os.kill(pid, signal.SIGKILL)


async def test_who_waits_for_a_start_does_not_see_its_parent_die(run_dir: Path) -> None:
    """The start that was under way, and one that comes before the parent is back, are tried again."""
    async with HostKit(run_dir, max_wait_ms=20_000) as kit:
        kit.deploy("f", SLOW_INIT)
        first = kit.begin(kit.invocation("f"))
        await eventually(kit.pids)
        kill_parents(kit)
        second = kit.begin(kit.invocation("f"))
        outcomes = await asyncio.gather(first, second)
        assert [o.response_payload for o in outcomes] == [b'"ran"', b'"ran"'], outcomes


async def test_a_parent_that_does_not_come_back_is_given_up_after_some_tries(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All who wait are told, in bounded time; and once it comes up again, so does the function."""
    async with HostKit(run_dir, max_wait_ms=60_000) as kit:
        kit.deploy("f", SLOW_INIT)
        with monkeypatch.context() as broken:
            broken.setattr(parents, "_START", "raise SystemExit(1)")
            kill_parents(kit)
            outcomes = await asyncio.gather(*(kit.invoke("f") for _ in range(3)))
        assert {o.refusal.reason for o in outcomes} == {R.ERROR_REASON_UNAVAILABLE}
        function = next(iter(kit.host.dispatcher.functions()))
        assert function.start_failures == 0 and function.start_retry is None
        assert await kit.call("f") == "ran"


@pytest.mark.parametrize(
    ("end", "error_type", "text"),
    [("os._exit(3)", "Runtime.ExitError", "exit status 3"), ("time.sleep(60)", "Sandbox.Timedout", "timed out after")],
)
async def test_a_crash_or_a_timeout_during_init_keeps_tmp_too(
    run_dir: Path, end: str, error_type: str, text: str
) -> None:
    """It counts as an attempt; the sandbox that replaces it finds its /tmp."""
    async with HostKit(run_dir, init_seconds=1.0) as kit:
        kit.deploy("f", ENDS_AT_INIT.replace("END", end))
        outcome = await kit.invoke("f")
        assert outcome.error_type == error_type and text in outcome.error_message
        assert await kit.call("f") is True


async def test_tmp_folders_kept_after_crashes_are_bounded(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all functions: each holds one of the host's seats, and the oldest goes first."""
    monkeypatch.setattr(kept_seats, "MAX_KEPT_SEATS", 3)
    async with HostKit(run_dir) as kit:
        for number in range(5):
            kit.deploy(f"f{number}", ENDS_AT_INIT.replace("END", "os._exit(3)"))
            await kit.invoke(f"f{number}")
        kept = [len(f.kept_seats) for f in kit.host.dispatcher.functions()]
        assert kept == [0, 0, 1, 1, 1]
        assert (await kit.invoke("f0")).error_type == "Runtime.ExitError"
        assert await kit.call("f4") is True


def test_the_tries_fit_into_the_usual_wait() -> None:
    """Who waits as long as the setting's default sees all of them."""
    waits = [placing.START_RETRY_MS * 2**n for n in range(placing.MAX_START_RETRIES)]
    assert sum(min(wait, placing.MAX_START_RETRY_MS) for wait in waits) < 2_000
