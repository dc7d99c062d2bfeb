"""`evenflow up --queues`: shards over several queue nodes, moved while events flow, none lost."""

import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from evenflow.frontend.v1 import frontend_pb2, frontend_pb2_grpc

from cli.commands.events import list_events
from cli.commands.shards import describe_shards
from services.shared import ids
from tests.kit.fleet import Fleet, run_cli
from tests.kit.waiting import wait_until

# Two whole fleets, one after the other, and a dozen commands.
pytestmark = [pytest.mark.fleet, pytest.mark.long, pytest.mark.timeout(150)]
PAUSE_SECONDS = 0.1
MAX_LISTED = 1_000
FAST = {"retry.base_seconds": "0.1", "queue.visibility_timeout_ms": "3000"}


class Callers:
    """boto3 on the HTTP door and gRPC on its own, each in a thread, until told to stop."""

    def __init__(self, fleet: Fleet) -> None:
        self.accepted: set[str] = set()
        self.errors: list[Exception] = []
        self._fleet = fleet
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(way,)) for way in (self._http, self._grpc)]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(30.0)

    def _call(self, way: Any) -> None:
        try:
            way()
        except Exception as e:
            self.errors.append(e)

    def _http(self) -> None:
        client = self._fleet.lambda_client()
        while not self._is_over.wait(PAUSE_SECONDS):
            answer = client.invoke(FunctionName="hello", InvocationType="Event", Payload=b"{}")
            self.accepted.add(answer["ResponseMetadata"]["RequestId"])

    def _grpc(self) -> None:
        with grpc.insecure_channel(self._fleet.grpc_address) as channel:
            door: Any = frontend_pb2_grpc.FrontendServiceStub(channel)
            events = [frontend_pb2.EventSubmission(function_name="hello", payload=b"{}")] * 3
            while not self._is_over.wait(PAUSE_SECONDS):
                answer = door.PublishBatch(frontend_pb2.PublishBatchRequest(events=events), timeout=10)
                assert not any(result.HasField("error") for result in answer.results)
                self.accepted.update(ids.to_text(result.request_id) for result in answer.results)


def owners(fleet: Fleet) -> dict[int, str]:
    """Owner by shard; each is served by exactly one node."""
    with fleet.connect() as connection:
        rows, silent = describe_shards(connection)
    assert not silent
    assert [row["shard_id"] for row in rows] == list(range(len(rows)))
    assert {row["state"] for row in rows} == {"serving"}
    return {row["shard_id"]: row["owner"] for row in rows}


def check_handled(fleet: Fleet, accepted: set[str]) -> None:
    """Every event succeeded, and every way of looking finds it."""
    fleet.wait_drained()
    with fleet.connect() as connection:
        for text in accepted:
            request = frontend_pb2.GetEventRequest(request_id=ids.from_text(text))
            assert connection.ask(connection.door.GetEvent, request).state == "succeeded"
        listed = {ids.to_text(event.request_id) for event in list_events(connection, "hello", "", MAX_LISTED)}
    assert accepted <= listed or len(listed) == MAX_LISTED


def test_shards_are_spread_moved_and_drained_while_events_flow(tmp_path: Path) -> None:
    """No call fails and no event is lost; a fleet with fewer nodes is refused by name, one with more is welcome."""
    data = tmp_path / "data"
    with Fleet(FAST, data=data, arguments=["--queues", "2", "--shards", "4"]) as fleet:
        assert owners(fleet) == {0: "queue-0", 1: "queue-1", 2: "queue-0", 3: "queue-1"}
        fleet.deploy("hello", "def handler(event, context): return 1")
        with Callers(fleet) as callers:
            wait_until(lambda: len(callers.accepted) > 10, 15, "events before the moves")
            out = fleet.cli("shards", "move", "0", "--to", "queue-1")
            assert "shard 0 is on queue-1" in out.splitlines()[-1]
            fleet.cli("shards", "move", "0", "--to", "queue-0")
            assert "queue-0 has no shards" in fleet.cli("shards", "drain", "queue-0")
            assert set(owners(fleet).values()) == {"queue-1"}
        assert not callers.errors
        check_handled(fleet, callers.accepted)
        for arguments, words in (
            (
                ("move", "9", "--to", "queue-0"),
                "INVALID_PARAMETER: shard 9 is not in this fleet",
            ),
            (("drain", "queue-9"), "queue-9 is no queue node of this fleet, which has queue-0, queue-1"),
        ):
            done = run_cli("shards", *arguments, data=data)
            assert done.returncode == 1 and done.stderr.startswith(f"error: {words}")
        assert "4 served" in fleet.cli("doctor")

    ports = ("--http-port", str(fleet.http_port), "--grpc-port", str(fleet.grpc_port))
    refused = run_cli("up", "--data", str(data), *ports)
    assert refused.returncode == 1
    assert "shards on queue-1 (0, 1, 2, 3)" in refused.stderr and "--queues" in refused.stderr

    with Fleet(FAST, data=data, arguments=["--queues", "3"]) as fleet:
        assert set(owners(fleet).values()) == {"queue-1"}
        fleet.cli("shards", "drain", "queue-1")
        assert sorted(owners(fleet).values()) == ["queue-0", "queue-0", "queue-2", "queue-2"]
        with Callers(fleet) as more:
            wait_until(lambda: len(more.accepted) > 10, 15, "events on the new nodes")
        assert not more.errors
        check_handled(fleet, callers.accepted | more.accepted)
