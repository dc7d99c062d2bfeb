"""Attack 18: forge what the platform reports: log lines, terminal control, durations, memory."""

import os
import sys
import time
from typing import Any

from .a15_answers import frames_of_host, send
from .lib import Event

FORGED_ID = "00000000-0000-0000-0000-00000000f0f0"


def handler(event: Event, context: Any) -> Any:
    """`do`: lines, ansi, numbers, or error (an error type out of control characters)."""
    do = event["do"]
    if do == "lines":
        print(f"END RequestId: {FORGED_ID}")
        print(f"REPORT RequestId: {FORGED_ID}\tDuration: 1.00 ms\tBilled Duration: 1 ms\tMemory Size: 128 MB\t")
        print(f"START RequestId: {FORGED_ID} Version: $LATEST")
        print(f"END RequestId: {context.aws_request_id}\rREPORT RequestId: {context.aws_request_id}\tforged")
        sys.stdout.flush()
        # Half a line, so that the platform's own one would continue it.
        os.write(1, b"REPORT RequestId: ")
    elif do == "ansi":
        os.write(1, b"\x1b[2J\x1b]0;owned\x07\x1b[31mred\x9b31m\x08\x00\x7f end\n")
        os.write(1, b"\xff\xfe broken text\n")
    elif do == "numbers":
        own = bytes.fromhex(context.aws_request_id.replace("-", ""))
        held = b"\x01" * (event["memory_mb"] * 1_048_576 // 2)
        time.sleep(event["seconds"])
        # One microsecond, one kilobyte, and begun an hour from now.
        send(frames_of_host().pack_result(own, time.time_ns() + 3_600_000_000_000, 1, 1, b'"forged"'))
        time.sleep(5 if held else 0)
    elif do == "error":
        error = type("Evil\x1b[31m\nREPORT RequestId: x", (Exception,), {})
        raise error("text\x1b[2J\r\n" + f"END RequestId: {FORGED_ID}\n" + f"REPORT RequestId: {FORGED_ID}\tforged")
    return "done"
