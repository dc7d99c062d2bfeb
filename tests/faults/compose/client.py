"""A client outside the fleet, run in a container on the doors' network: `python -m tests.faults.compose.client`.

Reads a JSON document from its argument: http, grpc (doors), key, function, send (events over each door), follow (ids).
Prints one: `accepted` (ids of events that a door took) and `states` (by id, at the end, of those it was to follow).
"""

import json
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import grpc
from botocore.config import Config
from evenflow.frontend.v1 import frontend_pb2, frontend_pb2_grpc

TERMINAL = ("succeeded", "failed", "dead")
FOLLOW_SECONDS = 40.0
POLL_SECONDS = 0.05
CALL_SECONDS = 10.0


def main(asked: dict[str, Any]) -> dict[str, Any]:
    """Send over both doors, then follow."""
    key_id, secret = asked["key"]
    with grpc.insecure_channel(asked["grpc"]) as channel:
        door = frontend_pb2_grpc.FrontendServiceStub(channel)
        bearer = (("authorization", f"Bearer {key_id}:{secret}"),)
        accepted = [*_over_http(asked, key_id, secret), *_over_grpc(asked, door, bearer)]
        states = _follow(door, bearer, [*asked["follow"], *accepted])
    return {"accepted": accepted, "states": states}


def _over_http(asked: dict[str, Any], key_id: str, secret: str) -> Iterator[str]:
    config: Any = Config
    make: Any = boto3.client
    client = make(
        "lambda",
        endpoint_url=asked["http"],
        region_name="us-east-1",
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=config(retries={"max_attempts": 8, "mode": "standard"}, read_timeout=CALL_SECONDS),
    )
    for number in range(asked["send"]):
        answer = client.invoke(
            FunctionName=asked["function"], InvocationType="Event", Payload=json.dumps({"n": number})
        )
        yield str(uuid.UUID(answer["ResponseMetadata"]["RequestId"]))


def _over_grpc(asked: dict[str, Any], door: Any, bearer: Any) -> Iterator[str]:
    owed = asked["send"]
    deadline = time.monotonic() + FOLLOW_SECONDS
    while owed:
        event = frontend_pb2.EventSubmission(function_name=asked["function"], payload=b"{}")
        request = frontend_pb2.PublishBatchRequest(events=[event] * owed)
        for result in door.PublishBatch(request, metadata=bearer, timeout=CALL_SECONDS).results:
            # What was refused is sent again, as another event: its shard may be one that is cut off.
            if result.request_id:
                owed -= 1
                yield str(uuid.UUID(bytes=result.request_id))
        if owed and time.monotonic() > deadline:
            raise SystemExit(f"{owed} events were not accepted in time")


def _follow(door: Any, bearer: Any, request_ids: list[str]) -> dict[str, str]:
    states = dict.fromkeys(request_ids, "")
    deadline = time.monotonic() + FOLLOW_SECONDS
    open_ids = list(request_ids)
    while open_ids and time.monotonic() < deadline:
        for request_id in open_ids:
            try:
                found = door.GetEvent(
                    frontend_pb2.GetEventRequest(request_id=uuid.UUID(request_id).bytes),
                    metadata=bearer,
                    timeout=CALL_SECONDS,
                )
                states[request_id] = found.state
            except grpc.RpcError as e:
                states[request_id] = str(e)
        open_ids = [request_id for request_id in open_ids if states[request_id] not in TERMINAL]
        if open_ids:
            time.sleep(POLL_SECONDS)
    return states


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
