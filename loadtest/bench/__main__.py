"""`python -m loadtest.bench`: runs the bench, prints the table, writes .bench/*.json."""

import asyncio
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import uvloop

from cli.failures import CliError
from loadtest.bench import cold_starts, evenflow_load, faces, machine, report, starts
from loadtest.bench.bystanders import Bystanders
from loadtest.bench.evenflow_fleet import UNTRACED, EvenflowFleet
from loadtest.bench.options import Options, Sizes, parse
from loadtest.bench.peers import nats_server, redis_server
from loadtest.bench.peers.celery_peer import CeleryPeer
from loadtest.bench.peers.huey_peer import HueyPeer
from loadtest.bench.peers.jetstream_peer import JetStreamPeer
from loadtest.bench.peers.peer import Peer
from loadtest.bench.peers.taskiq_peer import TaskiqPeer
from loadtest.bench.results import Results
from loadtest.bench.rounds import Rounds
from loadtest.bench.rows import EVENFLOW
from loadtest.queue_node import measuring as queue_node

ROOT = Path(__file__).resolve().parents[2]
RESULTS_FOLDER = ROOT / ".bench"
PUBLISHED_FOLDER = ROOT / "docs" / "benchmarks"
EXIT_INTERRUPTED = 130
# Of the queue nodes by themselves, in all: as many as `evenflow up` has.
NODE_SHARDS = 8


def say(text: str) -> None:
    """Progress, apart from the result."""
    print(text, file=sys.stderr, flush=True)


def make_peers(folder: Path, results: Results) -> list[Peer]:
    """Those that can run here; a note for those that cannot."""
    peers: list[Peer] = [HueyPeer(folder / "huey")]
    if redis_server.find() is None:
        results.notes.append(
            "taskiq and Celery on Redis skipped: redis-server is not installed (apt-get install redis-server)"
        )
    else:
        peers += [TaskiqPeer(folder / f"redis-{mode}", mode) for mode in redis_server.FSYNC_MODES]
        peers.append(CeleryPeer(folder / "celery"))
    if nats_server.find() is None:
        results.notes.append("NATS JetStream skipped: nats-server is not installed (apt-get install nats-server)")
    else:
        peers.append(JetStreamPeer(folder / "nats"))
    for note in results.notes:
        say(note)
    results.notes.extend(f"{peer.name}: {peer.how}" for peer in peers)
    return peers


async def measure(options: Options, folder: Path, results: Results) -> None:
    """Everything, into `results`; nothing is left running, however it ends."""
    sizes = options.sizes
    if options.starts_only:
        await measure_starts(sizes, results)
        return
    async with AsyncExitStack() as stack:

        async def started(name: str, cold_functions: int, *more: str) -> EvenflowFleet:
            place = folder / name
            place.mkdir()
            fleet = EvenflowFleet(place, cold_functions, (*options.up_arguments, *more))
            # Before the start: one that fails or is interrupted is ended, too.
            stack.push_async_callback(fleet.stop)
            await fleet.start()
            return fleet

        say("starting the fleet")
        fleet = await started("fleet", sizes.cold_functions)
        await starts.measure_idle_fleet(fleet, sizes, results)
        await fleet.deploy()
        await starts.measure_first(fleet, results)
        peers = make_peers(folder, results) if options.with_peers else []
        for peer in peers:
            stack.push_async_callback(peer.stop)
            await peer.start()
        await evenflow_load.warm_up(fleet)
        rounds = Rounds(sizes, results, say)
        await rounds.run(options.repeats, fleet, peers)
        say("warm and cold invokes")
        await starts.measure_door(fleet, sizes, results)
        say("with and without traces")
        untraced = await started("untraced", 0, *UNTRACED)
        await untraced.deploy()
        await evenflow_load.warm_up(untraced)
        await rounds.run_tracing(options.repeats, fleet, untraced)
    say("queue nodes by themselves")
    for _ in range(options.repeats):
        for measure, nodes in (("node", 1), ("two_nodes", 2)):
            found = await queue_node.measure(sizes.node_events, nodes, NODE_SHARDS // nodes)
            for name, rate in found.items():
                rounds.note(f"{measure}_{name}", EVENFLOW, rate)
    await measure_starts(sizes, results)


async def measure_starts(sizes: Sizes, results: Results) -> None:
    """What a runtime host by itself is good for."""
    say("the runtime host by itself")
    await starts.measure_host(sizes, results)
    say("cold starts side by side")
    await cold_starts.measure(sizes, results)


def publish(options: Options, folder: Path, results: Results, seconds: float) -> None:
    """Print, and write the files."""
    about = machine.describe(folder, redis_server.find(), nats_server.find())
    run = {
        "repeats": options.repeats,
        "quick": options.is_quick,
        "seconds": round(seconds),
        "up": list(options.up_arguments),
    }
    kind = "quick run" if options.is_quick else "run"
    results.notes.append(f"{kind} of {options.repeats} repeats, {seconds:.0f} s")
    if options.up_arguments:
        results.notes.append(f"not the fleet of a plain `evenflow up`: {' '.join(options.up_arguments)}")
    results.notes.append("not measured here: 10 million queued events and 10,000 functions (`make growth`)")
    told = json.dumps(report.as_json(results, dict(about), run), indent=1) + "\n"
    RESULTS_FOLDER.mkdir(exist_ok=True)
    path = RESULTS_FOLDER / f"{str(about['time']).replace(':', '')}.json"
    path.write_text(told)
    lines, cpu = report.lines(results), report.cpu_lines(results)
    faces.print_table(lines, cpu, results.notes, dict(about))
    say(f"\nwritten: {path.relative_to(ROOT)}")
    if options.saves:
        PUBLISHED_FOLDER.mkdir(parents=True, exist_ok=True)
        name = options.published_name
        (PUBLISHED_FOLDER / f"{name}.json").write_text(told)
        (PUBLISHED_FOLDER / f"{name}.md").write_text(faces.as_markdown(lines, cpu, results.notes, dict(about)))
        say(f"written: {PUBLISHED_FOLDER.relative_to(ROOT)}/{name}.json and {name}.md")


async def run(options: Options) -> int:
    """Measure and publish; Ctrl-C and SIGTERM end every child first."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def interrupt() -> None:
        # Once: what ends the children must not be interrupted itself.
        if not task.cancelling():
            say("ending what was started")
            task.cancel()

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, interrupt)
    folder = Path(tempfile.mkdtemp(prefix="evenflow-bench-", dir="/tmp"))
    results, began, keeps = Results(), time.monotonic(), options.keeps_data
    bystanders = Bystanders()
    try:
        await measure(options, folder, results)
        # First: it says how far to trust the rest.
        results.notes.insert(0, bystanders.note())
        publish(options, folder, results, time.monotonic() - began)
        return 0
    except asyncio.CancelledError:
        say("interrupted; everything that was started has ended")
        return EXIT_INTERRUPTED
    except (RuntimeError, TimeoutError, OSError, CliError, grpc.aio.AioRpcError) as e:
        keeps = True
        say(f"error: {e or type(e).__name__}")
        return 1
    finally:
        if keeps:
            say(f"data and logs are in {folder}")
        else:
            with contextlib.suppress(OSError):
                shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(uvloop.run(run(parse(sys.argv[1:]))))
