"""A function that calls itself through boto3, as the SDK does it: the X-Ray header carries its chain to the door."""

import pytest

from tests.kit.fleet import Fleet
from tests.kit.waiting import wait_until

pytestmark = pytest.mark.fleet
LOOP = """
    import json, os
    import boto3

    door = boto3.client("lambda", endpoint_url=os.environ["DOOR"], region_name="us-east-1",
                        aws_access_key_id="any", aws_secret_access_key="any")

    def handler(event, context):
        path = os.environ["EVENFLOW_BUCKET_LOOPS"] + "/runs"
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(fd, os.environ["_X_AMZN_TRACE_ID"].encode() + b"\\n")
        os.close(fd)
        door.invoke(FunctionName=context.function_name, InvocationType="Event", Payload=json.dumps(event))
"""


def test_a_handler_that_invokes_itself_is_stopped_after_16_invocations(fleet: Fleet) -> None:
    """The seventeenth event is accepted and does not run: it is a dead letter that says why."""
    room = [{"name": "loops", "access": "write"}]
    fleet.deploy("loop", LOOP, buckets=room, timeout_seconds=30, environment={"DOOR": fleet.http_url})
    fleet.lambda_client().invoke(FunctionName="loop", InvocationType="Event", Payload=b"{}")
    letters = wait_until(lambda: fleet.cli_json("dlq", "list", "--function", "loop"), 30, "a dead letter")
    assert [letter["condition"] for letter in letters] == ["RecursionStopped"], letters
    runs = (fleet.data / "buckets" / "loops" / "runs").read_text().splitlines()
    assert [run.rpartition(":")[2] for run in runs] == [str(depth) for depth in range(16)]
    assert len({run.partition(";")[0] for run in runs}) == 1, "one trace from the first to the last"
