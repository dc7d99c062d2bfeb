"""The host as its own process, over its gRPC door."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from evenflow.common.v1 import errors_pb2, event_pb2
from evenflow.runtime.v1 import runtime_pb2

from loadtest.runtime_bench import HostProcess
from loadtest.stand_in_control import TENANT, StandInControl
from services.runtime.sandbox.strays import children_of
from services.runtime.service import CREDITS_PER_SLOT, EXTRA_CREDITS
from tests.kit.waiting import eventually

SOURCE = """
import os, subprocess, time
def handler(event, context):
    print("hello from", context.aws_request_id)
    if event == "daemon":
        daemon = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdout=subprocess.DEVNULL)
        return [os.getpid(), daemon.pid]
    time.sleep(event or 0)
    return os.getpid()
"""


@pytest.fixture
async def process(run_dir: Path) -> AsyncIterator[HostProcess]:
    control = StandInControl({"account": 50})
    control.deploy("f", {"app.py": SOURCE})
    host = HostProcess(run_dir, control, {"EVENFLOW_RUNTIME_MAX_SANDBOXES": "8"})
    await host.start()
    yield host
    await host.stop()


def _tree(pid: int) -> set[int]:
    found = {pid}
    for child in children_of(pid):
        found |= _tree(child)
    return found


def _alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


async def test_invoke_describe_and_logs(process: HostProcess) -> None:
    """The first message grants credits; outcomes come back; the host and its logs can be looked at."""
    granted = process.credits
    assert granted == 8 * CREDITS_PER_SLOT + EXTRA_CREDITS
    outcomes = await asyncio.gather(*(process.invoke("f") for _ in range(5)))
    assert {o.status for o in outcomes} == {event_pb2.OUTCOME_STATUS_SUCCEEDED}
    await eventually(lambda: process.credits == granted)
    refused = await process.invoke("f", request_id=b"short")
    assert refused.refusal.reason == errors_pb2.ERROR_REASON_INVALID_PARAMETER
    await eventually(lambda: process.credits == granted)
    described = await process.stub.DescribeHost(runtime_pb2.DescribeHostRequest(), metadata=process.peer.metadata)
    assert described.host_id == "runtime-0" and described.isolation_tier in ("0", "a", "b", "c")
    assert described.sandboxes[0].function_name == "f" and described.sandboxes[0].state == "idle"
    assert [(s.limit_key, s.share, s.in_use) for s in described.shares] == [("account", 50, 0)]
    assert "python3" in described.runtimes
    logs: Any = process.stub.ReadLogs(
        runtime_pb2.ReadLogsRequest(tenant_id=TENANT, function_name="f", tail_lines=3, follow=True),
        metadata=process.peer.metadata,
    )
    assert (await logs.read()).text.splitlines()[-1].startswith("REPORT RequestId:")
    await process.invoke("f")
    text = ""
    while "REPORT" not in text:
        text += (await logs.read()).text
    assert text.startswith("START RequestId:")
    logs.cancel()


async def test_sigterm_lets_runs_end_and_leaves_no_process(process: HostProcess) -> None:
    """The outcome of a run under way still arrives; then every process below the host is gone."""
    assert process.process is not None
    await process.invoke("f", "daemon")
    running = process.invoke("f", 0.4)
    await asyncio.sleep(0.1)
    tree = _tree(process.process.pid)
    assert len(tree) >= 4
    process.process.send_signal(signal.SIGTERM)
    assert (await running).status == event_pb2.OUTCOME_STATUS_SUCCEEDED
    assert await process.process.wait() == 0
    assert not _alive(tree)
    assert process.control.left


async def test_a_killed_host_leaves_no_process(process: HostProcess) -> None:
    """kill -9: the parent notices and ends everything below it, daemons in sessions of their own too."""
    assert process.process is not None
    await process.invoke("f", "daemon")
    tree = _tree(process.process.pid)
    assert len(tree) >= 4
    os.kill(process.process.pid, signal.SIGKILL)
    await process.process.wait()
    await eventually(lambda: not _alive(tree))


async def test_a_killed_parent_takes_everything_with_it(process: HostProcess) -> None:
    """kill -9 of the prepared parent: no stray is left, and the next run works."""
    assert process.process is not None
    await process.invoke("f", "daemon")
    (parent,) = children_of(process.process.pid)
    tree = _tree(parent)
    os.kill(parent, signal.SIGKILL)
    await eventually(lambda: not _alive(tree))
    assert (await process.invoke("f")).status == event_pb2.OUTCOME_STATUS_SUCCEEDED
