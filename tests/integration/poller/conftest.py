"""A scripted fleet beside an AWS neighbour."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.poller.rig import Rig
from tests.kit.aws_neighbour import CREDENTIALS, AwsNeighbour


@pytest.fixture(scope="module")
def neighbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsNeighbour]:
    """moto's server."""
    server = AwsNeighbour(tmp_path_factory.mktemp("moto") / "moto.log")
    server.start()
    yield server
    server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def aws_rig(neighbour: AwsNeighbour) -> AsyncIterator[Rig]:
    """A fleet whose destinations are at the neighbour; each test has functions of its own."""
    folder = Path(tempfile.mkdtemp(prefix="ef-", dir="/tmp"))
    made = Rig(folder, environment={"EVENFLOW_AWS_ENDPOINT_URL": neighbour.endpoint_url, **CREDENTIALS})
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
        shutil.rmtree(folder, ignore_errors=True)
