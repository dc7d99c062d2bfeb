"""The repeats: every contestant is visited once a round, in an order that rotates, so that drift hits all alike."""

import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from loadtest.bench import evenflow_load, idle, stats
from loadtest.bench.evenflow_fleet import EvenflowFleet
from loadtest.bench.evenflow_load import Ways
from loadtest.bench.meter import Rate
from loadtest.bench.options import Sizes
from loadtest.bench.peers.peer import Peer
from loadtest.bench.results import Results
from loadtest.bench.rows import EVENFLOW

Visit = Callable[[], Awaitable[None]]
Say = Callable[[str], None]
P50, P99 = 0.5, 0.99
_SEED = 20_260_101


class Rounds:
    """Measures all contestants, round after round, into `results`."""

    def __init__(self, sizes: Sizes, results: Results, say: Say) -> None:
        self._sizes = sizes
        self._results = results
        self._say = say
        self._randomness = random.Random(_SEED)
        # Of all rounds: a p99 of one round's few samples would be its maximum.
        self._idle: dict[tuple[str, str], list[float]] = {}

    async def run(self, repeats: int, fleet: EvenflowFleet, peers: Sequence[Peer]) -> None:
        """So many rounds."""
        evenflow = partial(self._visit_evenflow, fleet)
        visits: list[Visit] = [evenflow, *(partial(self._visit_peer, peer) for peer in peers)]
        for number in range(repeats):
            self._say(f"round {number + 1} of {repeats}")
            at = number % len(visits)
            for visit in visits[at:] + visits[:at]:
                await visit()
        for (measure, contestant), samples in self._idle.items():
            self._results.add(f"{measure}_p99", contestant, stats.quantile(samples, P99))

    async def run_tracing(self, repeats: int, traced: EvenflowFleet, untraced: EvenflowFleet) -> None:
        """The same stretch with and without traces, each first in turn."""
        events = self._sizes.end_to_end_batches
        pair = [("tracing_on", traced), ("tracing_off", untraced)]
        for _ in range(repeats):
            found = {}
            for measure, fleet in pair:
                async with evenflow_load.connected(fleet) as ways:
                    rate = await evenflow_load.end_to_end(fleet, ways.grpc_batches, events)
                self.note(measure, EVENFLOW, rate)
                found[measure] = rate.per_second
            pair.reverse()
            # Pair by pair: what else the machine does drifts, and hits neighbours alike.
            self._results.add("tracing_loss", EVENFLOW, 100 * (1 - found["tracing_on"] / found["tracing_off"]))

    async def _visit_evenflow(self, fleet: EvenflowFleet) -> None:
        async with evenflow_load.connected(fleet) as ways:
            await self._measure_evenflow(fleet, ways)

    async def _measure_evenflow(self, fleet: EvenflowFleet, ways: Ways) -> None:
        sizes = self._sizes
        accepts = (
            ("accept_http", ways.http, sizes.accept_http),
            ("accept_batches", ways.grpc_batches, sizes.accept_batches),
            ("accept_grpc_one", ways.grpc_one_caller, sizes.accept_one_caller),
            ("accept_http_one", ways.http_one_caller, sizes.accept_one_caller),
        )
        for measure, submit, events in accepts:
            self.note(measure, EVENFLOW, await evenflow_load.accept(fleet, submit, events))
        runs = (
            ("end_to_end_batches", ways.grpc_batches, sizes.end_to_end_batches),
            ("end_to_end_http", ways.http, sizes.end_to_end_http),
        )
        for measure, submit, events in runs:
            self.note(measure, EVENFLOW, await evenflow_load.end_to_end(fleet, submit, events))
        for measure, submit in (("idle_http", ways.http_one_caller), ("idle_grpc", ways.grpc_one_caller)):
            samples = await idle.measure(partial(submit, 1), fleet.ticks, sizes.idle_samples, self._randomness)
            self._note_idle(measure, EVENFLOW, samples)

    async def _visit_peer(self, peer: Peer) -> None:
        sizes = self._sizes
        accepts, runs = sizes.accept_peer, sizes.end_to_end_peer
        if peer.is_pipelined:
            accepts, runs = sizes.accept_batches, sizes.end_to_end_batches
        self.note("accept", peer.key, await peer.accept(accepts))
        async with peer.working():
            self.note("end_to_end", peer.key, await peer.end_to_end(runs))
            samples = await idle.measure(peer.submit_one, peer.ticks, sizes.idle_samples, self._randomness)
        self._note_idle("idle", peer.key, samples)

    def note(self, measure: str, contestant: str, rate: Rate) -> None:
        """Keep a rate, and say it."""
        self._results.add_rate(measure, contestant, rate)
        spent = ", ".join(f"{name} {us:g}" for name, us in rate.cpu_us_per_event.items() if us >= 1)
        self._say(
            f"  {contestant} {measure}: {rate.per_second:,.0f} events/s, generator {rate.generator_cpu_percent:.0f} %"
            + (f"; us an event: {spent}" if spent else "")
        )

    def _note_idle(self, measure: str, contestant: str, samples: list[float]) -> None:
        p50 = stats.quantile(samples, P50)
        self._results.add(f"{measure}_p50", contestant, p50)
        self._idle.setdefault((measure, contestant), []).extend(samples)
        self._say(f"  {contestant} {measure}: p50 {p50:.2f} ms, highest {max(samples):.2f} ms")
