"""Unmodified runtime clients and a shell: every way a run can end, through the Runtime API in the sandbox."""

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from evenflow.common.v1 import event_pb2
from evenflow.runtime.v1 import runtime_pb2

from services.runtime.sandbox import strays
from tests.integration.runtime.kit import HostKit, PatientHost
from tests.integration.runtime.programs import BIG_BYTES, PROGRAMS, Program, script
from tests.kit.waiting import eventually

S = event_pb2.OutcomeStatus
TRACE = event_pb2.TraceContext(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> Program:
    """Each client in turn."""
    return PROGRAMS[request.param]()


def deploy(kit: HostKit, program: Program, **changes: Any) -> None:
    """A function "f" of it."""
    fields = {"handler": "app.handler", "environment": {"COLOUR": "blue"}, **changes}
    kit.deploy("f", program.package, runtime=program.runtime, **fields)


async def test_success_and_warm_reuse(run_dir: Path, program: Program) -> None:
    """The context is Lambda's; the second run is in the same program, and had no init."""
    async with PatientHost(run_dir) as kit:
        deploy(kit, program)
        first = await kit.invoke(
            "f", {"do": "look"}, trace=TRACE, client_context='{"custom": {"a": 1}}', request_id=b"\x01" * 16
        )
        got = json.loads(first.response_payload)
        assert got["id"] == "01010101-0101-0101-0101-010101010101"
        assert got["arn"] == "arn:aws:lambda:eu-central-1:123456789012:function:f:$LATEST"
        assert 5_000 < got["left"] <= 10_000
        assert got["handler"] == "app.handler" and got["colour"] == "blue" and got["cwd"] == got["root"]
        assert got["trace"].startswith("Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1")
        assert (got.get("client") or got)["custom"] == {"a": 1}
        assert first.init_duration_us > 0 and first.max_memory_mb >= 2 and first.executed_version == "$LATEST"
        if kit.host.isolation.has_mounts:
            assert got["root"] == "/var/task"
        second = await kit.invoke("f", {"do": "look"}, client_context='{"custom": {"a": 1}}', trace=TRACE)
        assert json.loads(second.response_payload)["runs"] == 2
        assert second.sandbox_id == first.sandbox_id and second.init_duration_us == 0
        log = kit.log("f")
        assert "said look" in log and "INIT_START Runtime Version: " in log
        assert f"Max Memory Used: {second.max_memory_mb} MB" in log


async def test_a_big_payload_in_and_out(run_dir: Path, program: Program) -> None:
    """5.9 MB each way, unchanged, twice."""
    event = {"do": "echo", "text": "ä" * (BIG_BYTES // 6)}
    assert len(json.dumps(event)) > BIG_BYTES - 100
    async with PatientHost(run_dir) as kit:
        deploy(kit, program, memory_mb=512, timeout_ms=30_000)
        for _ in range(2):
            assert await kit.call("f", event) == event


async def test_an_error_has_the_clients_type_and_words(run_dir: Path, program: Program) -> None:
    """The body is passed on as it is; the sandbox lives on."""
    async with PatientHost(run_dir) as kit:
        deploy(kit, program)
        outcome = await kit.invoke("f", {"do": "raise"})
        assert outcome.status == S.OUTCOME_STATUS_FUNCTION_ERROR
        assert (outcome.error_type, outcome.error_message) == (program.error_type, "no")
        error = json.loads(outcome.response_payload)
        assert (error["errorType"], error["errorMessage"]) == (program.error_type, "no")
        again = await kit.invoke("f", {"do": "echo"})
        assert again.status == S.OUTCOME_STATUS_SUCCEEDED and again.sandbox_id == outcome.sandbox_id


async def test_a_timeout_leaves_nothing(run_dir: Path, program: Program) -> None:
    """AWS's words; the program and what it started are dead when the outcome is there; the next run is another's."""
    async with PatientHost(run_dir) as kit:
        deploy(kit, program, timeout_ms=1_000)
        await kit.call("f", {"do": "echo"})
        (sandbox_pid,) = kit.pids()
        program_pids = strays.descendants_of(sandbox_pid)
        assert program_pids
        outcome = await kit.invoke("f", {"do": "sleep"}, request_id=b"\x04" * 16)
        assert outcome.error_type == "Sandbox.Timedout"
        assert outcome.error_message == (
            "RequestId: 04040404-0404-0404-0404-040404040404 Error: Task timed out after 1.00 seconds"
        )
        assert not any(Path(f"/proc/{pid}").exists() for pid in program_pids)
        assert await kit.call("f", {"do": "echo"}) == {"do": "echo"}


@pytest.mark.parametrize(("do", "text"), [("exit", "exit status 3"), ("kill", "signal: killed")])
async def test_a_crash_tells_how_the_program_ended(run_dir: Path, program: Program, do: str, text: str) -> None:
    """The program's own status or signal is the outcome's; the next run gets a new sandbox."""
    async with PatientHost(run_dir) as kit:
        deploy(kit, program)
        outcome = await kit.invoke("f", {"do": do}, request_id=b"\x03" * 16)
        assert outcome.error_type == "Runtime.ExitError"
        assert outcome.error_message == (
            f"RequestId: 03030303-0303-0303-0303-030303030303 Error: Runtime exited with error: {text}"
        )
        assert f"said {do}" in kit.log("f")
        again = await kit.invoke("f", {"do": "echo"})
        assert again.status == S.OUTCOME_STATUS_SUCCEEDED and again.sandbox_id != outcome.sandbox_id


async def test_an_init_error_is_the_clients(run_dir: Path, program: Program) -> None:
    """init/error before the first next: its type is the run's outcome."""
    async with PatientHost(run_dir) as kit:
        deploy(kit, program, handler="broken.handler")
        outcome = await kit.invoke("f", {})
        assert outcome.status == S.OUTCOME_STATUS_FUNCTION_ERROR
        assert outcome.error_type == program.init_error_type
        assert json.loads(outcome.response_payload)["errorType"] == program.init_error_type


async def test_output_of_queued_runs_stands_between_their_lines(run_dir: Path, program: Program) -> None:
    """Also where runs are sent ahead."""
    async with PatientHost(run_dir, max_sandboxes=1) as kit:
        deploy(kit, program)
        await kit.call("f", {"do": "echo"})
        kind = runtime_pb2.INVOCATION_KIND_ASYNC
        await asyncio.gather(*(kit.invoke("f", {"do": f"n{n}"}, kind=kind) for n in range(12)))
        lines = kit.log("f").splitlines()
        said = [at for at, line in enumerate(lines) if "said n" in line]
        assert len(said) == 12
        assert all(lines[at - 1].startswith("START") and lines[at + 1].startswith("END") for at in said)


async def test_a_fast_program_waits_until_its_output_is_taken(run_dir: Path) -> None:
    """Runs that were sent ahead begin when the host has the output of the one before."""
    package = script("while True:\n    r, n = take()\n    print('said', n, flush=True)\n    give(r, n)\n")
    async with PatientHost(run_dir, max_sandboxes=1) as kit:
        kit.deploy("f", package, runtime="provided.al2023")
        kind = runtime_pb2.INVOCATION_KIND_ASYNC
        await asyncio.gather(*(kit.invoke("f", n, kind=kind) for n in range(400)))
        lines = kit.log("f").splitlines()
        said = [at for at, line in enumerate(lines) if line.startswith("said ")]
        assert len(said) == 400
        assert all(lines[at - 1].startswith("START") and lines[at + 1].startswith("END") for at in said)


async def test_a_streamed_response_is_collected(run_dir: Path) -> None:
    """Chunks of a Node.js stream are one payload; a stream that breaks off is an error, by its trailers."""
    async with PatientHost(run_dir) as kit:
        deploy(kit, PROGRAMS["node"](), handler="app.stream")
        assert await kit.call("f", {}) == {"part": 1, "rest": 2}
        broken = await kit.invoke("f", {"do": "raise"})
        assert (broken.error_type, broken.error_message) == ("RangeError", "broke off")
        assert json.loads(broken.response_payload)["errorType"] == "RangeError"
        assert await kit.call("f", {}) == {"part": 1, "rest": 2}


async def test_in_a_network_of_its_own_the_api_is_there(run_dir: Path) -> None:
    """With a network namespace; seccomp alone keeps clients from any connection, which is said before one starts."""
    async with PatientHost(run_dir, network="isolated") as kit:
        if not kit.host.isolation.has_loopback:
            pytest.skip("this machine gives no network namespaces")
        deploy(kit, PROGRAMS["shell"]())
        assert await kit.call("f", {"do": "echo"}) == {"do": "echo"}


async def test_a_network_isolated_by_seccomp_alone_is_refused_with_the_reason(run_dir: Path) -> None:
    """Tier 0 has no namespaces: forked handlers run, programs cannot reach the API."""
    async with PatientHost(run_dir, network="isolated", isolation="0") as kit:
        assert not kit.host.isolation.has_loopback
        deploy(kit, PROGRAMS["shell"]())
        outcome = await kit.invoke("f", {"do": "echo"})
        assert outcome.status == S.OUTCOME_STATUS_SYSTEM_ERROR
        assert "its network is isolated by seccomp alone" in outcome.error_message
        kit.deploy("forked", "def handler(event, context):\n    return 1\n")
        assert await kit.call("forked") == 1


async def test_the_program_is_shut_in_and_cannot_look_into_its_server(run_dir: Path) -> None:
    """It has what forked handlers have: no new privileges, the filter, no capability; its server's memory is closed."""
    package = script("""
import ctypes
def attempt(call):
    try:
        return str(call())[:40]
    except OSError as e:
        return type(e).__name__
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
server = f"/proc/{os.getppid()}"
found = {
    "privileges": status["NoNewPrivs"].strip(),
    "filter": status["Seccomp"].strip(),
    "capabilities": int(status["CapEff"], 16),
    "fds": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:4],
    "memory": attempt(lambda: open(f"{server}/mem", "r+b")),
    "environment": attempt(lambda: open(f"{server}/environ").read()),
    "descriptors": attempt(lambda: os.listdir(f"{server}/fd")),
    "unshare": ctypes.CDLL(None).unshare(0x10000000),
}
while True:
    give(take()[0], found)
""")
    async with PatientHost(run_dir) as kit:
        kit.deploy("f", package, runtime="provided.al2023")
        got = await kit.call("f")
        assert (got["privileges"], got["capabilities"]) == ("1", 0)
        assert got["memory"] == got["environment"] == got["descriptors"] == "PermissionError"
        assert got["fds"][:3] == [0, 1, 2]
        if kit.host.isolation.has_seccomp:
            assert got["filter"] == "2" and got["unshare"] == -1


# --- clients that do not keep to the order (attack 15)


async def test_answers_of_another_id_twice_and_late_are_refused(run_dir: Path) -> None:
    """400 with AWS's type each time; only the first answer of the run under way counts."""
    package = script("""
first, _ = take()
other = "00000000-0000-0000-0000-000000000000"
seen = [give(other, "forged"), give(other, {"errorType": "x"}, "error"), call("GET", "invocation/next")[0]]
seen += [give(first, "mine"), give(first, "again"), give(first, {"errorType": "x"}, "error")]
second, _ = take()
seen += [give(first, "late"), call("POST", "init/error", b"{}")[0]]
give(second, seen)
take()
""")
    async with PatientHost(run_dir) as kit:
        kit.deploy("f", package, runtime="provided.al2023")
        assert await kit.call("f") == "mine"
        seen = await kit.call("f")
        wrong = [400, {"errorMessage": "Invalid request ID", "errorType": "InvalidRequestID"}]
        assert seen == [wrong, wrong, 403, [202, {"status": "OK"}], wrong, wrong, wrong, 403]


async def test_a_second_next_and_an_answer_before_the_first_are_refused(run_dir: Path) -> None:
    """403 InvalidStateTransition; the one that asked first gets the run."""
    package = script("""
early = give("00000000-0000-0000-0000-000000000000", 1)
asking = [http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"]) for _ in range(2)]
for one in asking:
    one.request("GET", "/2018-06-01/runtime/invocation/next")
answers = [one.getresponse() for one in asking]
refused, given = sorted(answers, key=lambda answer: -answer.status)
bodies = [json.loads(answer.read()) for answer in (refused, given)]
give(given.headers["Lambda-Runtime-Aws-Request-Id"], [early, [refused.status, bodies[0]], bodies[1]])
take()
""")
    async with PatientHost(run_dir) as kit:
        kit.deploy("f", package, runtime="provided.al2023")
        early, second, event = await kit.call("f", {"for": "one"})
        for status, body in (early, second):
            assert status == 403 and body["errorType"] == "InvalidStateTransition"
        assert event == {"for": "one"}


async def test_a_response_over_the_bound(run_dir: Path) -> None:
    """413 for the client, Function.ResponseSizeTooLarge for the caller, and the sandbox goes on; chunked, too."""
    package = script("""
body = b'"' + b"x" * 7_000_000 + b'"'
for sent in (body, iter([body[:100], body[100:]])):
    request_id, _ = take()
    status, _, answer = call("POST", f"invocation/{request_id}/response", sent)
    request_id, _ = take()
    give(request_id, [status, json.loads(answer)])
take()
""")
    async with PatientHost(run_dir) as kit:
        kit.deploy("f", package, runtime="provided.al2023")
        for _ in range(2):
            outcome = await kit.invoke("f")
            assert outcome.error_type == "Function.ResponseSizeTooLarge"
            assert outcome.error_message == (
                "Response payload size (7000002 bytes) exceeded maximum allowed payload size (6291556 bytes)."
            )
            status, body = await kit.call("f")
            assert (status, body["errorType"]) == (413, "RequestEntityTooLarge")
        assert len(kit.pids()) == 1


@pytest.mark.parametrize(
    ("sent", "payload"),
    [
        (b"", b"null"),
        (b'Echoing: "hi"\n', b'"Echoing: \\"hi\\"\\n"'),
        (b"\xff\xfe", '"\ufffd\ufffd"'.encode()),
        (b"NaN", b'"NaN"'),
        (b' {"a": [1, "\xc3\xa4"]} ', b' {"a": [1, "\xc3\xa4"]} '),
    ],
)
async def test_a_response_that_is_no_json_is_handed_on_as_text(run_dir: Path, sent: bytes, payload: bytes) -> None:
    """JSON passes byte for byte; anything else becomes a JSON string, as what follows takes payloads for JSON."""
    async with PatientHost(run_dir) as kit:
        kit.deploy("f", script(f"give(take()[0], {sent!r})\ntake()\n"), runtime="provided.al2023")
        outcome = await kit.invoke("f")
        assert (outcome.status, outcome.response_payload) == (S.OUTCOME_STATUS_SUCCEEDED, payload)


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"app.py": ""}, "Couldn't find valid bootstrap(s): [{root}/bootstrap]"),
        ({"bootstrap": "echo no first line\n"}, "fork/exec {root}/bootstrap: exec format error"),
        ({"bootstrap": "#!/no/such/shell\n"}, "fork/exec {root}/bootstrap: no such file or directory"),
    ],
)
async def test_a_package_that_cannot_be_started(run_dir: Path, files: dict[str, str], text: str) -> None:
    """Runtime.InvalidEntrypoint in AWS's words."""
    async with PatientHost(run_dir) as kit:
        kit.deploy("f", files, runtime="provided.al2023")
        outcome = await kit.invoke("f")
        assert outcome.error_type == "Runtime.InvalidEntrypoint"
        if kit.host.isolation.has_mounts:
            assert outcome.error_message == text.format(root="/var/task")


async def test_a_program_that_ends_before_it_asks(run_dir: Path) -> None:
    """A crash at init, as of any handler."""
    async with PatientHost(run_dir) as kit:
        kit.deploy("f", script("sys.exit(7)\n"), runtime="provided.al2023")
        outcome = await kit.invoke("f")
        assert outcome.error_type == "Runtime.ExitError"
        assert outcome.error_message.endswith("Error: Runtime exited with error: exit status 7")


async def test_a_program_killed_while_it_waits_is_replaced(run_dir: Path) -> None:
    """The host hears of it without a run to fail; the next run gets a new sandbox."""
    async with PatientHost(run_dir) as kit:
        kit.deploy("f", script("while True:\n    give(take()[0], 1)\n"), runtime="provided.al2023")
        first = await kit.invoke("f")
        os.kill(program_of(kit), signal.SIGKILL)
        await eventually(lambda: not kit.pids())
        again = await kit.invoke("f")
        assert again.status == S.OUTCOME_STATUS_SUCCEEDED and again.sandbox_id != first.sandbox_id


async def test_sigterm_reaches_the_program(run_dir: Path) -> None:
    """It may end in order: what it says then is in the log."""
    package = script("""
import signal
def on_term(*_):
    print("goodbye", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, on_term)
while True:
    give(take()[0], 1)
""")
    async with PatientHost(run_dir) as kit:
        kit.deploy("f", package, runtime="provided.al2023")
        await kit.call("f")
        (sandbox,) = kit.host.dispatcher.nursery.sandboxes.values()
        sandbox.end("stopped", grace_ms=5_000)
        await eventually(lambda: not kit.pids())
        assert "goodbye" in kit.log("f")


async def test_memory_is_the_programs(run_dir: Path) -> None:
    """Peak memory is measured, not the server's."""
    async with PatientHost(run_dir) as kit:
        package = script("while True:\n    r, n = take()\n    kept = bytearray(n)\n    give(r, 1)\n")
        kit.deploy("f", package, runtime="provided.al2023")
        before = (await kit.invoke("f", 1)).max_memory_mb
        after = (await kit.invoke("f", 80_000_000)).max_memory_mb
        assert 5 < before < 60 and after - before > 70


async def test_the_last_words_of_a_program_count(run_dir: Path) -> None:
    """A response that was sent is the outcome although the program has ended before it is read."""
    package = script("""
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
request_id, _ = take()
print("taken", flush=True)
signal.sigwait({signal.SIGUSR1})
connection.request("POST", f"/2018-06-01/runtime/invocation/{request_id}/response", b'"last"')
os._exit(0)
""")
    async with PatientHost(run_dir) as kit:
        kit.deploy("f", package, runtime="provided.al2023")
        ended = kit.begin(kit.invocation("f"))
        await eventually(lambda: "taken" in kit.log("f"))
        pid = program_of(kit)
        with paused(kit):
            os.kill(pid, signal.SIGUSR1)
            await eventually(lambda: ") Z" in Path(f"/proc/{pid}/stat").read_text())
        assert (await ended).response_payload == b'"last"'


async def test_a_client_that_gave_up_does_not_take_a_run_with_it(run_dir: Path) -> None:
    """Its end and the run reach the server at once: the run goes to the connection that asks after it."""
    package = script("""
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
give(take()[0], "first")
given_up = socket.create_connection(os.environ["AWS_LAMBDA_RUNTIME_API"].split(":"))
given_up.sendall(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\n\\r\\n")
# Answers to these show that the server has been round its loop and has read the request above.
for _ in range(4):
    call("GET", "restore/next")
print("asked", flush=True)
signal.sigwait({signal.SIGUSR1})
given_up.close()
print("gave up", flush=True)
while True:
    status, headers, body = call("GET", "invocation/next")
    if status == 200:
        give(headers["Lambda-Runtime-Aws-Request-Id"], "kept")
""")
    async with PatientHost(run_dir) as kit:
        kit.deploy("f", package, runtime="provided.al2023")
        assert await kit.call("f") == "first"
        await eventually(lambda: "asked" in kit.log("f"))
        with paused(kit):
            ended = kit.begin(kit.invocation("f"))
            os.kill(program_of(kit), signal.SIGUSR1)
            await eventually(lambda: "gave up" in kit.log("f"))
        assert (await ended).response_payload == b'"kept"'


async def test_a_request_in_pieces_does_not_wait_for_a_delayed_acknowledgement(run_dir: Path) -> None:
    """A shell writes line by line; each wait for the other end's timer would be 40 ms."""
    package = script("""
host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
s = socket.create_connection((host, int(port)))
while True:
    s.sendall(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\n\\r\\n")
    head = s.recv(65536)
    at = head.index(b"Request-Id: ") + 12
    s.sendall(b"POST /2018-06-01/runtime/invocation/" + head[at : at + 36] + b"/response HTTP/1.1\\r\\n")
    s.sendall(b"Content-Length: 2\\r\\n\\r\\n")
    s.sendall(b"{}")
    s.recv(65536)
""")
    async with PatientHost(run_dir) as kit:
        kit.deploy("f", package, runtime="provided.al2023")
        runs = [await kit.invoke("f") for _ in range(20)]
        assert {run.response_payload for run in runs} == {b"{}"}
        assert min(run.duration_us for run in runs[10:]) < 20_000


# --- who may use it (attack 16)

KEEPER = script("""
while True:
    request_id, event = take()
    give(request_id, {"api": os.environ["AWS_LAMBDA_RUNTIME_API"], "event": event})
""")
THIEF = """
import socket
def handler(event, context):
    host, port = event.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as s:
        try:
            s.sendall(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\n\\r\\n")
            return s.recv(1000).decode()
        except OSError as e:
            return type(e).__name__
"""


@pytest.mark.parametrize("isolation", ["auto", "0"])
async def test_nobody_else_may_poll(run_dir: Path, isolation: str) -> None:
    """Neither the host nor a neighbour, whatever its uid, gets a word; the function goes on, its log says so once."""
    async with PatientHost(run_dir, isolation=isolation) as kit:
        kit.deploy("keeper", KEEPER, runtime="provided.al2023")
        kit.deploy("thief", THIEF)
        api = (await kit.call("keeper", 1))["api"]
        for _ in range(3):
            assert await kit.call("thief", api) in ("", "ConnectionResetError", "BrokenPipeError")
        host, port = api.split(":")
        with socket.create_connection((host, int(port)), timeout=5) as s:
            s.setblocking(False)
            assert await _read(s) == b""
        assert (await kit.call("keeper", "still mine"))["event"] == "still mine"
        assert 1 <= kit.log("keeper").count("connections of other processes refused") <= 3


@pytest.mark.parametrize("isolation", ["auto", "0"])
async def test_all_of_a_programs_own_processes_may(run_dir: Path, isolation: str) -> None:
    """A grandchild, started by a thread, in a session of its own."""
    package = script("""
code = sys.argv[1] if len(sys.argv) > 1 else ""
def child():
    subprocess.run(["/bin/sh", "-c", f"setsid {sys.executable} {__file__} inner & wait"])
if not code:
    thread = threading.Thread(target=child)
    thread.start()
    thread.join()
while True:
    give(take()[0], [code, os.getppid() != 0])
""")
    async with PatientHost(run_dir, isolation=isolation) as kit:
        kit.deploy("f", package, runtime="provided.al2023")
        assert (await kit.call("f"))[0] == "inner"
        assert (await kit.call("f"))[0] == "inner"


@contextlib.contextmanager
def paused(kit: HostKit) -> Iterator[None]:
    """The only sandbox's server stands still meanwhile: what comes, it finds all at once."""
    server = int(Path(f"/proc/{program_of(kit)}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(server, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server, signal.SIGCONT)


async def _read(client: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    try:
        return await asyncio.wait_for(loop.sock_recv(client, 1_000), 5)
    except ConnectionResetError:
        return b""


def program_of(kit: HostKit) -> int:
    """The program of the only sandbox, by the pid that it has here: in its own PID namespace it has another one."""
    (sandbox_pid,) = kit.pids()
    pid = strays.descendants_of(sandbox_pid)[-1]
    assert b"/bootstrap" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return pid
