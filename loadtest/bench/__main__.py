"""`python -m loadtest.bench`: runs the bench, prints the table, writes .bench/*.json.

Exit codes: 0; 1 it could not be measured; faces.EXIT_REGRESSION a whole run found a regression, which its end names.
"""

import sys
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from loadtest.bench import cold_starts, evenflow_load, faces, fleet_run, history, machine, regression, report, starts
from loadtest.bench.evenflow_fleet import UNTRACED, EvenflowFleet
from loadtest.bench.fleet_run import ROOT, FleetRun, say
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

RESULTS_FOLDER = ROOT / ".bench"
HISTORY = fleet_run.PUBLISHED_FOLDER / "history.jsonl"
# Of the queue nodes by themselves, in all: as many as `evenflow up` has.
NODE_SHARDS = 8


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
            return await EvenflowFleet.started(stack, folder / name, cold_functions, (*options.up_arguments, *more))

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


def publish(options: Options, run: FleetRun, results: Results) -> list[str]:
    """Print, and write the files; the titles of the rows that are a regression."""
    about = {**run.machine(), **machine.describe_peers(redis_server.find(), nats_server.find())}
    asked = {
        "repeats": options.repeats,
        "quick": options.is_quick,
        "seconds": round(run.seconds),
        "up": list(options.up_arguments),
    }
    # First: it says how far to trust the rest.
    results.notes.insert(0, run.bystanders_note())
    kind = "quick run" if options.is_quick else "run"
    results.notes.append(f"{kind} of {options.repeats} repeats, {run.seconds:.0f} s")
    if options.up_arguments:
        results.notes.append(f"not the fleet of a plain `evenflow up`: {' '.join(options.up_arguments)}")
    results.notes.append("not measured here: 10 million queued events and 10,000 functions (`make growth`)")
    facts = report.as_json(results, about, asked)
    RESULTS_FOLDER.mkdir(exist_ok=True)
    path = RESULTS_FOLDER / f"{str(about['time']).replace(':', '')}.json"
    path.write_text(fleet_run.as_text(facts))
    saved = history.of_report(facts)
    before = history.like(history.read(HISTORY), saved)
    changes = regression.compare(saved, before)
    results.notes.append(regression.note(before, changes))
    lines, cpu = report.lines(results, changes), report.cpu_lines(results)
    faces.print_table(lines, cpu, results.notes, about)
    say(f"\nwritten: {path.relative_to(ROOT)}")
    if options.saves:
        fleet_run.publish(options.published_name, facts, faces.as_markdown(lines, cpu, results.notes, about))
        if not options.starts_only:
            history.append(HISTORY, saved)
            say(f"added: a line of {HISTORY.relative_to(ROOT)}")
    return regression.worse(changes)


async def run(options: Options) -> int:
    """Measure and publish; whatever happens, every child is ended first."""
    if options.history_only:
        faces.print_history(history.read(HISTORY))
        return 0

    async def work(run: FleetRun) -> int:
        results = Results()
        await measure(options, run.folder, results)
        return faces.conclude(publish(options, run, results), is_quick=options.is_quick)

    return await fleet_run.run_to_end("bench", work, keeps_data=options.keeps_data)


if __name__ == "__main__":
    sys.exit(uvloop.run(run(parse(sys.argv[1:]))))
