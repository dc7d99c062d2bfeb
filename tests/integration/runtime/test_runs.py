"""How runs end: every outcome that a handler can produce, with real forks."""

import json
import secrets
from pathlib import Path

import pytest
from evenflow.common.v1 import event_pb2

from tests.integration.runtime.kit import HostKit
from tests.kit.waiting import eventually

S = event_pb2.OutcomeStatus
ECHO = "def handler(event, context):\n    return {'got': event, 'id': context.aws_request_id}\n"


def is_running(argument: str) -> bool:
    """Whether some process was started with this argument."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if argument.encode() in path.read_bytes():
                return True
        except OSError:
            continue
    return False


async def test_returns_the_result_and_reuses_the_sandbox_while_warm(run_dir: Path) -> None:
    """The second run sees the first one's global state, and had no init."""
    async with HostKit(run_dir) as kit:
        kit.deploy("count", "n = 0\ndef handler(event, context):\n    global n\n    n += 1\n    return n\n")
        first = await kit.invoke("count")
        second = await kit.invoke("count")
        assert (first.response_payload, second.response_payload) == (b"1", b"2")
        assert first.init_duration_us > 0 and second.init_duration_us == 0
        assert first.sandbox_id == second.sandbox_id == "runtime-0/1"
        assert first.executed_version == "$LATEST" and first.max_memory_mb > 5
        assert first.billed_duration_ms >= 1 and first.started_at_unix_nano > 0
        assert kit.fetches == 1


async def test_the_context_is_lambdas(run_dir: Path) -> None:
    """Names, ARN, deadline, client context and the trace header as AWS gives them."""
    source = """
import os
def handler(event, context):
    return {
        "id": context.aws_request_id, "name": context.function_name, "version": context.function_version,
        "arn": context.invoked_function_arn, "memory": context.memory_limit_in_mb,
        "left": context.get_remaining_time_in_millis(), "group": context.log_group_name,
        "custom": context.client_context.custom, "app": context.client_context.client.app_title,
        "identity": context.identity.cognito_identity_id, "trace": os.environ["_X_AMZN_TRACE_ID"],
        "region": os.environ["AWS_REGION"], "handler": os.environ["_HANDLER"], "cwd": os.getcwd(),
        "root": os.environ["LAMBDA_TASK_ROOT"], "own": os.environ["COLOUR"],
    }
"""
    async with HostKit(run_dir) as kit:
        kit.deploy("ctx", source, environment={"COLOUR": "blue"}, memory_mb=256)
        trace = event_pb2.TraceContext(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        got = await kit.call(
            "ctx",
            trace=trace,
            client_context='{"custom": {"a": 1}, "client": {"app_title": "t"}}',
            request_id=b"\x01" * 16,
        )
        assert got["id"] == "01010101-0101-0101-0101-010101010101"
        assert (got["name"], got["version"], got["memory"]) == ("ctx", "$LATEST", "256")
        assert got["arn"] == "arn:aws:lambda:eu-central-1:123456789012:function:ctx:$LATEST"
        assert 5_000 < got["left"] <= 10_000
        assert got["group"] == "/aws/lambda/ctx" and got["region"] == "eu-central-1" and got["handler"] == "app.handler"
        assert got["custom"] == {"a": 1} and got["app"] == "t" and got["identity"] is None
        assert got["trace"].startswith("Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1")
        assert got["cwd"] == got["root"] and got["own"] == "blue"


async def test_an_exception_becomes_awss_error_object(run_dir: Path) -> None:
    """Type, message, request id and only the handler's own frames; the sandbox lives on."""
    async with HostKit(run_dir) as kit:
        kit.deploy("bad", "def deep():\n    raise ValueError('no')\ndef handler(event, context):\n    deep()\n")
        outcome = await kit.invoke("bad", request_id=b"\x02" * 16)
        assert outcome.status == S.OUTCOME_STATUS_FUNCTION_ERROR
        error = json.loads(outcome.response_payload)
        assert (error["errorType"], error["errorMessage"]) == ("ValueError", "no")
        assert error["requestId"] == "02020202-0202-0202-0202-020202020202"
        assert len(error["stackTrace"]) == 2 and 'app.py", line 4, in handler' in error["stackTrace"][0]
        assert (outcome.error_type, outcome.error_message) == ("ValueError", "no")
        assert "[ERROR] ValueError: no\nTraceback (most recent call last):" in kit.log("bad")
        assert (await kit.invoke("bad")).sandbox_id == outcome.sandbox_id


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("sys.exit(2)", "Runtime exited with error: exit status 2"),
        ("os._exit(3)", "Runtime exited with error: exit status 3"),
        ("sys.exit()", "Runtime exited without providing a reason"),
        ("ctypes.string_at(0)", "Runtime exited with error: signal: segmentation fault"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "Runtime exited with error: signal: killed"),
        ("os.close(3); time.sleep(60)", "Runtime exited with error: signal: killed"),
    ],
)
async def test_a_crash_is_an_exit_error_and_the_next_run_gets_a_new_sandbox(
    run_dir: Path, body: str, text: str
) -> None:
    """AWS's words for each way to die; /tmp is kept for the replacement."""
    source = f"""
import ctypes, os, pathlib, signal, sys, time
def handler(event, context):
    if event == "look":
        return pathlib.Path(os.environ.get("TMPDIR", "/tmp"), "kept").read_text()
    pathlib.Path(os.environ.get("TMPDIR", "/tmp"), "kept").write_text("still here")
    print("before", flush=True)
    {body}
"""
    async with HostKit(run_dir) as kit:
        kit.deploy("crash", source)
        outcome = await kit.invoke("crash", request_id=b"\x03" * 16)
        assert outcome.status == S.OUTCOME_STATUS_FUNCTION_ERROR
        assert outcome.error_type == "Runtime.ExitError"
        assert outcome.error_message == f"RequestId: 03030303-0303-0303-0303-030303030303 Error: {text}"
        assert json.loads(outcome.response_payload) == {
            "errorType": "Runtime.ExitError",
            "errorMessage": outcome.error_message,
        }
        assert "before\n" in kit.log("crash") and text in kit.log("crash")
        assert await kit.call("crash", "look") == "still here"


async def test_a_timeout_kills_the_whole_tree(run_dir: Path) -> None:
    """A child that ignores SIGTERM, in a session of its own, twice forked, is dead when the outcome is there."""
    source = """
import os, signal, time
def handler(event, context):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.write(write, b"is there")
            os.execvp("sleep", ["sleep", event])
        os._exit(0)
    print("child", os.read(read, 20).decode(), flush=True)
    time.sleep(100)
"""
    # Seen from outside its PID namespace, the child is known by what it was told to sleep.
    seconds = f"100.{secrets.randbelow(10**9):09}"
    async with HostKit(run_dir) as kit:
        kit.deploy("slow", source, timeout_ms=300)
        run = kit.begin(kit.invocation("slow", seconds, wants_log_tail=True, request_id=b"\x04" * 16))
        await eventually(lambda: is_running(seconds))
        outcome = await run
        assert outcome.error_type == "Sandbox.Timedout"
        assert outcome.error_message == (
            "RequestId: 04040404-0404-0404-0404-040404040404 Error: Task timed out after 0.30 seconds"
        )
        assert outcome.duration_us == 300_000
        log = kit.log("slow")
        assert "Task timed out after 0.30 seconds" in log and "Status: timeout" in log
        assert not is_running(seconds)
        assert b"child is there" in outcome.log_tail


async def test_a_timeout_asks_before_it_kills(run_dir: Path) -> None:
    """SIGTERM reaches the handler and what it started; who does not end in time is killed."""
    source = """
import os, signal, subprocess, time
def handler(event, context):
    script = "trap 'echo child asked; exit 0' TERM; while :; do sleep 0.01; done"
    child = subprocess.Popen(["sh", "-c", script])
    signal.signal(signal.SIGTERM, lambda *_: (print("handler asked", flush=True), child.wait(), os._exit(0)))
    time.sleep(100)
"""
    async with HostKit(run_dir, term_grace_ms=5_000) as kit:
        kit.deploy("polite", source, timeout_ms=500)
        outcome = await kit.invoke("polite")
        assert outcome.error_type == "Sandbox.Timedout" and outcome.duration_us == 500_000
        log = kit.log("polite")
        assert "handler asked" in log and "child asked" in log


@pytest.mark.parametrize(
    ("files", "handler", "error_type", "message"),
    [
        (
            {"app.py": "import nothing_like_it\n"},
            "app.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'app': No module named 'nothing_like_it'",
        ),
        (
            {"other.py": ""},
            "app.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'app': No module named 'app'",
        ),
        ({"app.py": ""}, "app.handler", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
        (
            {"app.py": ""},
            "app",
            "Runtime.MalformedHandlerName",
            "Bad handler 'app': not enough values to unpack (expected 2, got 1)",
        ),
        ({"app.py": "def handler(:\n"}, "app.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app': "),
        ({"app.py": "1 / 0\n"}, "app.handler", "ZeroDivisionError", "division by zero"),
        ({"app.py": "import os\nos._exit(4)\n"}, "app.handler", "Runtime.ExitError", "exit status 4"),
    ],
)
async def test_a_handler_that_cannot_be_loaded(
    run_dir: Path, files: dict[str, str], handler: str, error_type: str, message: str
) -> None:
    """Each way has AWS's type and text; it counts as an attempt."""
    async with HostKit(run_dir) as kit:
        kit.deploy("init", files, handler=handler)
        outcome = await kit.invoke("init", request_id=b"\x02" * 16)
        assert outcome.status == S.OUTCOME_STATUS_FUNCTION_ERROR
        assert outcome.error_type == error_type
        assert message in outcome.error_message
        error = json.loads(outcome.response_payload)
        assert error["errorType"] == error_type and message in error["errorMessage"]
        # AWS names the run here, and in the text of what exited.
        named = error["errorMessage"] if error_type == "Runtime.ExitError" else error["requestId"]
        assert "02020202-0202-0202-0202-020202020202" in named


async def test_init_is_bounded(run_dir: Path) -> None:
    """A module that never finishes to load is ended."""
    async with HostKit(run_dir, init_seconds=0.3) as kit:
        kit.deploy("hang", "import time\ntime.sleep(100)\n")
        outcome = await kit.invoke("hang")
        assert outcome.error_type == "Sandbox.Timedout"


@pytest.mark.parametrize(
    ("result", "error_type", "message"),
    [
        ("{1, 2}", "Runtime.MarshalError", "Unable to marshal response: Object of type set is not JSON serializable"),
        ("float('nan')", "Runtime.MarshalError", "Unable to marshal response"),
        ("'\\ud800'", "Runtime.MarshalError", "Unable to marshal response"),
        ("'x' * 7_000_000", "Function.ResponseSizeTooLarge", "exceeded maximum allowed payload size (6291556 bytes)"),
    ],
)
async def test_results_that_cannot_be_sent(run_dir: Path, result: str, error_type: str, message: str) -> None:
    """No JSON, or too much of it."""
    async with HostKit(run_dir) as kit:
        kit.deploy("result", f"def handler(event, context):\n    return {result}\n")
        outcome = await kit.invoke("result")
        assert outcome.error_type == error_type and message in outcome.error_message


async def test_large_payloads_pass(run_dir: Path) -> None:
    """6 MB in and out."""
    async with HostKit(run_dir) as kit:
        kit.deploy("big", "def handler(event, context):\n    return event\n")
        assert len(await kit.call("big", "x" * 6_000_000)) == 6_000_000


async def test_the_log_has_lambdas_lines(run_dir: Path) -> None:
    """INIT_START, START, what the handler printed and logged, END, REPORT; stderr too."""
    source = """
import logging, sys
logging.getLogger().setLevel(logging.INFO)
def handler(event, context):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    logging.getLogger("x").info("logged %d", 5)
"""
    async with HostKit(run_dir) as kit:
        kit.deploy("logs", source)
        outcome = await kit.invoke("logs", request_id=b"\x05" * 16, wants_log_tail=True)
        rid = "05050505-0505-0505-0505-050505050505"
        lines = kit.log("logs").splitlines()
        assert lines[0].startswith("INIT_START Runtime Version: python:3.")
        assert lines[1] == f"START RequestId: {rid} Version: $LATEST"
        assert lines[2:4] == ["to stdout", "to stderr"]
        assert lines[4].startswith("[INFO]\t20") and lines[4].endswith(f"Z\t{rid}\tlogged 5")
        assert lines[5] == f"END RequestId: {rid}"
        assert lines[6].startswith(f"REPORT RequestId: {rid}\tDuration: ") and "Init Duration: " in lines[6]
        assert "Memory Size: 128 MB\tMax Memory Used: " in lines[6]
        assert outcome.log_tail.decode().splitlines() == lines[1:]


async def test_output_is_bounded(run_dir: Path) -> None:
    """A flood is cut with a word about it, and the run goes on."""
    async with HostKit(run_dir, output_bytes=4_096) as kit:
        kit.deploy("flood", "def handler(event, context):\n    for _ in range(5000): print('x' * 1000)\n    return 1\n")
        assert await kit.call("flood") == 1
        log = kit.log("flood")
        assert len(log) < 6_000 and "beyond 4096 bytes is dropped" in log


async def test_a_response_to_another_request_is_refused(run_dir: Path) -> None:
    """Forged and broken frames end the sandbox, not the host."""
    source = """
import os, struct, time
def handler(event, context):
    if event == "other":
        rest = struct.pack("!B16sBQQIHHI", 5, b"z" * 16, 0, 0, 0, 0, 0, 0, 2) + b"{}"
        os.write(3, struct.pack("!I", len(rest)) + rest)
    elif event == "huge":
        os.write(3, struct.pack("!I", 0xfffffff0) + b"x" * 100)
    elif event == "junk":
        os.write(3, b"\\0\\0\\0\\5\\x09junk")
    else:
        return "fine"
    time.sleep(50)
"""
    async with HostKit(run_dir) as kit:
        kit.deploy("forge", source)
        for event in ("other", "huge", "junk"):
            outcome = await kit.invoke("forge", event)
            assert outcome.error_type == "Runtime.ExitError", event
        assert await kit.call("forge", "go") == "fine"


async def test_a_parent_killed_is_replaced(run_dir: Path) -> None:
    """Its sandboxes die with it; the next run gets a new parent."""
    import os
    import signal

    async with HostKit(run_dir) as kit:
        kit.deploy("echo", ECHO)
        await kit.call("echo")
        pids, parents = kit.pids(), kit.host.parent_pids()
        for pid in parents:
            os.kill(pid, signal.SIGKILL)
        await eventually(lambda: not kit.pids())
        await eventually(
            lambda: (
                not any(
                    Path(f"/proc/{pid}/status").exists()
                    and "Z" not in Path(f"/proc/{pid}/status").read_text().split("State:")[1][:4]
                    for pid in pids
                )
            )
        )
        assert (await kit.call("echo", 5))["got"] == 5
        await eventually(lambda: not kit.host.parent_pids() & parents)
