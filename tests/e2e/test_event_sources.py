"""Event sources of a whole fleet, moto's server as the neighbour: a chain through S3 and SQS, owners that are killed.

Two pollers share the sources; schedules' time passes forty times as fast, so that a minute is a second and a half.
"""

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from evenflow.poller.v1 import poller_pb2, poller_pb2_grpc

from tests.kit.aws_neighbour import ACCOUNT, CREDENTIALS, REGION, AwsNeighbour
from tests.kit.fleet import Fleet
from tests.kit.waiting import wait_until

pytestmark = pytest.mark.fleet
ROOM = [{"name": "room", "access": "write"}]
SETTINGS = {
    "retry.base_seconds": "0.1",
    "retry.throttle_base_seconds": "0.1",
    "control.source_lease_ms": "1000",
    "source.schedule_speed": "40",
    # Messages of an owner that dies come back soon.
    "source.sqs_margin_seconds": "1",
    "source.sqs_wait_seconds": "1",
}
# Hands what it gets to another function, which nobody waits for.
RELAY = """
    import boto3

    client = boto3.client("lambda")

    def handler(event, context):
        for record in event["Records"]:
            client.invoke(FunctionName="work", InvocationType="Event", Payload=record["body"])
"""
WORK = """
    def handler(event, context):
        raise ValueError("cannot read " + event["Records"][0]["s3"]["object"]["key"])
"""
# Notes each record that it got; the first batch stays until the test lets it go.
DRAIN = """
    import os, time

    def handler(event, context):
        room = os.environ["EVENFLOW_BUCKET_ROOM"]
        open(f"{room}/began-{context.aws_request_id}", "w").close()
        while not os.path.exists(f"{room}/go"):
            time.sleep(0.01)
        for record in event["Records"]:
            open(f"{room}/done-{record['body']}-{context.aws_request_id}", "w").close()
"""
TICK = """
    import os

    def handler(event, context):
        due = event["time"].replace(":", "")
        open(os.environ["EVENFLOW_BUCKET_ROOM"] + f"/tick_{due}_{context.aws_request_id}", "w").close()
"""


NOTED = """
    import os

    def handler(event, context):
        [record] = event["Records"]
        assert record["EventSource"] == "aws:sns"
        message = record["Sns"]["Message"]
        open(os.environ["EVENFLOW_BUCKET_ROOM"] + f"/noted-{message}-{context.aws_request_id}", "w").close()
"""


def arn_of(queue: str) -> str:
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}"


@pytest.fixture(scope="module")
def neighbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsNeighbour]:
    server = AwsNeighbour(tmp_path_factory.mktemp("moto") / "moto.log")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def fleet(neighbour: AwsNeighbour) -> Iterator[Fleet]:
    settings = {**SETTINGS, "aws.endpoint_url": neighbour.endpoint_url, "aws.region": REGION}
    with Fleet(settings, arguments=["--pollers", "2"], environment=CREDENTIALS) as running:
        yield running


class Queue:
    """An SQS queue of the neighbour."""

    def __init__(self, neighbour: AwsNeighbour, name: str, **attributes: str) -> None:
        self.sqs = neighbour.client("sqs")
        self.url: str = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]

    def left(self) -> int:
        """Messages that it has, visible or not."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def take(self) -> str | None:
        """The body of one message, which is deleted."""
        for message in self.sqs.receive_message(QueueUrl=self.url).get("Messages", ()):
            self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
            return str(message["Body"])
        return None


def room(fleet: Fleet, prefix: str) -> list[str]:
    """What handlers noted under names that begin so."""
    folder = Path(fleet.data) / "buckets" / "room"
    return sorted(path.name for path in folder.glob(f"{prefix}*"))


def owners(fleet: Fleet, kind: str) -> dict[str, int]:
    """Which poller says that it owns the one source of this kind, and by which epoch; one that is down says nothing."""
    found = {}
    with fleet.connect() as connection:
        for node_id, node in fleet.file.of_role("poller").items():
            stub = poller_pb2_grpc.PollerServiceStub(connection._channel(node.target))
            try:
                answer = connection.ask(stub.DescribePoller, poller_pb2.DescribePollerRequest(), 2.0)
            except grpc.RpcError:
                continue
            for source in answer.sources:
                if source.kind == kind:
                    found[node_id] = source.epoch
    assert len(found) <= 1, f"two own it: {found}"
    return found


def owner(fleet: Fleet, kind: str) -> tuple[str, int]:
    """The owner and its epoch."""
    return wait_until(lambda: next(iter(owners(fleet, kind).items()), None), 15.0, f"an owner of the {kind}") or ("", 0)


def test_an_object_that_is_put_ends_as_a_record_of_failure(fleet: Fleet, neighbour: AwsNeighbour) -> None:
    """S3 put -> the bucket's notification in SQS -> mapping -> `relay`, waited for -> `work`, async, fails -> SQS.

    The test event that S3 sends first is filtered out.
    As AWS does it: a mapping waits for its function, so that destinations do not concern it; `relay` succeeds and its
    message is deleted, and what it invoked asynchronously has the on-failure queue.
    """
    uploads, failures = Queue(neighbour, "uploads"), Queue(neighbour, "failures")
    failing = {"maximum_retry_attempts": 0, "on_failure": {"sqs": arn_of("failures")}}
    fleet.deploy("work", WORK, **{"async": failing})
    allowed = [{"action": "lambda:InvokeFunction", "resource": "work"}]
    source = {"sqs": arn_of("uploads"), "filters": [{"body": {"Records": {"eventSource": ["aws:s3"]}}}]}
    fleet.deploy("relay", RELAY, timeout_seconds=20, sources=[source], allows=allowed)
    s3 = neighbour.client("s3")
    s3.create_bucket(Bucket="photos")
    rule = {"QueueArn": arn_of("uploads"), "Events": ["s3:ObjectCreated:*"], "Id": "rule-1"}
    s3.put_bucket_notification_configuration(Bucket="photos", NotificationConfiguration={"QueueConfigurations": [rule]})
    etag = s3.put_object(Bucket="photos", Key="a b.jpg", Body=b"picture")["ETag"].strip('"')

    record: dict[str, Any] = json.loads(wait_until(failures.take, 30.0, "the record of the failure") or "")
    [event] = record["requestPayload"].pop("Records")
    assert (event["eventName"], event["s3"]["object"]) == (
        "ObjectCreated:Put",
        {"key": "a+b.jpg", "size": 7, "eTag": etag},
    )
    request_id = record["requestContext"].pop("requestId")
    trace = record["responsePayload"].pop("stackTrace")
    assert "cannot read" in "".join(trace)
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "version": "1.0",
        "requestContext": {
            "functionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:work:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 1,
        },
        "requestPayload": {},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "responsePayload": {
            "errorMessage": "cannot read a+b.jpg",
            "errorType": "ValueError",
            "requestId": request_id,
        },
    }
    wait_until(lambda: uploads.left() == 0, 10.0, "the notification to be deleted")
    assert failures.take() is None, "one record"
    fleet.cli("delete", "relay", "--yes")


def test_an_owner_that_is_killed_in_mid_batch_loses_nothing(fleet: Fleet, neighbour: AwsNeighbour) -> None:
    """Its messages come back, the other poller takes the queue over by a later epoch, and all of them are done."""
    jobs = Queue(neighbour, "jobs", VisibilityTimeout="1")
    fleet.deploy("drain", DRAIN, buckets=ROOM, timeout_seconds=3, sources=[{"sqs": arn_of("jobs"), "batch_size": 5}])
    bodies = [str(number) for number in range(12)]
    for body in bodies:
        jobs.sqs.send_message(QueueUrl=jobs.url, MessageBody=body)
    wait_until(lambda: room(fleet, "began-"), 20.0, "a batch to run")
    node_id, epoch = owner(fleet, "sqs")
    old_pid = fleet.kill(node_id, signal.SIGKILL)
    (fleet.data / "buckets" / "room" / "go").touch()
    wait_until(lambda: jobs.left() == 0, 30.0, "the queue to be drained")
    assert {name.split("-")[1] for name in room(fleet, "done-")} == set(bodies)
    assert owner(fleet, "sqs")[1] > epoch
    fleet.wait_restarted(node_id, old_pid)
    fleet.cli("delete", "drain", "--yes")


@pytest.mark.long
def test_an_owner_that_is_killed_at_a_fire_leaves_one_event_a_due_time(fleet: Fleet) -> None:
    """Killed right after a fire, twice: the next owner makes it again under the same token, and goes on."""
    schedule = {"schedule": "rate(1 minute)", "name": "every-minute", "catch_up_seconds": 600}
    fleet.deploy("tick", TICK, buckets=ROOM, sources=[schedule])
    for fires in (1, 3):
        wait_until(lambda fires=fires: len(room(fleet, "tick_")) >= fires, 30.0, f"{fires} fires")  # type: ignore[misc]
        node_id, epoch = owner(fleet, "schedule")
        pid = fleet.pid_of(node_id)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda epoch=epoch: owner(fleet, "schedule")[1] > epoch, 15.0, "another owner")  # type: ignore[misc]
        fleet.wait_restarted(node_id, pid)
    seen = len(room(fleet, "tick_"))
    wait_until(lambda: len(room(fleet, "tick_")) > seen, 20.0, "a further fire")
    runs = Counter(name.split("_")[1] for name in room(fleet, "tick_"))
    assert set(runs.values()) == {1}, runs
    fleet.cli("delete", "tick", "--yes")


def test_what_is_published_at_a_topic_reaches_the_function(fleet: Fleet, neighbour: AwsNeighbour) -> None:
    """Posted by SNS to the address that `evenflow webhooks` prints."""
    fleet.deploy("noted", NOTED, buckets=ROOM)
    address = fleet.cli_json("webhooks")["sns"].replace("FUNCTION", "noted")
    sns = neighbour.client("sns")
    topic = sns.create_topic(Name="news")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=address)
    sns.publish(TopicArn=topic, Message="hello")
    wait_until(lambda: room(fleet, "noted-hello-"), 20.0, "the message")
    assert len(room(fleet, "noted-hello-")) == 1
