"""Calls to AWS neighbours: real botocore against moto's server, and what its failures become."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.shared import aws
from services.shared.aws import AwsCalls, AwsClients, AwsSettings, queue_url
from services.shared.errors import EvenflowError, Reason
from tests.kit.aws_neighbour import ACCOUNT, CREDENTIALS, REGION, AwsNeighbour
from tests.kit.processes import ROOT, free_port


@pytest.fixture(scope="module")
def neighbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsNeighbour]:
    server = AwsNeighbour(tmp_path_factory.mktemp("moto") / "moto.log")
    server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def settings_for(endpoint_url: str, **more: Any) -> AwsSettings:
    return AwsSettings("poller-0", "data", "run", "token", aws_endpoint_url=endpoint_url, **more)


async def refused(calls: AwsCalls, service: str, operation: str, **parameters: Any) -> EvenflowError:
    with pytest.raises(EvenflowError) as caught:
        await calls.call(service, operation, **parameters)
    return caught.value


async def test_calls_reach_the_endpoint_from_a_thread(neighbour: AwsNeighbour) -> None:
    """A message sent by the queue's ARN is in the queue; the loop's thread made no call."""
    neighbour.client("sqs").create_queue(QueueName="q1")
    calls = AwsCalls(settings_for(neighbour.endpoint_url), "aws-test")
    url = queue_url(neighbour.endpoint_url, f"arn:aws:sqs:{REGION}:{ACCOUNT}:q1")
    names: list[str] = []

    def send(clients: AwsClients) -> str:
        names.append(threading.current_thread().name)
        return str(clients.get("sqs").send_message(QueueUrl=url, MessageBody="hello")["MessageId"])

    sent = await calls.run(send)
    received = await calls.call("sqs", "receive_message", QueueUrl=url)
    assert [(m["MessageId"], m["Body"]) for m in received["Messages"]] == [(sent, "hello")]
    assert names[0].startswith("aws-test") and calls.under_way == 0
    await calls.close()
    assert (await refused(calls, "sqs", "list_queues")).reason == Reason.ERROR_REASON_UNAVAILABLE


async def test_an_object_is_read_up_to_its_bound(neighbour: AwsNeighbour) -> None:
    """Objects come whole, or are refused by size or because they are not there."""
    s3 = neighbour.client("s3")
    s3.create_bucket(Bucket="code")
    s3.put_object(Bucket="code", Key="a.zip", Body=b"x" * 3_000_000)
    calls = AwsCalls(settings_for(neighbour.endpoint_url), "aws-test")
    assert await calls.read_object("code", "a.zip", 3_000_000) == b"x" * 3_000_000
    with pytest.raises(EvenflowError) as too_large:
        await calls.read_object("code", "a.zip", 2_999_999)
    with pytest.raises(EvenflowError) as missing:
        await calls.read_object("code", "b.zip", 100)
    assert too_large.value.reason == Reason.ERROR_REASON_REQUEST_TOO_LARGE
    assert missing.value.reason == Reason.ERROR_REASON_RESOURCE_NOT_FOUND
    await calls.close()


async def test_what_may_be_tried_again_says_so(neighbour: AwsNeighbour, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue that is not there and bad parameters are refusals for good; a server that is not there is not."""
    calls = AwsCalls(settings_for(neighbour.endpoint_url), "aws-test")
    gone = queue_url(neighbour.endpoint_url, f"arn:aws:sqs:{REGION}:{ACCOUNT}:gone")
    no_queue = await refused(calls, "sqs", "send_message", QueueUrl=gone, MessageBody="x")
    assert (no_queue.reason, no_queue.kind.retryable) == (Reason.ERROR_REASON_RESOURCE_NOT_FOUND, False)
    wrong = await refused(calls, "sqs", "send_message", QueueUrl=gone)
    assert (wrong.reason, wrong.kind.retryable) == (Reason.ERROR_REASON_INVALID_PARAMETER, False)
    nobody = AwsCalls(settings_for(f"http://127.0.0.1:{free_port()}"), "aws-test")
    down = await refused(nobody, "sqs", "list_queues")
    assert (down.reason, down.kind.retryable) == (Reason.ERROR_REASON_UNAVAILABLE, True)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    stranger = AwsCalls(settings_for(neighbour.endpoint_url), "aws-test")
    unsigned = await refused(stranger, "sqs", "list_queues")
    assert unsigned.reason == Reason.ERROR_REASON_UNAUTHENTICATED and "AWS_ACCESS_KEY_ID" in unsigned.message
    await asyncio.gather(calls.close(), nobody.close(), stranger.close())


async def test_a_silent_server_costs_one_read_time_out() -> None:
    """botocore retries nothing: a server that never answers is given up after aws.read_seconds; it may have acted."""
    connected: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _reader, writer: connected.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    calls = AwsCalls(settings_for(f"http://127.0.0.1:{port}", aws_read_seconds=0.2), "aws-test", threads=1)
    silent = await refused(calls, "sqs", "list_queues")
    assert (silent.reason, silent.kind.retryable) == (Reason.ERROR_REASON_OUTCOME_UNKNOWN, True)
    assert len(connected) == 1
    await calls.close()
    for writer in connected:
        writer.close()
    server.close()


def test_clients_are_bounded_and_of_regions_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regions come from ARNs: the one that was not used for longest goes, and what is no region gets no client."""
    monkeypatch.setattr(aws, "MAX_CLIENTS", 2)
    clients = AwsClients(settings_for("http://127.0.0.1:9"), 1, 1.0)
    first, second = clients.get("sqs", "eu-west-1"), clients.get("sqs", "eusc-de-east-1")
    assert clients.get("sqs", "eu-west-1") is first
    clients.get("sqs", "us-gov-west-1")
    assert clients.get("sqs", "eu-west-1") is first
    assert clients.get("sqs", "eusc-de-east-1") is not second
    assert len(clients._clients) == 2
    for wrong in ("eu-west-1.evil.test/", "x", "-", "eu-west-10"):
        with pytest.raises(EvenflowError, match="no region"):
            clients.get("sqs", wrong)
    clients.close()


def test_queues_have_addresses() -> None:
    """At AWS by region and partition, elsewhere below the endpoint; what is no queue's ARN is refused."""
    assert queue_url("", "arn:aws:sqs:eu-west-1:1:q") == "https://sqs.eu-west-1.amazonaws.com/1/q"
    assert queue_url("", "arn:aws-cn:sqs:cn-north-1:1:q") == "https://sqs.cn-north-1.amazonaws.com.cn/1/q"
    assert queue_url("http://h:5000/", "arn:aws:sqs:eu-west-1:1:q.fifo") == "http://h:5000/1/q.fifo"
    with pytest.raises(EvenflowError):
        queue_url("", "arn:aws:sns:eu-west-1:1:q")


def test_services_start_without_botocore() -> None:
    """Importing a poller does not load botocore: it costs half a second of a start."""
    program = "import sys, services.poller.poller; sys.exit('botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(ROOT), check=False).returncode == 0
