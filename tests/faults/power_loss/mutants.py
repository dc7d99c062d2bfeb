"""Queue nodes that break one promise each, made by patching the product's classes; only ever applied in processes of their own.

The harness has to catch every one of them: that proves that it would see the like in the product.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.queue import identity, settlement, shards
from services.queue.database import Database
from services.queue.domain import Action, EnqueueBatch, EnqueueResult, Settle, SettleBatch, SettleResult
from services.queue.shard import Shard
from services.queue.transitions import Next

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

    Database.__init__ = init  # type: ignore[method-assign]


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

    shards.Shards.__init__ = init  # type: ignore[method-assign]
    Shard.drain = early  # type: ignore[method-assign]


def _no_fencing() -> None:
    add = settlement.Settlement.add

    def unfenced(self: settlement.Settlement, batches: list[SettleBatch]) -> None:
        for batch in batches:
            for settle in batch.settles:
                entry = self._shard.leases.get(settle.sequence)
                if entry is not None:
                    settle.fence = entry.fence
        add(self, batches)

    settlement.Settlement.add = unfenced  # type: ignore[method-assign]


def _delete_before_destination() -> None:
    decide = settlement.next_state

    def hasty(settle: Settle) -> Next:
        return Next.FINISHED if settle.action is Action.HANDOVER else decide(settle)

    settlement.next_state = hasty  # type: ignore[attr-defined]


def _empty_shard_on_missing_file() -> None:
    verified = identity.open_verified

    def forgiving(directory: Path, shard_id: int, manifest: identity.Manifest, cache_bytes: int) -> Database:
        record = manifest.records.get(shard_id)
        if record is not None and not identity.shard_path(directory, shard_id).exists():
            record.created = False
        return verified(directory, shard_id, manifest, cache_bytes)

    identity.open_verified = forgiving
    shards.open_verified = forgiving  # type: ignore[attr-defined]


def _manifest_not_synced() -> None:
    def save(self: identity.Manifest) -> None:
        kept = identity.os.fsync
        identity.os.fsync = lambda _descriptor: None  # type: ignore[assignment]
        try:
            saved(self)
        finally:
            identity.os.fsync = kept

    saved = identity.Manifest.save
    identity.Manifest.save = save  # type: ignore[method-assign]


def _names_not_synced() -> None:
    identity.sync_directory = lambda _path: None  # type: ignore[assignment]


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
