"""The lines that AWS Lambda writes around a run, and the texts of its errors. Pure.

A handler can print anything, also what looks like these lines: its output is told apart by a mark.
"""

import json
import os
import re
import signal

# AWS's name of it, and its words.
RESTORE_TIMED_OUT = "SnapStartTimeoutException", "Lambda couldn't restore the snapshot within the timeout limit."
# Put before what of a handler's output begins like a line of the host.
MARK = b"[function] "
# Longest beginning that is looked for.
LONGEST_BEGINNING_BYTES = 18
_OWN = re.compile(
    rb"(?:\A|(?<=[\n\r]))(?:(?:START |END |REPORT |)RequestId:|INIT_START |RESTORE_(?:START|REPORT) |\[evenflow\])"
)
_HINTS = (b"RequestId:", b"INIT_START ", b"RESTORE_", b"[evenflow]")


def init_start(runtime: str, runtime_arn: str) -> bytes:
    """Before a handler is loaded."""
    return f"INIT_START Runtime Version: {runtime}\tRuntime Version ARN: {runtime_arn}\n".encode()


def restore_start(runtime: str, runtime_arn: str) -> bytes:
    """Before a sandbox is forked from a template that loaded the handler."""
    return f"RESTORE_START Runtime Version: {runtime}\tRuntime Version ARN: {runtime_arn}\n".encode()


def restore_report(restore_us: int) -> bytes:
    """After the after-restore hooks."""
    return f"RESTORE_REPORT Restore Duration: {restore_us / 1_000:.2f} ms\n".encode()


def start(request_id: str, version: str) -> bytes:
    """Before a run."""
    return b"START RequestId: %s Version: %s\n" % (request_id.encode(), version.encode())


def end_and_report(
    request_id: str,
    duration_us: int,
    billed_ms: int,
    memory_mb: int,
    max_memory_mb: int,
    init_us: int,
    note: str = "",
    trace: str = "",
    *,
    is_restored: bool = False,
) -> bytes:
    """After a run; `note` is such as "Status: timeout". is_restored: init_us is what restoring a snapshot took."""
    text = (
        f"END RequestId: {request_id}\n"
        f"REPORT RequestId: {request_id}\tDuration: {duration_us / 1_000:.2f} ms\tBilled Duration: {billed_ms} ms\t"
        f"Memory Size: {memory_mb} MB\tMax Memory Used: {max_memory_mb} MB\t"
    )
    if init_us and is_restored:
        text += f"Restore Duration: {init_us / 1_000:.2f} ms\tBilled Restore Duration: {billed_ms_of(init_us)} ms\t"
    elif init_us:
        text += f"Init Duration: {init_us / 1_000:.2f} ms\t"
    if note:
        text += note + "\t"
    return (text + (f"\n{trace}\n" if trace else "\n")).encode()


def told_apart(begun: bytes, output: bytes) -> bytes:
    """A handler's output, marked wherever a line of it begins like one of the host's.

    begun: the first LONGEST_BEGINNING_BYTES of the line that the output goes on with; empty at the start of one.
    """
    text = begun + output
    if not any(hint in text for hint in _HINTS):
        return output
    parts: list[bytes] = []
    done = len(begun)
    for found in _OWN.finditer(text):
        if found.end() > len(begun):
            # One that began before cannot be marked there any more: the mark breaks it here.
            at = max(found.start(), len(begun))
            parts += (text[done:at], MARK)
            done = at
    return b"".join((*parts, text[done:]))


def line_begun(begun: bytes, output: bytes) -> bytes:
    """What `told_apart` is to know of the line that is written now, after this output."""
    at = max(output.rfind(b"\n"), output.rfind(b"\r"))
    return (begun + output if at < 0 else output[at + 1 :])[:LONGEST_BEGINNING_BYTES]


def tail_of(start_line: bytes, output: bytes, last_lines: bytes, max_bytes: int) -> bytes:
    """The end of one run's log, cut so that nothing of the output looks like the host's words."""
    text = start_line + told_apart(b"", output)
    if not text.endswith(b"\n"):
        text += b"\n"
    text += last_lines
    if len(text) <= max_bytes:
        return text
    text = text[-max_bytes:]
    # Without its mark, or its beginning, a line may look like another.
    return text.partition(b"\n")[2] if _OWN.match(text) else text


def billed_ms_of(duration_us: int) -> int:
    """Whole milliseconds, rounded up, at least 1."""
    return max(1, -(-duration_us // 1_000))


def billed_restore_ms_of(init_us: int, is_restored: bool) -> int:
    """What is billed besides a run for restoring its sandbox; 0: nothing was."""
    return billed_ms_of(init_us) if init_us and is_restored else 0


def timed_out_text(seconds: float) -> str:
    """AWS's words for a time-out."""
    return f"Task timed out after {seconds:.2f} seconds"


def exit_text(status: int | None, cause: str = "") -> str:
    """AWS's words for a process that ended by itself; `status` as wait(2) gives it, None when it is not known.

    `cause` adds which bound it passed; AWS says nothing of that, or has no such bound.
    """
    return _exit_text(status) + {
        "disk": " (its /tmp was over its size)",
        "processes": " (it had too many processes)",
    }.get(cause, "")


def _exit_text(status: int | None) -> str:
    if status is None or status < 0:
        return "Runtime exited without providing a reason"
    if os.WIFSIGNALED(status):
        return f"Runtime exited with error: signal: {_signal_text(os.WTERMSIG(status))}"
    code = os.waitstatus_to_exitcode(status)
    return f"Runtime exited with error: exit status {code}" if code else "Runtime exited without providing a reason"


def error_payload(error_type: str, message: str) -> bytes:
    """AWS's error object of a failure that is not the handler's own exception."""
    return json.dumps({"errorType": error_type, "errorMessage": message}).encode()


def _signal_text(number: int) -> str:
    # Go's names, which is what AWS prints.
    known: dict[int, str] = {
        signal.SIGKILL: "killed",
        signal.SIGSEGV: "segmentation fault",
        signal.SIGABRT: "aborted",
        signal.SIGTERM: "terminated",
        signal.SIGBUS: "bus error",
        signal.SIGFPE: "floating point exception",
        signal.SIGILL: "illegal instruction",
        signal.SIGXFSZ: "file size limit exceeded",
    }
    return known.get(number, f"signal {number}")
