"""Two thousand boto3 events: all handled, all settled, also when the queue is killed on the way."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.kit.fleet import Fleet
from tests.kit.waiting import wait_until

pytestmark = [pytest.mark.fleet, pytest.mark.long]
EVENTS = 2_000
THREADS = 16
SOURCE = """
    import os

    def handler(event, context):
        # One short append: whole, whoever else writes.
        fd = os.open(os.environ["EVENFLOW_BUCKET_HANDLED"] + "/ids", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.write(fd, f"{context.aws_request_id} {event['n']}\\n".encode())
        os.close(fd)
"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """A fleet with a function that writes down the id of every run."""
    with Fleet({"retry.base_seconds": "0.1", "retry.throttle_base_seconds": "0.1"}) as running:
        running.deploy("note", SOURCE, buckets=[{"name": "handled", "access": "write"}])
        yield running


class Submitter:
    """Sends events from many threads with boto3 and remembers which were accepted."""

    def __init__(self, fleet: Fleet, first: int) -> None:
        # A queue that is away for a moment is answered 503 after the door's own patience: callers repeat, as AWS's do.
        self._client = fleet.lambda_client(THREADS, retries={"max_attempts": 8, "mode": "standard"}, read_timeout=30)
        self._first = first
        self._lock = threading.Lock()
        self.accepted: dict[str, int] = {}

    def send_all(self) -> None:
        """AssertionError: an event was not accepted."""
        with ThreadPoolExecutor(THREADS) as threads:
            for future in [threads.submit(self._send, n) for n in range(self._first, self._first + EVENTS)]:
                future.result()

    def _send(self, n: int) -> None:
        answer: Any = self._client.invoke(FunctionName="note", InvocationType="Event", Payload=json.dumps({"n": n}))
        assert answer["StatusCode"] == 202
        with self._lock:
            self.accepted[answer["ResponseMetadata"]["RequestId"]] = n


def handled(data: Path) -> dict[str, list[int]]:
    """What ran: request id -> the payloads it was given."""
    runs: dict[str, list[int]] = {}
    for line in (data / "buckets" / "handled" / "ids").read_text().splitlines():
        request_id, n = line.split()
        runs.setdefault(request_id, []).append(int(n))
    return runs


def check_all_ran(fleet: Fleet, accepted: dict[str, int]) -> int:
    """Every accepted event ran with its own payload, and is settled; how often one ran again."""
    fleet.wait_drained()
    runs = handled(fleet.data)
    assert not accepted.keys() - runs.keys(), "accepted, and lost"
    assert all(set(runs[request_id]) == {n} for request_id, n in accepted.items())
    rows = fleet.cli_json("shards")
    assert sum(row["depth"] + row["leased"] + row["dead_letters"] for row in rows) == 0
    return sum(len(runs[request_id]) - 1 for request_id in accepted)


def test_two_thousand_events_are_all_handled_once_and_settled(fleet: Fleet) -> None:
    """16 threads: every answer a 202 with an id of its own, every id handled exactly once, depth 0."""
    submitter = Submitter(fleet, 0)
    submitter.send_all()
    assert len(submitter.accepted) == EVENTS
    assert check_all_ran(fleet, submitter.accepted) == 0


def test_nothing_accepted_is_lost_when_the_queue_is_killed_on_the_way(fleet: Fleet) -> None:
    """kill -9 of the queue with events in flight: the supervisor starts it again, every accepted event runs."""
    submitter = Submitter(fleet, EVENTS)
    sending = threading.Thread(target=submitter.send_all)
    sending.start()
    wait_until(lambda: len(submitter.accepted) > EVENTS // 4, 20.0, "a quarter of the events")
    old = fleet.pid_of("queue-0")
    os.kill(old, signal.SIGKILL)
    fleet.wait_restarted("queue-0", old)
    sending.join(40.0)
    assert not sending.is_alive()
    assert len(submitter.accepted) == EVENTS
    check_all_ran(fleet, submitter.accepted)
    runs = handled(fleet.data)
    # Enqueued, but the answer was lost with the queue: such a one may run without its caller knowing; nothing else may.
    unknown = [n for ns in runs.values() for n in ns if not 0 <= n < 2 * EVENTS]
    assert not unknown
