"""Two pollers and two runtime hosts: a reservation of one is one over both, and everything gets through."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.kit.fleet import Fleet
from tests.kit.waiting import wait_until

pytestmark = pytest.mark.fleet
# Fails when another run is inside at the same time.
ALONE = """
    import os, time

    def handler(event, context):
        path = os.environ["EVENFLOW_BUCKET_ROOM"] + "/" + event["key"]
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        time.sleep(0.02)
        os.remove(path)
        return context.log_stream_name
"""
ROOM = [{"name": "room", "access": "write"}]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Two of each that there may be two of."""
    arguments = ["--pollers", "2", "--runtimes", "2"]
    with Fleet({"retry.throttle_base_seconds": "0.05"}, arguments=arguments) as running:
        for n in range(4):
            # Whatever host a function prefers, for some of these it is the one without a share.
            running.deploy(f"alone-{n}", ALONE, buckets=ROOM, reserved_concurrency=1)
        yield running


def test_a_reservation_of_one_is_one_over_both_hosts_and_nothing_waits_for_ever(fleet: Fleet) -> None:
    """Asynchronously: all succeed at their first attempt."""
    client = fleet.lambda_client()
    ids = [
        client.invoke(
            FunctionName=f"alone-{n % 4}", InvocationType="Event", Payload=json.dumps({"key": f"lock-{n % 4}"})
        )["ResponseMetadata"]["RequestId"]
        for n in range(40)
    ]
    fleet.wait_drained()
    events = [fleet.cli_json("event", request_id) for request_id in ids[::8]]
    assert {(event["state"], event["attempts"]) for event in events} == {("succeeded", 1)}
    assert json.loads(fleet.cli("dlq", "list", "--json")) == []


def test_a_synchronous_call_finds_the_host_that_has_the_share(fleet: Fleet) -> None:
    """Also through a door that would prefer the other one."""
    client = fleet.lambda_client()

    def call(n: int) -> str:
        answer = client.invoke(FunctionName=f"alone-{n}", Payload=json.dumps({"key": f"sync-{n}"}))
        assert "FunctionError" not in answer
        text: str = answer["Payload"].read().decode()
        return text

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(call, range(4)))
    assert all(answers)


def test_provisioned_concurrency_is_ready_over_both_hosts_and_says_what_is_wrong(fleet: Fleet) -> None:
    """Put through the Lambda API: READY, and taken first; a handler that does not load is FAILED with its error."""
    client = fleet.lambda_client()
    tell = "import os\ndef handler(event, context):\n    return os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']\n"
    for name, source in (("kept", tell), ("broken", "1 / 0\n")):
        fleet.deploy(name, source)
        assert client.publish_version(FunctionName=name)["Version"] == "1"
        client.put_provisioned_concurrency_config(FunctionName=name, Qualifier="1", ProvisionedConcurrentExecutions=4)

    def config_of(name: str) -> Any:
        return client.get_provisioned_concurrency_config(FunctionName=name, Qualifier="1")

    wait_until(lambda: config_of("kept")["Status"] == "READY", 20.0, "4 to be ready")
    assert config_of("kept")["AvailableProvisionedConcurrentExecutions"] == 4
    wait_until(lambda: config_of("broken")["Status"] == "FAILED", 20.0, "the failure to be told")
    assert "ZeroDivisionError" in config_of("broken")["StatusReason"]
    kinds = [json.loads(client.invoke(FunctionName="kept", Qualifier=q)["Payload"].read()) for q in ("1", "$LATEST")]
    assert kinds == ["provisioned-concurrency", "on-demand"]
