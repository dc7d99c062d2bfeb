"""Attack 15: answer for another invocation, twice, late; break the channel's protocol."""

import importlib
import os
import socket
import struct
import threading
import time
from typing import Any

from .lib import Event

CHANNEL = 3
_state: "dict[str, Any]" = {}


def frames_of_host() -> Any:
    """The module that the sandbox speaks with: whatever it has in memory, an attacker has."""
    return importlib.import_module("evenflow_sandbox.frames")


def send(data: bytes) -> None:
    with socket.socket(fileno=os.dup(CHANNEL)) as channel:
        channel.sendall(data)


def _result(request_id: bytes, text: str) -> bytes:
    payload = f'{{"forged": "{text}"}}'.encode()
    result: bytes = frames_of_host().pack_result(request_id, time.time_ns(), 1, 1, payload)
    return result


def handler(event: Event, context: Any) -> Any:
    """`do` says what is sent; the honest answer follows where there is one."""
    own = bytes.fromhex(context.aws_request_id.replace("-", ""))
    do = event["do"]
    frames = frames_of_host()
    if do == "own first":
        send(_result(own, "first"))
        _stay()
    elif do == "twice":
        send(_result(own, "first") + _result(own, "second"))
        _stay()
    elif do == "other id":
        send(_result(bytes.fromhex(event["other"]), "for another"))
        _stay()
    elif do == "guessed ids":
        for number in range(256):
            send(_result(os.urandom(15) + bytes([number]), "guessed"))
        _stay()
    elif do == "begin late":
        # Answers for this invocation again as soon as the next one runs.
        _state["own"] = own
        threading.Thread(target=_late, daemon=True).start()
    elif do == "be next":
        _state["next runs"] = True
        time.sleep(event["seconds"])
    elif do in ("ready", "init error", "unknown kind", "oversize", "garbage", "endless"):
        send(
            {
                "ready": frames.pack_ready(1, 1),
                "init error": frames.pack_failure(frames.INIT_ERROR, "E", "m", b"{}"),
                "unknown kind": struct.pack("!IB", 1, 200),
                "oversize": struct.pack("!IB", 0xFFFFFFF0, frames.RESULT),
                "garbage": os.urandom(4_096),
                "endless": struct.pack("!IB", frames.MAX_FRAME_BYTES, frames.RESULT),
            }[do]
        )
        _stay()
    return {"nonce": event.get("nonce")}


def _stay() -> None:
    # The host must act on what it got; this process does not end by itself.
    time.sleep(30)


def _late() -> None:
    while "next runs" not in _state:
        time.sleep(0.001)
    send(_result(_state["own"], "late"))
