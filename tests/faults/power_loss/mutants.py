"""Queue nodes that break one promise each: the product's classes, patched; only ever in processes of their own.

The harness has to catch every one of them: that proves that it would see the like in the product.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.queue import identity, install, paths, settlement, shards, transfer, transitions
from services.queue.database import Database
from services.queue.domain import Action, EnqueueBatch, EnqueueResult, Settle, SettleBatch, SettleResult
from services.queue.shard import Shard
from services.queue.states import State
from services.queue.transitions import Input, Transition

Patch = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Mutant:
    """`breaks`: the promise. `apply` patches the process that it is called in, the node and the replay alike."""

    name: str
    breaks: str
    apply: Patch


def _synchronous_normal() -> None:
    opened = Database.__init__

    def init(self: Database, *args: Any, **kwargs: Any) -> None:
        opened(self, *args, **kwargs)
        self.connection.execute("PRAGMA synchronous = NORMAL")

    _patch(Database, "__init__", init)


def _answer_before_commit() -> None:
    drain = Shard.drain
    loops: list[asyncio.AbstractEventLoop] = []
    made = shards.Shards.__init__

    def init(self: shards.Shards, *args: Any) -> None:
        made(self, *args)
        loops.append(asyncio.get_running_loop())

    def early(self: Shard, commands: list[Any]) -> Any:
        for command in commands:
            result: Any = EnqueueResult() if isinstance(command, EnqueueBatch) else SettleResult()
            if isinstance(command, EnqueueBatch | SettleBatch):
                loops[0].call_soon_threadsafe(command.reply, result)
                command.reply = lambda _result: None
        return drain(self, commands)

    _patch(shards.Shards, "__init__", init)
    _patch(Shard, "drain", early)


def _no_fencing() -> None:
    add = settlement.Settlement.add

    def unfenced(self: settlement.Settlement, batches: list[SettleBatch]) -> None:
        for batch in batches:
            found = [(settle, self._shard.leases.get(settle.sequence)) for settle in batch.settles]
            batch.settles = [s if entry is None else s._replace(fence=entry.fence) for s, entry in found]
        add(self, batches)

    _patch(settlement.Settlement, "add", unfenced)


def _delete_before_destination() -> None:
    decide = transitions.settled

    def hasty(state: State, settle: Settle) -> Transition:
        if settle.action is Action.HANDOVER:
            return transitions.transition(state, Input.ACK, True)
        return decide(state, settle)

    _patch(settlement, "settled", hasty)


def _empty_shard_on_missing_file() -> None:
    verified = identity.open_verified

    def forgiving(directory: Path, shard_id: int, manifest: identity.Manifest, cache_bytes: int) -> Database:
        record = manifest.records.get(shard_id)
        if record is not None and not identity.shard_path(directory, shard_id).exists():
            record.created = False
        return verified(directory, shard_id, manifest, cache_bytes)

    _patch(identity, "open_verified", forgiving)
    _patch(shards, "open_verified", forgiving)


def _manifest_not_synced() -> None:
    saved, synced = identity.Manifest.save, os.fsync

    def save(self: identity.Manifest) -> None:
        _patch(os, "fsync", lambda _descriptor: None)
        try:
            saved(self)
        finally:
            _patch(os, "fsync", synced)

    _patch(identity.Manifest, "save", save)


def _names_not_synced() -> None:
    synced = paths.sync_directory

    def sync(path: Path) -> None:
        # The folders above stay synced: without them nothing would be left to look at.
        if not (path / "manifest.json").exists():
            synced(path)

    for module in (identity, install, transfer):
        _patch(module, "sync_directory", sync)


def _patch(owner: Any, name: str, value: Any) -> None:
    setattr(owner, name, value)


MUTANTS = (
    Mutant("synchronous-normal", "a commit is on the disk when it is answered", _synchronous_normal),
    Mutant("answer-before-commit", "an answer leaves after the commit", _answer_before_commit),
    Mutant("no-fencing", "a receipt of an earlier lease is refused", _no_fencing),
    Mutant("delete-before-destination", "an event stays until its destination has it", _delete_before_destination),
    Mutant("empty-shard-on-missing-file", "a missing file is never replaced", _empty_shard_on_missing_file),
    Mutant("manifest-not-synced", "the manifest is on the disk before it is relied on", _manifest_not_synced),
    Mutant("names-not-synced", "names are on the disk before they are relied on", _names_not_synced),
)


def apply(name: str) -> None:
    """Patch this process. ValueError: no such mutant; "" is none."""
    if not name:
        return
    for mutant in MUTANTS:
        if mutant.name == name:
            mutant.apply()
            return
    raise ValueError(f"no mutant is called {name}: {', '.join(m.name for m in MUTANTS)}")
