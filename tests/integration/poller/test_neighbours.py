"""Each kind of destination and dead-letter queue in the form AWS Lambda gives it, and those that cannot take it."""

import json
import re
import uuid

import pytest

from services.shared import ids
from tests.integration.poller.mailbox import Mailbox
from tests.integration.poller.rig import Rig, arn, failed, succeeded
from tests.kit.aws_neighbour import ACCOUNT, REGION, AwsNeighbour
from tests.kit.waiting import eventually

pytestmark = [pytest.mark.fleet, pytest.mark.asyncio(loop_scope="module")]
KEY = re.compile(r"aws/lambda/async/to-bucket/\d{4}/\d\d/\d\d/\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d-(.+)")


async def test_a_topic_gets_the_record_as_its_message(aws_rig: Rig, neighbour: AwsNeighbour) -> None:
    """On success as on failure."""
    box = Mailbox(neighbour, "topic")
    await aws_rig.deploy("to-topic", lambda i: succeeded(b'"x"'), on_success=box.hear_topic())
    request_id = await aws_rig.submit("to-topic")
    (mail,) = await box.wait()
    assert mail.record["responsePayload"] == "x"
    assert mail.record["requestContext"]["requestId"] == ids.to_text(request_id)
    await aws_rig.ended(request_id, "succeeded")


async def test_a_topic_as_dead_letter_queue_gets_event_and_attributes(aws_rig: Rig, neighbour: AwsNeighbour) -> None:
    """The message is the event, byte for byte."""
    box = Mailbox(neighbour, "dead-topic")
    await aws_rig.deploy("dead-to-topic", lambda i: failed("told"), retries=0, dead_letters=box.hear_topic())
    request_id = await aws_rig.submit("dead-to-topic", b'{"a":  1}')
    (mail,) = await box.wait()
    assert mail.body == '{"a":  1}'
    assert mail.attributes == {
        "RequestID": ("String", ids.to_text(request_id)),
        "ErrorCode": ("Number", "200"),
        "ErrorMessage": ("String", "told"),
    }


@pytest.mark.parametrize("kind", ["Success", "Failure"])
async def test_an_event_bus_gets_an_event_of_lambda(aws_rig: Rig, neighbour: AwsNeighbour, kind: str) -> None:
    """Source, detail type, resources and detail as rules for AWS match them."""
    box = Mailbox(neighbour, f"bus-{kind}")
    bus, name = box.hear_bus(), f"to-bus-{kind}"
    is_success = kind == "Success"
    await aws_rig.deploy(
        name, lambda i: succeeded() if is_success else failed(), retries=0, on_success=bus, on_failure=bus
    )
    request_id = await aws_rig.submit(name)
    (mail,) = await box.wait()
    event = mail.record
    assert (event["source"], event["detail-type"]) == ("lambda", f"Lambda Function Invocation Result - {kind}")
    assert event["resources"] == [bus, f"{arn(name)}:$LATEST"]
    assert event["detail"]["version"] == "1.0"
    assert event["detail"]["requestContext"]["requestId"] == ids.to_text(request_id)
    ended = await aws_rig.ended(request_id, "succeeded" if is_success else "failed")
    assert ended.destination_arn == bus


async def test_a_bucket_gets_an_object_on_failure(aws_rig: Rig, neighbour: AwsNeighbour) -> None:
    """Its key has function, day, second and an id; its body is the record."""
    s3 = neighbour.client("s3")
    s3.create_bucket(Bucket="records")
    await aws_rig.deploy("to-bucket", lambda i: failed("kept"), retries=0, on_failure="arn:aws:s3:::records")
    await aws_rig.ended(await aws_rig.submit("to-bucket"), "failed")
    (found,) = s3.list_objects_v2(Bucket="records")["Contents"]
    match = KEY.fullmatch(found["Key"])
    assert match is not None and uuid.UUID(match[1]).version == 4
    record = json.loads(s3.get_object(Bucket="records", Key=found["Key"])["Body"].read())
    assert record["responsePayload"]["errorMessage"] == "kept"


async def test_a_function_is_reached_by_its_alias(aws_rig: Rig) -> None:
    """The destination's qualifier is the chained event's: the alias's version runs."""
    await aws_rig.deploy("target", lambda i: succeeded())
    number = await aws_rig.publish("target")
    await aws_rig.point("target", "live", number)
    await aws_rig.deploy("source", lambda i: succeeded(), on_success=arn("target") + ":live")
    await aws_rig.submit("source")
    (chained,) = await eventually(lambda: aws_rig.runs("target"))
    assert (chained.version, chained.invoked_function_arn) == (number, arn("target") + ":live")


async def test_queues_carry_the_chain_on(aws_rig: Rig, neighbour: AwsNeighbour) -> None:
    """The record's message has the X-Ray header with the lineage of the invocation that ended."""
    box = Mailbox(neighbour, "chain")
    await aws_rig.deploy("links", lambda i: succeeded(), on_success=box.arn)
    request_id = await aws_rig.enqueue("links", depth=7)
    await aws_rig.ended(request_id, "succeeded")
    (mail,) = await box.wait()
    assert mail.trace_header.startswith("Root=1-")
    assert mail.trace_header.endswith(f"Lineage=1:{request_id.hex()[:8]}:7")


async def test_a_record_that_is_too_large_goes_without_payload_and_the_event_is_kept(
    aws_rig: Rig, neighbour: AwsNeighbour
) -> None:
    """A topic takes 256 KiB: it is told what happened, and the event itself is a dead letter of its shard."""
    box = Mailbox(neighbour, "narrow")
    topic = box.hear_topic()
    await aws_rig.deploy("wide", lambda i: failed("wide"), retries=0, on_failure=topic)
    request_id = await aws_rig.submit("wide", b'"%s"' % (b"x" * 300_000))
    (mail,) = await box.wait()
    assert "requestPayload" not in mail.record
    assert mail.record["responsePayload"]["errorMessage"] == "wide"
    event = await aws_rig.ended(request_id, "dead")
    assert (event.error_type, event.attempts) == ("DestinationRecordTooLarge", 1)


async def test_a_success_that_is_too_large_is_told_without_payload(aws_rig: Rig, neighbour: AwsNeighbour) -> None:
    """The event succeeded: nothing of it has to be kept."""
    box = Mailbox(neighbour, "narrow-success")
    topic = box.hear_topic()
    await aws_rig.deploy("wide-success", lambda i: succeeded(b'"%s"' % (b"y" * 300_000)), on_success=topic)
    request_id = await aws_rig.submit("wide-success")
    (mail,) = await box.wait()
    assert "responsePayload" not in mail.record and mail.record["responseContext"]["statusCode"] == 200
    await aws_rig.ended(request_id, "succeeded")


async def test_an_event_that_is_too_large_for_its_dead_letter_queue_stays_in_the_shard(
    aws_rig: Rig, neighbour: AwsNeighbour
) -> None:
    """The queue gets the event or nothing; it is counted, and not tried without end."""
    box = Mailbox(neighbour, "narrow-dead")
    topic = box.hear_topic()
    await aws_rig.deploy("wide-dead", lambda i: failed(), retries=0, dead_letters=topic)
    event = await aws_rig.ended(await aws_rig.submit("wide-dead", b'"%s"' % (b"z" * 300_000)), "dead")
    assert event.error_type == "DeadLetterError" and topic in event.error_message
    assert box.read() == []
    assert aws_rig.metric("poller-0", "DeadLetterErrors_total", function="wide-dead") >= 1


async def test_one_that_is_gone_does_not_keep_the_other_from_its_part(aws_rig: Rig, neighbour: AwsNeighbour) -> None:
    """The dead-letter queue has the event once, however often the destination is tried; then the shard keeps it."""
    box = Mailbox(neighbour, "once")
    gone = f"arn:aws:sqs:{REGION}:{ACCOUNT}:gone"
    await aws_rig.deploy("halved", lambda i: failed("half"), retries=0, dead_letters=box.arn, on_failure=gone)
    event = await aws_rig.ended(await aws_rig.submit("halved"), "dead")
    assert event.error_type == "DestinationDeliveryFailure" and gone in event.error_message
    assert len(await box.wait()) == 1
    assert len(aws_rig.runs("halved")) == 1
    assert aws_rig.metric("poller-0", "DestinationDeliveryFailures_total", function="halved") == 3
    assert aws_rig.metric("poller-0", "AsyncEventsDropped_total", function="halved") == 1
