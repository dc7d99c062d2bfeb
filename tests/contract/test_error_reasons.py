"""The error table, walked: a real call for every reason, its code, its details, whether it may be repeated."""

import ast
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from evenflow.common.v1 import errors_pb2

from services.shared.errors import TABLE, EvenflowError
from tests.contract.kit import End, dial, name_of
from tests.contract.provoked import PROVOKED, Ends
from tests.contract.queue.nodes import EPOCH
from tests.contract.services import serving
from tests.kit.queue_node_here import TOKEN, QueueNodeHere

ROOT = Path(__file__).parents[2]
CALLERS = "tests/integration/frontend/test_callers.py"
# Reasons that no gRPC call of a service alone brings about, why not, and the test that shows them.
SHOWN_ELSEWHERE = {
    "UNSPECIFIED": ("never sent", "tests/unit/shared/test_errors.py::test_every_refusal_arrives_over_grpc_as_it_left"),
    "NOT_IMPLEMENTED": (
        "of the HTTP API: a call that is in a contract is served",
        "tests/integration/frontend/lambda_api/test_functions.py::test_what_is_not_offered_names_itself",
    ),
    "CODE_STORAGE_EXCEEDED": (
        "needs 200 versions",
        "tests/unit/control/test_versions.py::test_at_most_200_versions_are_kept_and_a_number_is_never_given_again",
    ),
    "INVALID_SIGNATURE": (
        "requests are signed over HTTP",
        f"{CALLERS}::test_a_request_that_was_changed_on_its_way_is_refused",
    ),
    "MISSING_AUTHENTICATION": ("needs strict doors", f"{CALLERS}::test_who_is_not_proven_is_refused_as_aws_does"),
}
# A wait is told for what passes by itself.
WITH_A_WAIT = (
    "TENANT_QUEUE_FULL",
    "SHARD_FULL",
    "CONCURRENCY_EXCEEDED",
    "RESERVED_CONCURRENCY_EXCEEDED",
    "NO_CAPACITY",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ends(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ends]:
    folder = tmp_path_factory.mktemp("queue")
    node = QueueNodeHere(folder, tenant_max_events=2, shard_max_events=5)
    await node.start()
    await node.shards.apply(EPOCH, ["queue-0", "queue-0", "queue-1"])
    peer = dial(node.peer.target, TOKEN)
    async with (
        serving("ControlService") as control,
        serving("FrontendService") as door,
        serving("RuntimeService") as host,
    ):
        yield Ends(control, End("QueueService", peer), node, door, door.has, host, host.has)
    await peer.close()
    await node.stop()


def names() -> set[str]:
    """Of all reasons."""
    return {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()}  # noqa: SIM118  # a wrapper, no dict


def test_every_reason_is_in_the_walk() -> None:
    """Or named with the test that shows it; one that is added cannot be forgotten."""
    assert names() == PROVOKED.keys() | SHOWN_ELSEWHERE.keys()
    assert not PROVOKED.keys() & SHOWN_ELSEWHERE.keys()


@pytest.mark.parametrize("name", SHOWN_ELSEWHERE)
def test_what_is_shown_elsewhere_is_shown(name: str) -> None:
    """The test exists, and its file speaks of the reason or its AWS name."""
    _why, test = SHOWN_ELSEWHERE[name]
    file, _, function = test.partition("::")
    text = (ROOT / file).read_text()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert function in {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)}
    aws_code = TABLE[errors_pb2.ErrorReason.Value(f"ERROR_REASON_{name}")].aws_code
    assert any(word in text for word in (name, aws_code))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", PROVOKED)
async def test_a_call_brings_the_reason_about(ends: Ends, name: str) -> None:
    """With a sentence, the table's code (which `ask` looks at), and a wait where waiting helps."""
    refusal = await PROVOKED[name](ends)
    assert name_of(refusal) == name
    error = refusal if isinstance(refusal, EvenflowError) else EvenflowError.from_detail(refusal)
    assert error.message and len(error.message.encode()) <= 1_024
    assert all(len(key) + len(value.encode()) <= 256 for key, value in error.metadata.items())
    assert error.retry_after_ms > 0 or name not in WITH_A_WAIT
    assert error.retry_after_ms == 0 or error.kind.retryable
