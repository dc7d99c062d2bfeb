"""Events run the code that is current when they run: versions, aliases, and what is configured for each."""

from collections import Counter

import pytest
from evenflow.common.v1 import event_pb2
from evenflow.control.v1 import control_pb2, resources_pb2
from evenflow.runtime.v1 import runtime_pb2

from tests.integration.poller.mailbox import Mailbox
from tests.integration.poller.rig import TENANT, Rig, arn, failed, succeeded
from tests.kit.aws_neighbour import AwsNeighbour
from tests.kit.waiting import eventually

pytestmark = [pytest.mark.fleet, pytest.mark.asyncio(loop_scope="module")]
Invocation = runtime_pb2.Invocation


async def configure(rig: Rig, name: str, qualifier: str, config: resources_pb2.AsyncConfig) -> None:
    """What is done with events of this qualifier."""
    request = control_pb2.PutAsyncConfigRequest(
        tenant_id=TENANT, function_name=name, qualifier=qualifier, config=config
    )
    await rig.control.PutAsyncConfig(request, metadata=rig.metadata)


async def drop_alias(rig: Rig, name: str, alias: str) -> None:
    """The alias goes."""
    request = control_pb2.DeleteAliasRequest(tenant_id=TENANT, function_name=name, name=alias)
    await rig.control.DeleteAlias(request, metadata=rig.metadata)


async def two_versions(rig: Rig, name: str, **more: str) -> None:
    """A function with versions 1 and 2, and "live" at 1."""
    for number in ("1", "2"):
        await rig.deploy(name, lambda i: succeeded(), dead_letters=more.get(f"dead_{number}", ""))
        assert await rig.publish(name) == number
    await rig.point(name, "live", "1")


async def test_an_alias_that_moves_between_attempts_moves_the_event(aws_rig: Rig) -> None:
    """The second attempt runs what the alias points at by then; the caller's qualifier stays in the ARN."""
    await two_versions(aws_rig, "moves")
    held: list[Invocation] = []
    aws_rig.behaviours["moves"] = held.append
    request_id = await aws_rig.enqueue("moves", "live")
    (first,) = await eventually(lambda: held)
    assert (first.version, first.invoked_function_arn) == ("1", arn("moves") + ":live")
    await aws_rig.point("moves", "live", "2")
    await aws_rig.caught_up()
    aws_rig.behaviours["moves"] = lambda i: succeeded()
    aws_rig.host.finish(first.invocation_id, failed(version="1"))
    event = await aws_rig.ended(request_id, "succeeded")
    assert [i.version for i in aws_rig.runs("moves")] == ["1", "2"]
    assert event.attempts == 2


async def test_a_split_alias_draws_at_every_run(aws_rig: Rig) -> None:
    """Half and half: of 40 events both versions get some."""
    await two_versions(aws_rig, "split")
    await aws_rig.point("split", "live", "1", v2=0.5)
    await aws_rig.caught_up()
    events = [await aws_rig.enqueue("split", "live") for _ in range(40)]
    for request_id in events:
        await aws_rig.ended(request_id, "succeeded")
    assert min(Counter(i.version for i in aws_rig.runs("split")).values()) >= 5
    assert {i.version for i in aws_rig.runs("split")} == {"1", "2"}


async def test_each_qualifier_has_its_own_retries_and_destinations(aws_rig: Rig, neighbour: AwsNeighbour) -> None:
    """An alias's configuration is not its version's nor $LATEST's; one that has none has the defaults."""
    box = Mailbox(neighbour, "of-live")
    await two_versions(aws_rig, "configured")
    once = resources_pb2.AsyncConfig(maximum_retry_attempts=0, on_failure_arn=box.arn)
    await configure(aws_rig, "configured", "live", once)
    await aws_rig.caught_up()
    aws_rig.behaviours["configured"] = lambda i: failed(version=i.version)
    by_alias = await aws_rig.enqueue("configured", "live")
    by_number = await aws_rig.enqueue("configured", "1")
    assert (await aws_rig.ended(by_alias, "failed")).attempts == 1
    assert (await aws_rig.ended(by_number, "dead")).attempts == 3
    (mail,) = await box.wait()
    assert mail.record["requestContext"]["functionArn"] == arn("configured") + ":live"
    assert mail.record["responseContext"]["executedVersion"] == "1"


async def test_the_dead_letter_queue_is_of_the_version_that_ran(aws_rig: Rig, neighbour: AwsNeighbour) -> None:
    """It is a part of the version's configuration; destinations are not."""
    boxes = [Mailbox(neighbour, f"dead-of-{number}") for number in (1, 2)]
    await two_versions(aws_rig, "dying", dead_1=boxes[0].arn, dead_2=boxes[1].arn)
    aws_rig.behaviours["dying"] = lambda i: failed()
    await aws_rig.ended(await aws_rig.enqueue("dying", "2"), "failed")
    assert len(await boxes[1].wait()) == 1
    assert boxes[0].read() == []
    await aws_rig.ended(await aws_rig.enqueue("dying", "live"), "failed")
    assert len(await boxes[0].wait()) == 1


async def test_an_alias_that_is_gone_ends_its_events(aws_rig: Rig) -> None:
    """FUNCTION_NOT_FOUND, in the dead letters: nothing says any more where it should go."""
    await two_versions(aws_rig, "unnamed")
    await drop_alias(aws_rig, "unnamed", "live")
    await aws_rig.caught_up()
    event = await aws_rig.ended(await aws_rig.enqueue("unnamed", "live"), "dead")
    assert event.condition == event_pb2.CONDITION_FUNCTION_NOT_FOUND
    assert aws_rig.runs("unnamed") == []


async def test_an_alias_that_was_just_made_is_found(aws_rig: Rig) -> None:
    """Control is asked before an event ends for want of it."""
    await two_versions(aws_rig, "fresh")
    for number in range(5):
        await aws_rig.point("fresh", f"a{number}", "2")
        await aws_rig.ended(await aws_rig.enqueue("fresh", f"a{number}"), "succeeded")
    assert {i.version for i in aws_rig.runs("fresh")} == {"2"}


async def test_a_function_may_allow_its_chains_to_go_on(aws_rig: Rig) -> None:
    """PutFunctionRecursionConfig Allow: beyond 16 invocations it runs all the same, until that is undone."""
    await aws_rig.deploy("endless", lambda i: succeeded())
    assert (await aws_rig.ended(await aws_rig.enqueue("endless", depth=16), "dead")).attempts == 0
    for allows, state in ((True, "succeeded"), (False, "dead")):
        request = control_pb2.PutRecursionRequest(tenant_id=TENANT, function_name="endless", allows_recursion=allows)
        await aws_rig.control.PutRecursion(request, metadata=aws_rig.metadata)
        await aws_rig.caught_up()
        event = await aws_rig.ended(await aws_rig.enqueue("endless", depth=16), state)
    assert event.condition == event_pb2.CONDITION_RECURSION_STOPPED
    assert aws_rig.metric("poller-0", "RecursiveInvocationsDropped_total", function="endless") == 2
