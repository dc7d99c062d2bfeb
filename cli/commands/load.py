"""`evenflow load`: drives a fleet open loop and tells what became of it."""

import asyncio
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn

from cli import fleet_file, load_report
from cli.commands.options import DataOption, JsonOption
from cli.failures import EXIT_USAGE, CliError
from cli.fleet_folder import data_folder
from cli.load_packages import MISSING_PACKAGES
from cli.load_report import Asked
from cli.output import console, print_json
from services.shared.channels import Peer, read_token

if TYPE_CHECKING:
    from loadtest.open_loop.result import LoadResult
    from loadtest.open_loop.spec import LoadSpec
    from loadtest.workloads.deploy import Functions

EXIT_VOID = 3
EXIT_INTERRUPTED = 130
_HOST = "127.0.0.1"
_HTTP_PORT, _GRPC_PORT = 9_000, 9_001
# Options that are not called as the fields behind them.
_OPTIONS = {"per_second": "rate"}
# Without a terminal, what is waited for is said so often.
_SAY_SECONDS = 10.0


def load(
    rate: Annotated[float, typer.Option(metavar="N", help="Events a second, on average.")] = 100.0,
    seconds: Annotated[float, typer.Option(help="Length of the schedule.")] = 10.0,
    warm_up: Annotated[float, typer.Option(help="Of it, sent and not counted, in seconds.")] = 0.0,
    door: Annotated[str, typer.Option(metavar="http|grpc|stream", help="Which door.")] = "http",
    sync: Annotated[bool, typer.Option("--sync", help="Wait for each result.")] = False,
    drivers: Annotated[int, typer.Option(help="Processes that send.")] = 1,
    callers: Annotated[
        int, typer.Option(help="A closed loop instead of the schedule's times: so many callers. 0: none.")
    ] = 0,
    in_flight: Annotated[int, typer.Option(help="Most requests under way; sends beyond are dropped.")] = 2_000,
    arrivals: Annotated[
        str, typer.Option(metavar="SHAPE", help="constant, poisson, bursts, diurnal, steps or herd.")
    ] = "poisson",
    seed: Annotated[str, typer.Option(help="The same seed, the same schedule.")] = "1",
    tenants: Annotated[int, typer.Option(help="How many tenants send.")] = 1,
    skew: Annotated[
        str, typer.Option(metavar="SKEW", help="Of the traffic over tenants: uniform, zipf or lognormal.")
    ] = "uniform",
    noisy: Annotated[float, typer.Option(help="Part of all traffic that one more tenant has, 0 to below 1.")] = 0.0,
    replay: Annotated[
        str, typer.Option(metavar="FILE", help="An Azure Functions trace (2019, 2021) instead of --arrivals.")
    ] = "",
    sleep_ms: Annotated[float, typer.Option(help="Handlers sleep so long.")] = 0.0,
    burn_ms: Annotated[float, typer.Option(help="Handlers use so much CPU time.")] = 0.0,
    allocate_mib: Annotated[int, typer.Option(help="Handlers touch so much memory.")] = 0,
    fail_rate: Annotated[float, typer.Option(help="Part of the events whose handler fails, 0 to 1.")] = 0.0,
    pad_bytes: Annotated[int, typer.Option(help="Bytes added to each payload.")] = 0,
    pad_bytes_max: Annotated[int, typer.Option(help="Payloads of --pad-bytes to this, drawn evenly.")] = 0,
    retries: Annotated[int, typer.Option(help="Of events whose handler failed, 0 to 2.")] = 0,
    destination_on: Annotated[
        str, typer.Option(metavar="success|failure", help="These outcomes go to a function that sleeps.")
    ] = "",
    destination_sleep_ms: Annotated[float, typer.Option(help="For so long.")] = 1_000.0,
    function: Annotated[
        str,
        typer.Option(metavar="NAME", help="A function that is there already. Default: `load`, deployed if missing."),
    ] = "",
    data: DataOption = None,
    host: Annotated[
        str, typer.Option(help="Doors of another fleet, whose function `load` (or --function) is there already.")
    ] = "",
    http_port: Annotated[int, typer.Option(help="With --host.")] = _HTTP_PORT,
    grpc_port: Annotated[int, typer.Option(help="With --host.")] = _GRPC_PORT,
    as_json: JsonOption = False,
) -> None:
    """Send events at their times, whatever becomes of them, and tell latencies from the intended send.

    Exit code 1: events were refused, unanswered, dropped or never started. 3: the run is void, since the generator and
    not the fleet was the bottleneck.
    """
    with _interruptible():
        try:
            from loadtest.arrivals.shapes import Shape
            from loadtest.open_loop import result
            from loadtest.open_loop.spec import LoadSpec, Traffic
            from loadtest.option_names import by_option
            from loadtest.workloads.deploy import Functions
            from loadtest.workloads.work import RUN_BITS, Work
        except ImportError:
            raise CliError(MISSING_PACKAGES) from None
        try:
            _check(seconds, noisy, pad_bytes, pad_bytes_max)
            if not host and (http_port, grpc_port) != (_HTTP_PORT, _GRPC_PORT):
                raise ValueError(
                    "--http-port and --grpc-port go with --host; else the fleet of the data folder is used"
                )
            spec = LoadSpec(
                host=host or _HOST,
                http_port=http_port,
                grpc_port=grpc_port,
                door=door,
                synchronous=sync,
                function=function or "load",
                traffic=Traffic(Shape(arrivals, rate), seconds, seed, tenants, skew, noisy, replay),
                work=Work(sleep_ms, burn_ms, allocate_mib, fail_rate, pad_bytes, pad_bytes_max),
                run=secrets.randbits(RUN_BITS),
                shares_clock=not host,
                warm_up_seconds=warm_up,
                in_flight=in_flight,
                drivers=drivers,
                # The records' folder, without which callers of asynchronous events are refused, is known below.
                callers=0,
            )
            functions = Functions(
                retries=retries, destination_on=destination_on, destination_sleep_ms=destination_sleep_ms
            )
            found = asyncio.run(_drive(spec, functions, data, callers, is_own=not host, deploys=not function))
        except ValueError as e:
            raise CliError(by_option(str(e), _OPTIONS), EXIT_USAGE) from None
        except TimeoutError as e:
            # Before OSError, which it is one of.
            raise CliError(f"the fleet did not answer in time: {e}".removesuffix(": ")) from None
        except OSError as e:
            raise CliError(f"{e.filename or ''}: {e.strerror or e}".removeprefix(": "), EXIT_USAGE) from None
    if as_json:
        print_json(result.as_json(found))
    else:
        _print(found, Asked(callers, sync, function, host))
    _end(found, Asked(callers, sync, function, host))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Around all that takes time: Ctrl-C ends it with a line."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted: nothing is reported", file=sys.stderr, flush=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _check(seconds: float, noisy: float, pad_bytes: int, pad_bytes_max: int) -> None:
    """ValueError: what the spec does not refuse, or not in words of an option."""
    if not seconds > 0:
        raise ValueError(f"--seconds must be above 0, not {seconds:g}")
    if not 0 <= noisy < 1:
        raise ValueError(f"--noisy must be at least 0 and below 1, not {noisy:g}")
    if 0 < pad_bytes_max < pad_bytes:
        raise ValueError(f"--pad-bytes-max must be at least --pad-bytes, {pad_bytes}, not {pad_bytes_max}")


def _end(found: "LoadResult", asked: Asked) -> None:
    """Exit: the run is void. CliError: events were lost."""
    lost = load_report.failure(found, asked)
    if found.void:
        if lost:
            print(lost, file=sys.stderr, flush=True)
        raise typer.Exit(EXIT_VOID)
    if lost:
        raise CliError(lost)


async def _drive(
    spec: "LoadSpec", functions: "Functions", data: Path | None, callers: int, *, is_own: bool, deploys: bool
) -> "LoadResult":
    from dataclasses import replace

    from loadtest.arrivals.traffic import schedule, tenants_of
    from loadtest.open_loop.drivers import DriverFailed
    from loadtest.open_loop.run import run
    from loadtest.workloads import deploy
    from loadtest.workloads.handler import BUCKET
    from loadtest.workloads.record_reader import TooManyFiles

    senders = tenants_of(spec.traffic)
    if senders > 1 and not (is_own and deploys):
        raise CliError(
            "--tenants and --noisy make tenants with keys: they need the fleet's own data folder", EXIT_USAGE
        )
    # Before anything is put on the fleet: a schedule that cannot be made changes nothing there.
    told = await asyncio.to_thread(schedule, spec.traffic, spec.warm_up_seconds)
    if is_own:
        fleet = fleet_file.running(data_folder(data))
        (_, http_port), (_, grpc_port) = (_address(one) for one in (fleet.http, fleet.grpc))
        host = _address(fleet.http)[0]
        spec = replace(spec, host=host, http_port=http_port, grpc_port=grpc_port)
        if deploys:
            spec = replace(spec, records=str(Path(fleet.data_dir) / "buckets" / BUCKET))
            control = next(iter(fleet.of_role("control").values()), None)
            if control is None:
                raise CliError("this fleet has no control here to put the function on")
            functions = functions.sized_for(spec.work, float(told.work_ms.max(initial=0.0)))
            peer = Peer.dial(control.target, read_token(fleet.token_file))
            try:
                spec = replace(spec, keys=await deploy.put(peer, senders, functions))
            finally:
                await peer.close()
    if callers and not (spec.synchronous or spec.records):
        raise CliError("--callers needs --sync, or the function `load` of a fleet on this machine", EXIT_USAGE)
    spec = replace(spec, callers=callers)
    try:
        with tempfile.TemporaryDirectory(prefix="evenflow-load-") as folder, _progress(spec) as shown:
            return await run(spec, Path(folder), shown.sent, schedule=told, waiting=shown.waiting)
    except (DriverFailed, TooManyFiles) as e:
        raise CliError(str(e)) from None


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.removeprefix("http://").rpartition(":")
    return host.strip("[]"), int(port)


class _Shown:
    """How far a run is: on a bar, and without one in lines."""

    def __init__(self, bar: Progress, task: TaskID, spec: "LoadSpec") -> None:
        self._bar = bar
        self._task = task
        self._spec = spec
        self._said_at = float("-inf")

    def sent(self, part: float) -> None:
        """So much of the schedule's time is over, 0 to 1."""
        what = "sending" if part < 1 else "waiting for the last answers"
        self._bar.update(self._task, completed=part * self._spec.traffic.seconds, description=what)

    def waiting(self, what: str) -> None:
        """All is sent; what a run waits for."""
        line = f"waiting for {what}, at most {self._spec.drain_seconds:g} s; retries come after retry.base_seconds"
        self._bar.update(self._task, description=line)
        now = time.monotonic()
        if not self._bar.console.is_terminal and now >= self._said_at + _SAY_SECONDS:
            self._said_at = now
            print(line, file=sys.stderr, flush=True)


@contextmanager
def _progress(spec: "LoadSpec") -> Iterator[_Shown]:
    """A bar on standard error, where that is a terminal."""
    shown = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bar:
        yield _Shown(bar, bar.add_task("starting", total=spec.traffic.seconds), spec)


def _print(found: "LoadResult", asked: Asked) -> None:
    out = console()
    load_report.show(found, asked, out)
    for reason in found.void:
        out.print(f"[bold red]VOID[/] {reason}")
    if found.void:
        out.print("void: this measured the generator, not the fleet; the tables count for nothing")
