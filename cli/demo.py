"""`make run` and `make demo`: a fleet, the podcast example, a real recording through it, and what happened to it."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import grpc
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cli.commands.deploy import deploy_functions
from cli.commands.events import TERMINAL_STATES, list_events, state_name
from cli.commands.trace import settled_spans
from cli.connection import FleetConnection
from cli.failures import CliError, describe_refusal, from_rpc
from cli.fleet_folder import data_folder
from cli.manifest import read_manifest
from cli.output import console, span_of_ms
from cli.supervisor.plan import PARENT_VARIABLE
from cli.supervisor.ports import check_free, free_port
from cli.trace_tree import build, render
from services.shared import ids

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "podcast"
RECORDING = "first-light.wav"
BUCKET_IN = "podcast-in"
BUCKET_OUT = "podcast-out"
FIRST_FUNCTION = "clean"
LAST_FUNCTION = "index"
HTTP_PORT = 9000
GRPC_PORT = 9001
READY_SECONDS = 75.0
RESULT_SECONDS = 90.0
TRACE_SECONDS = 10.0
STOP_SECONDS = 15.0
MAX_KEPT_LINES = 100
_POLL_SECONDS = 0.1


class Fleet:
    """`evenflow up` as a child: what a user runs, run for the user."""

    def __init__(self, data: Path, http_port: int, grpc_port: int) -> None:
        self.data = data
        self.ready_line = ""
        self._is_ready = threading.Event()
        self._errors: deque[str] = deque(maxlen=MAX_KEPT_LINES)
        command = [sys.executable, "-P", "-m", "cli", "up", "--data", str(data)]
        command += ["--http-port", str(http_port), "--grpc-port", str(grpc_port)]
        # A session of its own: Ctrl-C at the terminal is ours to pass on, once.
        self.process = subprocess.Popen(
            command,
            # Whatever becomes of us, the fleet ends with us.
            env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for stream, take in ((self.process.stdout, self._take_line), (self.process.stderr, self._take_error)):
            assert stream is not None
            threading.Thread(target=_each_line, args=(stream, take, self._is_ready), daemon=True).start()

    def wait_ready(self) -> str:
        """Until it serves; its ready line. CliError: it does not, with its own reason."""
        self._is_ready.wait(READY_SECONDS)
        if not self.ready_line:
            self.stop()
            reason = self._errors[-1].removeprefix("error: ") if self._errors else f"not ready in {READY_SECONDS:.0f} s"
            raise CliError(f"the fleet did not start: {reason}")
        return self.ready_line

    def check_alive(self) -> None:
        """CliError: the fleet is gone."""
        if self.process.poll() is not None:
            last = f": {self._errors[-1]}" if self._errors else ""
            raise CliError(f"the fleet ended by itself (exit {self.process.returncode}){last}")

    def stop(self) -> None:
        """Drain; SIGKILL by pid when that takes too long."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_SECONDS)

    def _take_error(self, line: str) -> None:
        self._errors.append(line)
        if self.ready_line:
            # What the supervisor has to say of a fleet that is up, its user wants to know.
            print(line, file=sys.stderr, flush=True)

    def _take_line(self, line: str) -> None:
        if line.startswith("ready "):
            self.ready_line = line
            self._is_ready.set()


def _each_line(stream: IO[str], take: Callable[[str], None], ended: threading.Event) -> None:
    for line in stream:
        take(line.rstrip("\n"))
    ended.set()


@dataclass(slots=True)
class Result:
    """What became of the recording."""

    catalogue_line: dict[str, Any] = field(default_factory=dict)
    request_id: str = ""
    took_seconds: float = 0.0


class Steps:
    """Tells what is going on: a spinner on a terminal, plain lines elsewhere."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._progress: Progress | None = None
        if screen.is_terminal:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._progress = Progress(*columns, console=screen, transient=True)

    def run(self, what: str, work: Callable[[], Any]) -> Any:
        """Do one step and say how long it took."""
        started = time.monotonic()
        if self._progress is None:
            result = work()
        else:
            with self._progress:
                task = self._progress.add_task(what)
                result = work()
                self._progress.remove_task(task)
        done = work_words(result) or what
        self._screen.print(f"[green]ok[/]  {done}  [dim]{span_of_ms((time.monotonic() - started) * 1_000)}[/]")
        return result


def work_words(result: Any) -> str:
    """A step that returns a text says what it did."""
    return result if isinstance(result, str) else ""


def choose_ports(screen: Console) -> tuple[int, int]:
    """9000 and 9001, or free ones when somebody has those."""
    chosen = []
    for port, option in ((HTTP_PORT, "--http-port"), (GRPC_PORT, "--grpc-port")):
        try:
            check_free(f"127.0.0.1:{port}", option)
            chosen.append(port)
        except CliError:
            chosen.append(free_port())
            screen.print(f"port {port} is taken: using {chosen[-1]}")
    return chosen[0], chosen[1]


def put_recording(fleet: FleetConnection) -> Path:
    """Copy the recording into the bucket, as a user would."""
    target = fleet.data / "buckets" / BUCKET_IN / RECORDING
    shutil.copyfile(EXAMPLE / "recordings" / RECORDING, target)
    return target


def await_result(fleet: FleetConnection, known: int, started_ms: int, check_alive: Callable[[], None]) -> Result:
    """The line after the `known` ones and the event it came from. CliError: it failed, or took too long."""
    began = time.monotonic()
    result = Result()
    while True:
        check_alive()
        lines = read_catalogue(fleet.data)
        if len(lines) > known:
            result.catalogue_line = lines[-1]
        newest = [e for e in list_events(fleet, "", "", 50) if e.accepted_at_ms >= started_ms]
        for event in newest:
            if event.function_name == FIRST_FUNCTION:
                result.request_id = ids.to_text(event.request_id)
            if state_name(event) == "dead" or event.function_errors:
                raise CliError(f"{event.function_name} failed: {event.error_type}: {event.error_message}")
        ended = {e.function_name for e in newest if state_name(e) in TERMINAL_STATES}
        if result.catalogue_line and {FIRST_FUNCTION, LAST_FUNCTION} <= ended:
            result.took_seconds = time.monotonic() - began
            return result
        if time.monotonic() - began > RESULT_SECONDS:
            states = ", ".join(f"{e.function_name} {state_name(e)}" for e in newest) or "no event came of the file"
            raise CliError(f"no result within {RESULT_SECONDS:.0f} s: {states}; look at {fleet.data / 'logs'}")
        time.sleep(_POLL_SECONDS)


def read_catalogue(data: Path) -> list[dict[str, Any]]:
    """The lines that `index` wrote so far."""
    try:
        text = (data / "buckets" / BUCKET_OUT / "catalogue.jsonl").read_text(encoding="utf-8")
    except OSError:
        return []
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def show(screen: Console, fleet: FleetConnection, result: Result, stay: bool) -> None:
    """The catalogue's line, the files, every hop. CliError: a file is not there, or there is no trace."""
    line, folder = result.catalogue_line, fleet.data / "buckets" / BUCKET_OUT
    audio, picture = folder / line["audio"]["key"], folder / line["picture"]["key"]
    for path in (audio, picture):
        if not path.is_file():
            raise CliError(f"{path} is in the catalogue but not there")
    spans = settled_spans(fleet.data / "traces", (result.request_id,), TRACE_SECONDS)
    if not spans:
        raise CliError(f"no trace of {result.request_id} in {fleet.data / 'traces'}")
    screen.print()
    screen.print("[bold]catalogue[/]")
    print(json.dumps(line, ensure_ascii=False), flush=True)
    screen.print(f"[bold]picture[/]    {picture}", soft_wrap=True)
    screen.print(f"[bold]audio[/]      {audio}", soft_wrap=True)
    if not stay:
        screen.print("[dim]both go with the demo's folder when it ends; `make run` keeps them[/]")
    screen.print()
    screen.print(render(build(spans)))


def run(data: Path, stay: bool, screen: Console) -> None:
    """The whole demonstration. CliError: a step failed, with the reason."""
    http_port, grpc_port = choose_ports(screen)
    steps = Steps(screen)
    fleet = Fleet(data, http_port, grpc_port)
    try:
        steps.run("starting the fleet", fleet.wait_ready)
        with FleetConnection(data) as connection:
            steps.run("deploying the podcast example", lambda: _deploy(connection))
            known, started_ms = len(read_catalogue(data)), time.time_ns() // 1_000_000
            steps.run("putting the recording into its bucket", lambda: f"put {put_recording(connection)}")
            result = steps.run(
                "cleaning and indexing the recording",
                lambda: await_result(connection, known, started_ms, fleet.check_alive),
            )
            show(screen, connection, result, stay)
        if stay:
            _stay(screen, fleet, data, result)
    finally:
        fleet.stop()


def _deploy(connection: FleetConnection) -> str:
    deployed = deploy_functions(connection, read_manifest(EXAMPLE))
    return f"deployed {', '.join(one.name for one in deployed)}"


def _stay(screen: Console, fleet: Fleet, data: Path, result: Result) -> None:
    screen.print()
    screen.print(f"The fleet is up ({fleet.ready_line.removeprefix('ready ')}). Ctrl-C stops it.", soft_wrap=True)
    screen.print(f"Put a WAV file into {data / 'buckets' / BUCKET_IN}, or try:", soft_wrap=True)
    for words in (f"event {result.request_id}", "events", "logs clean", "dlq list", "shards", "top"):
        screen.print(f"  .venv/bin/evenflow {words}", soft_wrap=True)
    while True:
        fleet.check_alive()
        time.sleep(1.0)


def main() -> None:
    """Exit 0 when the recording went through; 1 with the reason when it did not."""
    parser = argparse.ArgumentParser(prog="python -m cli.demo", description=__doc__)
    parser.add_argument("--stay", action="store_true", help="use ./.evenflow and stay up until Ctrl-C")
    stay = parser.parse_args().stay
    screen = console()
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _interrupt)
    data = data_folder(None) if stay else Path(tempfile.mkdtemp(prefix="evenflow-demo-"))
    try:
        run(data, stay, screen)
    except KeyboardInterrupt:
        # With --stay this is how it is meant to end.
        screen.print("stopped")
        sys.exit(0 if stay else 130)
    except (CliError, grpc.RpcError) as e:
        reason = e.message if isinstance(e, CliError) else describe_refusal(from_rpc(e))
        print(f"error: {reason}", file=sys.stderr, flush=True)
        if not stay:
            print(f"the fleet's data and logs are kept in {data}", file=sys.stderr, flush=True)
        sys.exit(1)
    if not stay:
        shutil.rmtree(data, ignore_errors=True)


def _interrupt(_signum: int, _frame: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
