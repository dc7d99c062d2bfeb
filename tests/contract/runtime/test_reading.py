"""What is read of a host: its description, logs and use. The fake serves none of these."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from evenflow.runtime.v1 import runtime_pb2

from tests.contract.kit import End, end_of, read, refusal_of
from tests.contract.runtime.test_invoke import hello, invocation, results, send
from tests.contract.services import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
ENDS = ("real",)
R = runtime_pb2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def end(request: pytest.FixtureRequest) -> AsyncIterator[End]:
    async with serving("RuntimeService") as found:
        yield found.seen_by(request.param.partition(" by ")[2])


async def test_a_host_describes_itself(end: End) -> None:
    """Sandboxes, shares and its isolation."""
    call, _ = await hello(end)
    await send(call, invocation(1))
    await results(call, 1)
    call.cancel()
    found = await end.ask("DescribeHost", R.DescribeHostRequest())
    assert (found.host_id, found.load.slots) == ("runtime-0", 4) and found.isolation_tier in "0abc"
    assert [(box.function_name, box.state) for box in found.sandboxes] == [("echo", "idle")]
    assert [(share.limit_key, share.share, share.in_use) for share in found.shares] == [("account", 100, 0)]


async def test_a_log_is_followed_until_its_reader_goes(end: End) -> None:
    """The tail first, then whole lines as they come."""
    request = R.ReadLogsRequest(tenant_id="default", function_name="echo", tail_lines=1, follow=True)
    log = end.stub.ReadLogs(request, metadata=end.metadata, timeout=20)
    call, _ = await hello(end)
    await send(call, invocation(1))
    await results(call, 1)
    text = ""
    async with asyncio.timeout(20):
        while "REPORT" not in text:
            text += (await read(log)).text
    assert text.endswith("\n")
    log.cancel()
    call.cancel()


async def test_bad_questions_are_refused(end: End) -> None:
    logs = end.stub.ReadLogs(R.ReadLogsRequest(tenant_id="default", function_name="../x"), metadata=end.metadata)
    assert await end_of(logs) == "INVALID_PARAMETER"


@pytest.mark.today
async def test_use_is_read_by_day(end: End) -> None:
    """Within what is kept."""
    call, _ = await hello(end)
    await send(call, invocation(1))
    await results(call, 1)
    call.cancel()
    use = end.stub.ReadUsage(R.ReadUsageRequest(days=1), metadata=end.metadata)
    rows = [row async for part in use for row in part.rows]
    assert [(row.tenant_id, row.function_name) for row in rows] == [("default", "echo")] and rows[0].invocations >= 1
    bad = end.stub.ReadUsage(R.ReadUsageRequest(days=93), metadata=end.metadata)
    assert await end_of(bad) == "INVALID_PARAMETER"
    assert await refusal_of(end.ask("DescribeHost", R.DescribeHostRequest())) == ""
