"""The functions of a cell: two that do what their events say, and the destination of one of them."""

import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.matrix.history import Ran
from tests.kit.fleet import Fleet

# Its dead letters stay in the shard; and the other one's failures go to a destination.
PLAIN, TOLD, DESTINATION = "plain", "told", "destination"
ALL = (PLAIN, TOLD, DESTINATION)
# Its events only wait: nobody runs them.
STANDING = "standing"
BUCKET = "fault-records"
# What an event asks for: how its runs end.
SUCCEED, FAIL, WAVER, SEGFAULT = "succeed", "fail", "waver", "segfault"
_SUFFIX = ".runs"
# Number, request id, hash of the body, begin and end in nanoseconds, whether it succeeded; or told: 2.
_RECORD = struct.Struct("<Q16s32sQQB")
_TOLD = 2
_SOURCE = """
import hashlib, json, os, signal, struct, time, uuid

RECORD = struct.Struct("<Q16s32sQQB")
FILE = []

def note(number, request_id, digest, started_ns, how):
    if not FILE:
        path = os.path.join(os.environ["EVENFLOW_BUCKET_FAULT_RECORDS"], os.urandom(8).hex() + ".runs")
        FILE.append(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644))
    os.write(FILE[0], RECORD.pack(number, uuid.UUID(request_id).bytes, digest, started_ns, time.time_ns(), how))

def handler(event, context):
    started_ns = time.time_ns()
    if "requestContext" in event:
        note(event["requestPayload"]["number"], event["requestContext"]["requestId"], bytes(32), started_ns, 2)
        return
    digest = hashlib.sha256(json.dumps(event, sort_keys=True, separators=(",", ":")).encode()).digest()
    if event["sleep_ms"]:
        time.sleep(event["sleep_ms"] / 1000)
    asks = event["asks"]
    fails = asks == "fail" or asks == "waver" and os.urandom(1)[0] & 1
    note(event["number"], context.aws_request_id, digest, started_ns, 0 if fails or asks == "segfault" else 1)
    if asks == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if fails:
        raise RuntimeError("event %d was told to fail" % event["number"])
    return event["number"]
"""


def body(number: int, asks: str, sleep_ms: int, pad: str) -> bytes:
    """An event's payload, as canonical as the handler's hash of it."""
    told = {"asks": asks, "number": number, "pad": pad, "sleep_ms": sleep_ms}
    return json.dumps(told, sort_keys=True, separators=(",", ":")).encode()


def body_hash(payload: bytes) -> bytes:
    """What the handler notes of it."""
    return hashlib.sha256(payload).digest()


def deploy(fleet: Fleet, **more: Any) -> None:
    """Put them on the fleet; `more`: keys of evenflow.toml for the two that are sent to."""
    shared = {"buckets": [{"name": BUCKET, "access": "write"}], "timeout_seconds": 10}
    fleet.deploy_all(
        _SOURCE,
        {
            DESTINATION: shared,
            PLAIN: {**shared, **more},
            TOLD: {**shared, **more, "async": {"on_failure": {"function": DESTINATION}}},
        },
    )


def runs(data: Path) -> tuple[list[Ran], dict[bytes, int]]:
    """What the handlers noted: the runs, and how often the destination was told of each request id."""
    found: list[Ran] = []
    told: dict[bytes, int] = {}
    for number, request_id, digest, started_ns, ended_ns, how in _records(data / "buckets" / BUCKET):
        if how == _TOLD:
            told[request_id] = told.get(request_id, 0) + 1
        else:
            found.append(Ran(number, request_id, digest, started_ns, ended_ns, how == 1))
    return found, told


def _records(folder: Path) -> Iterator[tuple[int, bytes, bytes, int, int, int]]:
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        data = path.read_bytes()
        # A sandbox that was killed in mid append leaves nothing: the kernel appends whole.
        yield from _RECORD.iter_unpack(data[: len(data) - len(data) % _RECORD.size])
