"""One node of each kind a module."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.contract.kit import End
from tests.contract.queue.nodes import Node, serving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def end(request: pytest.FixtureRequest) -> AsyncIterator[End]:
    kind, _, client = request.param.partition(" by ")
    async with serving(kind) as found:
        yield found.seen_by(client)


@pytest_asyncio.fixture(loop_scope="module")
async def node(end: End) -> AsyncIterator[Node]:
    """Whatever the last test left is gone."""
    await Node(end).empty()
    yield Node(end)
