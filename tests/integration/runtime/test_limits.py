"""Bounds of a sandbox: who passes one is ended with a typed error, and its neighbours do not notice."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from evenflow.common.v1 import event_pb2

from services.runtime.sandbox import strays
from services.shared.settings import SettingsError
from tests.integration.runtime.kit import HostKit
from tests.kit.waiting import eventually

S = event_pb2.OutcomeStatus
EAT = """
import os, time
def handler(event, context):
    if event == "none":
        return "fine"
    kept = []
    for _ in range(4 * int(context.memory_limit_in_mb)):
        kept.append(bytearray(os.urandom(1 << 20)))
    return len(kept)
"""
FILL = """
import os, time
def handler(event, context):
    if event == "look":
        return sorted(os.listdir(os.environ.get("TMPDIR", "/tmp")))
    with open(os.path.join(os.environ.get("TMPDIR", "/tmp"), "large"), "wb") as file:
        for _ in range(event):
            file.write(os.urandom(1 << 20))
    time.sleep(20)
"""
FORK = """
import os, time
def handler(event, context):
    try:
        for _ in range(event):
            if os.fork() == 0:
                time.sleep(20)
    except OSError as e:
        return f"stopped: {e.strerror}"
    time.sleep(20)
"""


async def test_memory_is_bounded_and_the_neighbour_lives(run_dir: Path) -> None:
    """By a cgroup the process is killed, as on AWS; by a resource limit Python runs out of memory."""
    async with HostKit(run_dir) as kit:
        kit.deploy("eat", EAT)
        kit.deploy("neighbour", "def handler(event, context):\n    return 1\n")
        eater = kit.begin(kit.invocation("eat"))
        while not eater.done():
            assert await kit.call("neighbour") == 1
        outcome = await eater
        assert outcome.status == S.OUTCOME_STATUS_FUNCTION_ERROR
        if kit.host.isolation.has_cgroup:
            assert outcome.error_type == "Runtime.ExitError"
            assert outcome.error_message.endswith("Runtime exited with error: signal: killed")
        else:
            assert outcome.error_type == "MemoryError"
        assert await kit.call("eat", "none") == "fine"


async def test_memory_without_a_cgroup_is_bounded_too(run_dir: Path) -> None:
    async with HostKit(run_dir, isolation="0") as kit:
        kit.deploy("eat", EAT)
        assert (await kit.invoke("eat")).error_type == "MemoryError"
        assert await kit.call("eat", "none") == "fine"


@pytest.mark.parametrize("isolation", ["auto", "0"])
async def test_a_full_tmp_ends_the_sandbox_and_is_not_kept(run_dir: Path, isolation: str) -> None:
    async with HostKit(run_dir, isolation=isolation, tmp_mb=8) as kit:
        kit.deploy("fill", FILL, memory_mb=512)
        outcome = await kit.invoke("fill", 12)
        assert outcome.error_type == "Runtime.ExitError" and "its /tmp was over its size" in outcome.error_message
        assert "large" not in await kit.call("fill", "look")


async def test_processes_are_bounded(run_dir: Path) -> None:
    """By the kernel where it can, else by looking; nothing of it is left."""
    async with HostKit(run_dir, max_processes=20) as kit:
        kit.deploy("fork", FORK)
        outcome = await kit.invoke("fork", 60)
        text = outcome.response_payload.decode() + outcome.error_message
        assert "stopped: Resource temporarily unavailable" in text or "too many processes" in text


async def test_processes_without_any_counter_are_bounded_by_looking(run_dir: Path) -> None:
    async with HostKit(run_dir, max_processes=20, isolation="0") as kit:
        kit.deploy("fork", FORK)
        outcome = await kit.invoke("fork", 60)
        assert outcome.error_type == "Runtime.ExitError" and "too many processes" in outcome.error_message
        (parent,) = kit.host.parent_pids()
        blank = kit.host.dispatcher.nursery.spare
        await eventually(lambda: len(strays.children_of(parent)) <= blank)


async def test_what_is_left_of_a_sandbox_dies_with_it(run_dir: Path) -> None:
    """Whatever it started, and however it was ended."""
    source = """
import os, time
def handler(event, context):
    for _ in range(5):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(60)
            os._exit(0)
    os._exit(5)
"""
    async with HostKit(run_dir) as kit:
        kit.deploy("leave", source)
        outcome = await kit.invoke("leave")
        assert "exit status 5" in outcome.error_message
        (parent,) = kit.host.parent_pids()
        nursery = kit.host.dispatcher.nursery
        per_sandbox = 2 if "pid" in kit.host.isolation.namespaces and not kit.host.isolation.by_user_namespace else 1
        await eventually(
            lambda: len(strays.children_of(parent)) == per_sandbox * (nursery.spare + len(nursery.sandboxes))
        )


async def test_an_isolated_network_reaches_nothing(run_dir: Path) -> None:
    """Neither a listener on this machine nor, with a namespace, its own neighbours' loopback."""
    source = """
import socket
def handler(event, context):
    try:
        socket.create_connection(("127.0.0.1", event), timeout=5).close()
    except OSError as e:
        return type(e).__name__
    return "reached"
"""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        for network, expected in (("host", {"reached"}), ("isolated", {"OSError", "ConnectionRefusedError"})):
            for isolation in ("auto", "0"):
                async with HostKit(run_dir, network=network, isolation=isolation) as kit:
                    kit.deploy("reach", source)
                    assert await kit.call("reach", port) in expected, (network, isolation)


async def test_a_tier_that_is_not_there_is_refused(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host does not start, says what is missing, and leaves nothing behind."""
    monkeypatch.setattr("services.runtime.host.os.geteuid", lambda: 1_000)
    for setting, tier, words in (
        ("isolation", "b", "sandbox.isolation is b"),
        ("required_tier", "a", "sandbox.require"),
    ):
        changes: dict[str, Any] = {setting: tier}
        kit = HostKit(run_dir, **changes)
        with pytest.raises(SettingsError, match=words):
            await kit.host.start()
        parents = kit.host.parent_pids()
        await kit.host.stop()
        kit.tracer.shutdown()
        assert not any(os.path.exists(f"/proc/{pid}") for pid in parents)


async def test_a_blank_sandbox_that_dies_is_replaced(run_dir: Path) -> None:
    """The next start does not need it."""
    async with HostKit(run_dir) as kit:
        nursery = kit.host.dispatcher.nursery
        await eventually(lambda: nursery.spare == 2)
        (parent,) = kit.host.parent_pids()
        blank = [sandbox for waiting in nursery._spares._blank.values() for sandbox in waiting]
        await eventually(lambda: all(sandbox.pid for sandbox in blank))
        for pid in strays.children_of(parent):
            os.kill(pid, signal.SIGKILL)
        # Once the host knows: a start before that would be one that was killed.
        await eventually(lambda: not any(s in waiting for waiting in nursery._spares._blank.values() for s in blank))
        kit.deploy("one", "def handler(event, context):\n    return 1\n")
        assert await kit.call("one") == 1
        await eventually(lambda: nursery.spare == 2)
