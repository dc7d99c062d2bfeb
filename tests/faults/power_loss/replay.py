"""Replays recordings: thousands of states of the disk, on all cores, each examined."""

import multiprocessing
import os
import random
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.power_loss import examine, mutants, recorder
from tests.faults.power_loss.disk import Disk, Model
from tests.faults.power_loss.promises import Promises
from tests.faults.power_loss.recorder import Kind
from tests.faults.power_loss.recording import Recording

# States that one process examines at a time.
CHUNK_STATES = 200
# One state in so many has a shard's file taken away instead.
MISSING_EVERY = 25
MAX_SAMPLES = 5
# Short: the path of a unix socket below it holds 107 bytes.
FOLDER_PREFIX = "power-loss-"
_POWER_CUTS = (Model.ALL, Model.DROPPED, Model.TORN)


@dataclass(frozen=True, slots=True, order=True)
class State:
    """The disk after a power cut behind so many records; `variant` tells random states of one cut apart."""

    cut: int
    model: Model
    variant: int = 0


@dataclass(slots=True)
class Tally:
    """What was found in many states."""

    states: dict[str, int] = field(default_factory=dict)
    bad_states: int = 0
    lost: int = 0
    undone: int = 0
    corrupt: int = 0
    samples: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Add up."""
        for model, count in other.states.items():
            self.states[model] = self.states.get(model, 0) + count
        self.bad_states += other.bad_states
        self.lost += other.lost
        self.undone += other.undone
        self.corrupt += other.corrupt
        self.samples = (self.samples + other.samples)[:MAX_SAMPLES]

    @property
    def is_good(self) -> bool:
        """Whether every state was as promised."""
        return self.bad_states == 0


def choose(recording: Recording, count: int) -> list[State]:
    """So many states of a recording: every cut in every model if there is room, else a random part of them."""
    rng = random.Random(recording.seed)
    missing = [State(rng.randint(0, recording.records), Model.MISSING, n) for n in range(count // MISSING_EVERY)]
    cuts = range(1, recording.records + 1)
    pairs = [State(cut, model) for cut in cuts for model in _POWER_CUTS]
    wanted = count - len(missing)
    chosen = rng.sample(pairs, min(wanted, len(pairs)))
    # More than there are cuts: the random states have any number of variants.
    more = range(wanted - len(chosen))
    chosen += [State(rng.choice(cuts), Model.TORN, 1 + number) for number in more]
    return sorted(chosen + missing)


def replay(recording: Recording, states: list[State], folder: Path) -> Tally:
    """Examine these states, which are in the order of their cuts, in this process; `folder` is for their disks."""
    tally = Tally()
    records = recorder.read(recording.log)
    disk, promises, at = Disk(), Promises(), 0
    for state in states:
        for record in records[at : state.cut]:
            if record.kind is Kind.MARK:
                promises.apply(record.data)
            else:
                disk.apply(record)
        at = state.cut
        rng = random.Random(f"{recording.seed} {state.cut} {state.variant}")
        examine.write(disk.image(state.model, rng), folder)
        removed = examine.remove_shard(folder, rng) if state.model is Model.MISSING else None
        findings = examine.examine(folder, promises, removed)
        tally.states[state.model] = tally.states.get(state.model, 0) + 1
        if not findings.is_good:
            tally.bad_states += 1
            tally.lost += len(findings.lost)
            tally.undone += len(findings.undone)
            tally.corrupt += len(findings.corrupt)
            first = (findings.corrupt + findings.lost + findings.undone)[0]
            sample = f"seed {recording.seed}, cut {state.cut}, {state.model} ({state.variant}): {first}"
            tally.samples = [*tally.samples, sample][:MAX_SAMPLES]
    return tally


def replay_all(recordings: list[Recording], states: int, mutant: str = "") -> Tally:
    """Examine so many states, divided over the recordings, on all cores; `mutant` patches the opening code too."""
    tally = Tally()
    with ProcessPoolExecutor(
        os.cpu_count() or 1, multiprocessing.get_context("spawn"), initializer=mutants.apply, initargs=(mutant,)
    ) as pool:
        for found in pool.map(_replay_chunk, _chunks(recordings, states)):
            tally.add(found)
    return tally


def fast_folder() -> Path:
    """Where disks are made: in memory when there is a place for that."""
    in_memory = Path("/dev/shm")
    return in_memory if os.access(in_memory, os.W_OK) else Path(tempfile.gettempdir())


def _chunks(recordings: list[Recording], states: int) -> Iterable[tuple[Recording, list[State]]]:
    for number, recording in enumerate(recordings):
        share = (states + number) // len(recordings)
        chosen = choose(recording, share)
        yield from ((recording, part) for part in _parts(chosen))


def _parts(states: list[State]) -> Iterator[list[State]]:
    for at in range(0, len(states), CHUNK_STATES):
        yield states[at : at + CHUNK_STATES]


def _replay_chunk(chunk: tuple[Recording, list[State]]) -> Tally:
    # Beside the log: whoever removes the recording removes what an interrupted replay left.
    folder = Path(tempfile.mkdtemp(dir=chunk[0].log.parent))
    try:
        return replay(*chunk, folder / "disk")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
