"""More than the fleet can run: one tenant that floods it, and all of it for minutes."""

import os
import threading
import time
import zipfile
from io import BytesIO
from typing import Any

import grpc
from evenflow.frontend.v1 import frontend_pb2, frontend_pb2_grpc

from loadtest.bench.stats import quantile
from tests.faults.matrix.cell import NOT_JUDGED, Cell
from tests.faults.matrix.history import History
from tests.faults.matrix.probe import EVENTS as PROBES
from tests.faults.matrix.probe import MOST_LEFT
from tests.faults.matrix.rig import Rig
from tests.kit.waiting import wait_until

CALL_SECONDS = 20.0
HANDLER_MS = 50
# What may run at once in the account: with handlers that sleep, the fleet's capacity. Two cores are to be busy for half
# of the time with it and with what comes beyond it: delays then are those of the queue.
SLOTS = 8
CAPACITY_PER_SECOND = SLOTS * 1_000 / HANDLER_MS
_SLOTS = {"fleet.account_concurrency": str(SLOTS)}
_LOAD = {"sleep_ms": HANDLER_MS, "fails": 0.0, "wavers": 0.0}
# Of this machine's cores: a machine with more to do at the start says nothing of delays.
BUSY_LOAD_A_CORE = 2.0

# --- one tenant at twice the capacity
NOISY = "noisy"
NOISY_TIMES = 2.0
BYSTANDER_PART = 0.4
# Parts of the bystander's events: warm-up, baseline, flood, calm, in which the flood's backlog is worked off.
WARM_UNTIL, BASELINE_UNTIL, FLOOD_UNTIL = 0.1, 0.4, 0.6
I5_TIMES = 2.0
BATCH_SECONDS = 0.05

# --- all of it
OVERLOAD, RECOVERY = 1.5, 0.5
OVERLOAD_SECONDS = 180.0
DRAIN_WITHIN = 0.10
# What of the overload is not yet saturated.
RAMP_SECONDS = 10.0


def _deploy_noise(rig: Rig) -> str:
    key_id, secret = rig.fleet.new_key(NOISY)
    code = BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        source = f"import time\ndef handler(event, context):\n    time.sleep({HANDLER_MS / 1e3})\n"
        archive.writestr("app.py", source)
    rig.fleet.lambda_client(key=(key_id, secret)).create_function(
        FunctionName="noise",
        Runtime="python3.12",
        Role="arn:aws:iam::123456789012:role/noise",
        Handler="app.handler",
        Code={"ZipFile": code.getvalue()},
    )
    return key_id


def _flood(rig: Rig) -> None:
    assert rig.client is not None
    progress, events = rig.client.progress, rig.client.load.events
    key_id = _deploy_noise(rig)
    is_over = threading.Event()
    sent: list[int] = []
    errors: list[Exception] = []

    def send() -> None:
        try:
            sent.append(_send_noise(rig, key_id, is_over))
        except Exception as e:
            errors.append(e)

    wait_until(lambda: progress.sent >= BASELINE_UNTIL * events, 600.0, "the baseline")
    began_at, began = progress.sent, time.monotonic()
    thread = threading.Thread(target=send, name="noise")
    thread.start()
    try:
        wait_until(lambda: errors or progress.sent >= FLOOD_UNTIL * events, 600.0, "the flood")
    finally:
        is_over.set()
        thread.join(2 * CALL_SECONDS)
    rig.flood = (int(WARM_UNTIL * events), began_at, progress.sent)
    rig.broken += [f"the noisy tenant: {one}" for one in errors]
    seconds = time.monotonic() - began
    rig.notes.append(
        f"the noisy tenant sent {sum(sent)} events in {seconds:.0f} s, {sum(sent) / seconds:.0f} a second; "
        f"the capacity is {CAPACITY_PER_SECOND:.0f}"
    )


def _send_noise(rig: Rig, key_id: str, is_over: threading.Event) -> int:
    sent, began = 0, time.monotonic()
    with grpc.insecure_channel(rig.fleet.grpc_address) as channel:
        door: Any = frontend_pb2_grpc.FrontendServiceStub(channel)
        event = frontend_pb2.EventSubmission(function_name="noise", payload=b"{}")
        while not is_over.wait(BATCH_SECONDS):
            due = int((time.monotonic() - began) * NOISY_TIMES * CAPACITY_PER_SECOND) - sent
            request = frontend_pb2.PublishBatchRequest(events=[event] * min(due, 500))
            metadata = (("authorization", f"Bearer {key_id}"),)
            answer = door.PublishBatch(request, timeout=CALL_SECONDS, metadata=metadata)
            refused = [one.error.message for one in answer.results if one.HasField("error")]
            if refused:
                raise ValueError(f"{len(refused)} events were refused: {refused[0]}")
            sent += len(request.events)
    return sent


def _judge_bystander(rig: Rig, history: History) -> None:
    """I5."""
    if rig.flood is None:
        return
    warm, began, ended = rig.flood
    started: dict[int, int] = {}
    for run in history.ran:
        started[run.number] = min(run.started_ns, started.get(run.number, run.started_ns))
    # Those with a token wait in the client until a batch is full.
    dwell = {
        one.number: (started[one.number] - one.due_ns) / 1e6
        for one in history.sent
        if one.number in started and not one.has_token
    }
    baseline = quantile([ms for number, ms in dwell.items() if warm <= number < began], 0.99)
    flooded = quantile([ms for number, ms in dwell.items() if began <= number < ended], 0.99)
    words = (
        f"the bystander's p99 dwell: {baseline:.1f} ms, {flooded:.1f} ms in the flood: {flooded / baseline:.2f} times"
    )
    _tell(rig, words, is_good=flooded <= I5_TIMES * baseline)


# --- all of it


def _overload(rig: Rig) -> None:
    client = rig.client
    assert client is not None
    progress = client.progress
    over_events = int(OVERLOAD * CAPACITY_PER_SECOND * OVERLOAD_SECONDS)
    wait_until(lambda: progress.sent >= over_events, 3 * OVERLOAD_SECONDS, "the overload")
    client.pace(RECOVERY * CAPACITY_PER_SECOND)
    began, sent_before = time.monotonic(), progress.sent
    rig.overload_ended_ns = time.time_ns()
    rig.backlog = rig.depth() - PROBES
    is_worked_off = MOST_LEFT + 2 * SLOTS
    rig.wait_depth(lambda depth: 0 <= depth <= is_worked_off, 6 * OVERLOAD_SECONDS, "the backlog to be worked off")
    rig.drain_seconds = time.monotonic() - began
    rig.drain_pace = (progress.sent - sent_before) / rig.drain_seconds


def _judge_drain(rig: Rig, history: History) -> None:
    """Little's law: what stood there over what the fleet runs beyond what still comes."""
    first_ns = min(one.due_ns for one in history.sent) + int(RAMP_SECONDS * 1e9)
    end_ns = rig.overload_ended_ns
    runs = sum(first_ns <= run.ended_ns < end_ns for run in history.ran)
    served = runs / ((end_ns - first_ns) / 1e9)
    expected = rig.backlog / (served - rig.drain_pace)
    off = rig.drain_seconds / expected - 1
    words = (
        f"{rig.backlog} events stood there after {OVERLOAD_SECONDS:.0f} s; at {served:.0f} runs and "
        f"{rig.drain_pace:.0f} events a second {expected:.1f} s were expected, "
        f"{rig.drain_seconds:.1f} s it took: {off:+.1%}"
    )
    _tell(rig, words, is_good=abs(off) <= DRAIN_WITHIN)


def _tell(rig: Rig, words: str, *, is_good: bool) -> None:
    rig.notes.append(words)
    if is_good:
        return
    busy = rig.load_average / len(os.sched_getaffinity(0))
    if busy > BUSY_LOAD_A_CORE:
        rig.notes.append(f"{NOT_JUDGED}: the machine had {busy:.1f} times its cores to do before")
    else:
        rig.broken.append(words)


CELLS = (
    Cell(
        "noisy-tenant",
        "a bystander's p99 dwell is at most twice its baseline",
        _flood,
        judge=_judge_bystander,
        judges_delays=True,
        settings=_SLOTS,
        load={**_LOAD, "per_second": BYSTANDER_PART * CAPACITY_PER_SECOND},
        drain_seconds=400.0,
        may_repeat=False,
    ),
    Cell(
        "long-overload",
        "three minutes of 1.5 times the capacity: the drain takes B / (mu - lambda) within a tenth",
        _overload,
        judge=_judge_drain,
        judges_delays=True,
        settings=_SLOTS,
        arguments=("--queues", "2", "--pollers", "2", "--runtimes", "2", "--shards", "128"),
        load={
            **_LOAD,
            "per_second": OVERLOAD * CAPACITY_PER_SECOND,
            "events": int(OVERLOAD * CAPACITY_PER_SECOND * OVERLOAD_SECONDS),
        },
        drain_seconds=400.0,
        may_repeat=False,
        is_long=True,
    ),
)
