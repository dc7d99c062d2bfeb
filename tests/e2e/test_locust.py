"""The Locust users on a whole strict fleet, by Locust's own processes: both doors, closed and open loop, void runs."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from cli.supervisor.ports import free_port
from loadtest.arrivals import shapes
from loadtest.workloads import handler
from tests.kit.fleet import Fleet
from tests.kit.waiting import wait_until

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(120)]
ROOT = Path(__file__).parents[2]
COMMAND = [str(Path(sys.executable).parent / "locust"), "-f", "loadtest/locustfile.py"]
SOURCE = Path(handler.__file__).read_text()
REQUESTS = [
    ("HTTP", "Event"),
    ("HTTP", "RequestResponse"),
    ("GRPC", "InvokeAsync"),
    ("GRPC", "Invoke"),
    ("GRPC", "PublishBatch"),
]
DWELLS = [("DWELL", "accept to start"), ("DWELL", "accept to settled")]
RUN_SECONDS = 45.0
PAUSE_SECONDS = 1.0


@dataclass
class Door:
    """A fleet with the function `load` for two tenants."""

    fleet: Fleet
    keys: list[str]

    @property
    def options(self) -> list[str]:
        return ["--host", self.fleet.http_url, "--grpc", self.fleet.grpc_address]

    def runs(self) -> list[tuple[int, int, int]]:
        """Number of the event, begin and end (nanoseconds) of every run of the default tenant's handler so far."""
        found = []
        for path in (self.fleet.data / "buckets" / handler.BUCKET).glob(f"*{handler.SUFFIX}"):
            data = path.read_bytes()
            whole = len(data) - len(data) % handler.RECORD.size
            found += [run[1:] for run in handler.RECORD.iter_unpack(data[:whole])]
        return found

    def runs_of(self, part: int, batch_events: int) -> int:
        """How many of them were of this driver's closed loop: each numbers its requests from a place of its own."""
        return sum(number // batch_events >> 32 == part for number, _, _ in self.runs())

    def at_once(self, least_ns: float) -> int:
        """How many of those that took at least so long ran at the same moment."""
        long = [(begin, end) for _, begin, end in self.runs() if end - begin > least_ns]
        edges = sorted([(begin, 1) for begin, _ in long] + [(end, -1) for _, end in long])
        return max(accumulate(change for _, change in edges), default=0)


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    """Strict, so that every request of every test is signed or carries its key."""
    with Fleet({"auth.mode": "strict"}) as fleet:
        keys = [fleet.new_key(), fleet.new_key("acme")]
        buckets = [{"name": handler.BUCKET, "access": "write"}]
        fleet.deploy("load", SOURCE, timeout_seconds=30, buckets=buckets)
        package = io.BytesIO()
        with zipfile.ZipFile(package, "w") as archive:
            archive.writestr("app.py", SOURCE)
        client = fleet.lambda_client(key=keys[1])
        wait_until(lambda: _is_known(client), 10, "the key to reach the door")
        role = "arn:aws:iam::123456789012:role/any"
        code = {"ZipFile": package.getvalue()}
        client.create_function(
            FunctionName="load", Runtime="python3.11", Handler="app.handler", Role=role, Code=code, Timeout=30
        )
        for key in keys:
            client = fleet.lambda_client(key=key)
            wait_until(partial(_is_ready, client), 10, "the function to reach the door")
        yield Door(fleet, [f"{key_id}:{secret}" for key_id, secret in keys])


def _is_known(client: Any) -> bool:
    try:
        client.list_functions()
    except client.exceptions.ClientError:
        return False
    return True


def _is_ready(client: Any) -> bool:
    try:
        return bool(client.invoke(FunctionName="load", Payload="{}")["StatusCode"] == 200)
    except client.exceptions.ClientError:
        return False


@contextmanager
def started(*arguments: str, folder: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """One of Locust's processes, its output in a file; killed if it is still there at the end."""
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [*COMMAND, *arguments], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(5)


@contextmanager
def distributed(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[subprocess.Popen[str]]]]:
    """A headless master and two workers."""
    port = str(free_port())
    master = ["--headless", "--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port]
    master += ["--expect-workers", "2", "--json-file", str(folder / "stats"), *arguments]
    worker = ["--worker", "--master-host", "127.0.0.1", "--master-port", port]
    with (
        started(*worker, folder=folder, name="worker-0") as first,
        started(*worker, folder=folder, name="worker-1") as second,
        started(*master, folder=folder, name="master") as leader,
    ):
        yield leader, [first, second]


def rows(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Locust's rows by type and name."""
    return {(row["method"], row["name"]): row for row in json.loads((folder / "stats.json").read_text())}


def said(folder: Path) -> str:
    return (folder / "master.log").read_text()


def counts(text: str, what: str) -> list[int]:
    """What each driver counted, by its place: "sent", "late" ..."""
    lines = [line for line in text.splitlines() if re.search(r"driver \d+: ", line)]
    return [int(re.search(rf"([\d,]+) {what}", line)[1].replace(",", "")) for line in lines]  # type: ignore[index]


def test_two_workers_use_both_doors_in_every_way_for_two_tenants(door: Door, tmp_path: Path) -> None:
    """Until Ctrl-C: requests of each kind and dwells, none failed, nothing left under way, exit code 0."""
    options = ["-u", "10", "-r", "10", "--batch-events", "3", "--dwell-rate", "20", "--pad-bytes", "50"]
    options += ["--keys", ",".join(door.keys), *door.options]
    with distributed(tmp_path, *options) as (master, _):
        wait_until(
            lambda: min(door.runs_of(part, 3) for part in range(2)) >= 20 or master.poll() is not None,
            RUN_SECONDS,
            "runs of both drivers' events",
        )
        master.send_signal(signal.SIGINT)
        assert master.wait(RUN_SECONDS) == 0, said(tmp_path)
    found = rows(tmp_path)
    for row in REQUESTS + DWELLS:
        assert found[row]["num_requests"] > 0, row
        assert found[row]["num_failures"] == 0, row
    sent = counts(said(tmp_path), "sent")
    assert len(sent) == 2 and all(sent)
    assert sum(sent) == sum(found[row]["num_requests"] for row in REQUESTS)
    followed = re.search(r"dwell: ([\d,]+) of ([\d,]+) followed events settled", said(tmp_path))
    assert followed is not None and followed[1] == followed[2]
    assert found[DWELLS[0]]["num_requests"] == found[DWELLS[1]]["num_requests"] == int(followed[1].replace(",", ""))


@pytest.mark.long
def test_a_worker_that_stands_still_makes_an_open_loop_void(door: Door, tmp_path: Path) -> None:
    """Its sends leave late and are counted, their response times show the pause, nothing is left out, exit code 3."""
    options = ["-u", "2", "-r", "2", "-t", "2s", "--open-rate", "100", "--seed", "7", "--batch-events", "1"]
    options += ["--keys", door.keys[0], *door.options]
    with distributed(tmp_path, *options) as (master, workers):
        log = tmp_path / "worker-1.log"
        wait_until(lambda: "sends within" in log.read_text(), RUN_SECONDS, "the start of its part")
        os.kill(workers[1].pid, signal.SIGSTOP)
        stopped = time.monotonic()
        wait_until(lambda: time.monotonic() - stopped > PAUSE_SECONDS, what="the pause to be over")
        os.kill(workers[1].pid, signal.SIGCONT)
        assert master.wait(RUN_SECONDS) == 3, said(tmp_path)
    found, text = rows(tmp_path), said(tmp_path)
    planned = len(shapes.times(shapes.Shape("poisson", 100.0), 2.0, "7"))
    assert sum(counts(text, "planned")) == sum(counts(text, "sent")) == planned
    assert sum(found[row]["num_requests"] for row in REQUESTS) == planned
    assert re.search(r"VOID: [\d.]+ % of the sends were late", text)
    assert found["OPEN", "late"]["num_requests"] == sum(counts(text, "late")) > 0
    # Its first send was due a moment after the start, and left after the pause.
    for longest in (
        max(found[row]["max_response_time"] for row in REQUESTS),
        found["OPEN", "late"]["max_response_time"],
    ):
        assert longest > 800 * PAUSE_SECONDS
    assert found["OPEN", "void"]["num_failures"] == 1


@pytest.mark.long
def test_greenlets_that_wait_for_grpc_do_not_hold_each_other_up(door: Door, tmp_path: Path) -> None:
    """Twenty users in one process run many handlers at once; one after the other they never would."""
    options = ["--headless", "-u", "20", "-r", "20", "-t", "15s", "--sleep-ms", "200", "--keys", door.keys[0]]
    with started(*options, *door.options, "GrpcInvoke", folder=tmp_path, name="master") as process:
        wait_until(lambda: door.at_once(190e6) >= 15 or process.poll() is not None, RUN_SECONDS, "many at once")
        process.send_signal(signal.SIGINT)
        assert process.wait(RUN_SECONDS) == 0, said(tmp_path)
    assert door.at_once(190e6) >= 15


def test_an_option_out_of_bounds_ends_it_with_a_sentence(tmp_path: Path) -> None:
    """Before anything is sent, exit code 2."""
    with started(
        "--headless", "-t", "1s", "--arrivals", "herd", "--fail-rate", "2", folder=tmp_path, name="master"
    ) as one:
        assert one.wait(RUN_SECONDS) == 2
    assert "error: --fail-rate must be within 0 to 1, not 2" in said(tmp_path)
