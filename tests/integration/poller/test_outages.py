"""Destinations that are down, crashes between the two that an event goes to, and ages: a fleet with a time of its own.

A minute of an event's age is a second here, and so are the first back-off's 60 s.
"""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from evenflow.common.v1 import errors_pb2, event_pb2

from services.shared import ids
from tests.integration.poller.mailbox import Mailbox
from tests.integration.poller.rig import Rig, failed, refused, succeeded
from tests.kit.aws_neighbour import ACCOUNT, CREDENTIALS, REGION, AwsNeighbour
from tests.kit.waiting import eventually

pytestmark = [pytest.mark.fleet, pytest.mark.asyncio(loop_scope="module")]
MINUTE_SECONDS = 2.0
DRAIN_SECONDS = 1.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def neighbour(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AwsNeighbour]:
    """An address where nobody listens, until a test starts it."""
    server = AwsNeighbour(tmp_path_factory.mktemp("moto") / "moto.log")
    yield server
    server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(neighbour: AwsNeighbour) -> AsyncIterator[Rig]:
    """A fleet of minutes that take seconds."""
    folder = Path(tempfile.mkdtemp(prefix="ef-", dir="/tmp"))
    made = Rig(
        folder,
        environment={
            "EVENFLOW_AWS_ENDPOINT_URL": neighbour.endpoint_url,
            "EVENFLOW_DRAIN_SECONDS": str(DRAIN_SECONDS),
            "EVENFLOW_RETRY_BASE_SECONDS": str(MINUTE_SECONDS),
            "EVENFLOW_RETRY_AGE_SCALE": str(MINUTE_SECONDS / 60),
            **CREDENTIALS,
        },
    )
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def queue_arn(name: str) -> str:
    """The ARN of a queue, also of one that is not there yet."""
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"


async def test_an_age_of_60_s_ends_a_failing_event_after_its_first_attempt(rig: Rig) -> None:
    """Its retry would fall past the age: it ends now, not then."""
    await rig.deploy("age-60", lambda i: failed(), age_seconds=60)
    event = await rig.ended(await rig.submit("age-60"), "dead", MINUTE_SECONDS)
    assert (event.attempts, event.condition) == (1, event_pb2.CONDITION_EVENT_AGE_EXCEEDED)


async def test_an_age_of_90_s_allows_one_retry(rig: Rig) -> None:
    """After a minute; the next one would come after two more."""
    await rig.deploy("age-90", lambda i: failed(), age_seconds=90)
    event = await rig.ended(await rig.submit("age-90"), "dead")
    assert (event.attempts, event.condition) == (2, event_pb2.CONDITION_EVENT_AGE_EXCEEDED)


async def test_throttles_end_with_the_age(rig: Rig) -> None:
    """Outside the count of attempts, but not beyond MaximumEventAgeInSeconds; nothing ran."""
    await rig.deploy("age-throttled", lambda i: refused(errors_pb2.ERROR_REASON_CONCURRENCY_EXCEEDED), age_seconds=60)
    event = await rig.ended(await rig.submit("age-throttled"), "dead")
    assert (event.attempts, event.condition) == (0, event_pb2.CONDITION_EVENT_AGE_EXCEEDED)
    assert event.throttles >= 2


async def test_a_neighbour_that_says_nothing_does_not_hold_up_a_poller_that_stops(
    rig: Rig, neighbour: AwsNeighbour
) -> None:
    """It drains for its time and ends; the next one delivers, and what was under way then was not lost."""
    silent: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _reader, writer: silent.append(writer), "127.0.0.1", neighbour.port)
    await rig.deploy("unheard", lambda i: succeeded(), on_success=queue_arn("unheard"))
    request_id = await rig.submit("unheard")
    await eventually(lambda: silent)
    rig.processes.signal("poller-0", signal.SIGTERM)
    assert await asyncio.to_thread(rig.processes.wait, "poller-0", DRAIN_SECONDS + 5.0) == 0
    for writer in silent:
        writer.close()
    server.close()
    await asyncio.to_thread(rig.processes.restart, "poller-0")
    assert (await rig.event(request_id)).state == "handover"


async def test_a_destination_that_is_down_gets_its_record_once_it_is_up(rig: Rig, neighbour: AwsNeighbour) -> None:
    """Tried again with back-off and counted; the handler is not run again, nothing is lost and nothing twice."""
    await rig.deploy("patient", lambda i: succeeded(b'"late"'), on_success=queue_arn("late"))
    events = [await rig.submit("patient") for _ in range(5)]

    def failures() -> float:
        return rig.metric("poller-0", "DestinationDeliveryFailures_total", function="patient")

    await eventually(lambda: failures() >= 10, 10)
    assert {(await rig.event(request_id)).state for request_id in events} == {"handover"}
    await asyncio.to_thread(neighbour.start)
    box = Mailbox(neighbour, "late")
    for request_id in events:
        await rig.ended(request_id, "succeeded")
    mail = await box.wait(5)
    assert {m.record["requestContext"]["requestId"] for m in mail} == {ids.to_text(e) for e in events}
    assert len(rig.runs("patient")) == 5


async def test_a_crash_between_the_two_repeats_only_what_was_not_confirmed(rig: Rig, neighbour: AwsNeighbour) -> None:
    """The dead-letter queue has the event; the destination is a function and no door is up; the poller is killed."""
    if not neighbour.is_up:
        await asyncio.to_thread(neighbour.start)
    box = Mailbox(neighbour, "first-part")
    await rig.deploy("second-part", lambda i: succeeded())
    held: list[int] = []
    await rig.deploy(
        "parted",
        lambda i: held.append(i.invocation_id),
        retries=0,
        dead_letters=box.arn,
        on_failure="second-part",
    )
    request_id = await rig.submit("parted")
    (invocation_id,) = await eventually(lambda: held)
    await asyncio.to_thread(rig.processes.kill, "frontend-0")
    rig.host.finish(invocation_id, failed())
    await box.wait()

    # The first part is stored, then the second one fails for want of a door: only a next round is left.
    await eventually(lambda: rig.metric("poller-0", "DestinationDeliveryFailures_total", function="parted") >= 1, 15)
    rig.processes.kill("poller-0")
    for node_id in ("frontend-0", "poller-0"):
        await asyncio.to_thread(rig.processes.restart, node_id)
    await rig.ended(request_id, "failed", 20)
    (chained,) = await eventually(lambda: rig.runs("second-part"))
    assert chained.lineage.parent_request_id == request_id
    assert len(await box.wait()) == 1
    assert len(rig.runs("parted")) == 1
