"""What runs used, as the host's door tells it, over a clean end and a kill."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from evenflow.common.v1 import errors_pb2
from evenflow.runtime.v1 import runtime_pb2

from loadtest.runtime_bench import HostProcess
from loadtest.stand_in_control import TENANT, StandInControl
from services.shared.errors import EvenflowError
from tests.integration.runtime.kit import HostKit
from tests.kit.waiting import until

SOURCE = """
import time
def handler(event, context):
    if event == "exit":
        import os
        os._exit(1)
    if isinstance(event, (int, float)):
        time.sleep(event)
"""


@pytest.fixture
async def process(run_dir: Path) -> AsyncIterator[HostProcess]:
    control = StandInControl({"account": 50})
    control.deploy("f", {"app.py": SOURCE})
    host = HostProcess(run_dir, control, {})
    await host.start()
    yield host
    await host.stop()


async def read(host: HostProcess, days: int = 1) -> list[runtime_pb2.UsageRow]:
    """All rows that the host tells."""
    rows: list[runtime_pb2.UsageRow] = []
    call = host.stub.ReadUsage(runtime_pb2.ReadUsageRequest(days=days), metadata=host.peer.metadata)
    async for part in call:
        rows.extend(part.rows)
    return rows


async def test_the_door_tells_what_outcomes_said(process: HostProcess) -> None:
    """Billed time, compute and requests add up to the outcomes'; a refusal counts for nothing."""
    billed = [(await process.invoke("f", event)).billed_duration_ms for event in (0, 0.05, "exit")]
    large = await process.invoke("f", "x" * 300_000, sync=False)
    await process.invoke("f", version="9")
    (row,) = await read(process)
    billed.append(large.billed_duration_ms)
    assert (row.tenant_id, row.function_name) == (TENANT, "f")
    assert (row.invocations, row.errors, row.request_units) == (4, 1, 5)
    assert row.billed_ms == sum(billed) >= 50 and row.mb_ms == 128 * sum(billed)
    assert row.init_ms >= 1
    assert await read(process, 0) == [row]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await read(process, 93)
    assert EvenflowError.from_rpc_error(refused.value).reason == errors_pb2.ERROR_REASON_INVALID_PARAMETER


@pytest.mark.long
async def test_a_kill_loses_at_most_the_last_seconds(process: HostProcess) -> None:
    """What was saved is there after kill -9 and a start, and counting goes on; a clean end loses nothing."""
    folder = process.folder / "data" / "runtime" / "runtime-0" / "usage"

    async def is_saved(runs: int) -> bool:
        found = [json.loads(path.read_text())["rows"] for path in folder.glob("????-??-??.json")]
        return bool(sum(values[0] for rows in found for _, _, values in rows) == runs)

    assert process.process is not None
    await asyncio.gather(*(process.invoke("f") for _ in range(5)))
    await until(lambda: is_saved(5), 20.0, "the ledger is saved")
    os.kill(process.process.pid, signal.SIGKILL)
    await process.process.wait()
    await _start_again(process)
    assert (await read(process))[0].invocations == 5
    await process.invoke("f")
    process.process.send_signal(signal.SIGTERM)
    await process.process.wait()
    assert await is_saved(6)
    await _start_again(process)
    assert (await read(process))[0].invocations == 6


async def _start_again(process: HostProcess) -> None:
    process.room.clear()
    process.process = process.spawn()
    async with asyncio.timeout(30.0):
        await process.room.wait()


async def test_a_handler_that_does_not_load_counts_as_an_attempt(run_dir: Path) -> None:
    """With its error and its request; there is no time to bill."""
    async with HostKit(run_dir) as kit:
        kit.deploy("broken", "1 / 0\n")
        await kit.invoke("broken")
        assert "Billed Duration: 0 ms" in kit.log("broken")
        ((_, key, row),) = kit.host.usage.rows(0)
        assert key[1] == "broken" and row.values() == [1, 0, 0, 1, 1, 0]
