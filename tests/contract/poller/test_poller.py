"""PollerService of a poller that has control and nothing else."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from evenflow.poller.v1 import poller_pb2

from tests.contract.clients import UNKNOWN_FIELD
from tests.contract.kit import End, refusal_of
from tests.contract.services import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
ENDS = ("real",)
P = poller_pb2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def end(request: pytest.FixtureRequest) -> AsyncIterator[End]:
    async with serving("PollerService") as found:
        yield found.seen_by(request.param.partition(" by ")[2])


async def test_a_function_is_paused_until_it_is_resumed(end: End) -> None:
    """Again and again changes nothing; unknown fields are passed over."""
    pause = P.PauseFunctionRequest(tenant_id="default", function_name="f", paused=True)
    for request in (pause, pause.SerializeToString() + UNKNOWN_FIELD):
        await end.ask("PauseFunction", request)
        found = await end.ask("DescribePoller", P.DescribePollerRequest())
        assert [(one.tenant_id, one.function_name) for one in found.paused_functions] == [("default", "f")]
    pause.paused = False
    for _ in range(2):
        await end.ask("PauseFunction", pause)
        assert not (await end.ask("DescribePoller", P.DescribePollerRequest())).paused_functions


async def test_a_poller_without_neighbours_holds_nothing(end: End) -> None:
    found = await end.ask("DescribePoller", P.DescribePollerRequest())
    assert found.poller_id == "poller-0" and not found.sources
    assert (found.leases_held, found.invocations_in_flight, found.deliveries_in_flight) == (0, 0, 0)


@pytest.mark.parametrize("missing", ["tenant_id", "function_name"])
async def test_who_is_paused_must_be_said(end: End, missing: str) -> None:
    names = {"tenant_id": "default", "function_name": "f", missing: ""}
    request = P.PauseFunctionRequest(paused=True, **names)
    assert await refusal_of(end.ask("PauseFunction", request)) == "INVALID_PARAMETER"
