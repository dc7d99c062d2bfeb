"""Opens a disk as the product does after a power cut, and looks for everything that was promised."""

import random
import shutil
from pathlib import Path

import apsw
from evenflow.common.v1 import event_pb2

from services.queue import identity
from services.queue.database import Database
from services.queue.identity import Manifest, ShardDamaged
from services.queue.sessions import Sessions
from services.queue.shard import Shard
from services.shared import ids
from services.shared.clock import SystemClock
from tests.faults.power_loss.disk import Image
from tests.faults.power_loss.node import settings_for
from tests.faults.power_loss.promises import (
    AVAILABLE,
    DEAD,
    DELAYED,
    DELAYED_HANDOVER,
    ENDED,
    HANDOVER,
    Findings,
    Promises,
    judge,
    payload_of,
)

# Rows that carry the event itself, with the place that they stand for.
_IN_HANDOVER = "CASE WHEN handover IS NULL THEN '{}' ELSE '{}' END"
_KEPT = (
    f"SELECT request_id, {_IN_HANDOVER.format(AVAILABLE, HANDOVER)}, event FROM events",
    f"SELECT request_id, {_IN_HANDOVER.format(DELAYED, DELAYED_HANDOVER)}, event FROM delayed",
    f"SELECT request_id, '{DEAD}', event FROM dead_letters",
)


def write(image: Image, folder: Path) -> None:
    """Make the folder hold exactly this."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in image.folders:
        (folder / name).mkdir()
    for name, content in image.files.items():
        (folder / name).write_bytes(content)


def node_folder(disk: Path) -> Path:
    """Where the node keeps its shards on this disk."""
    settings = settings_for(disk)
    return Path(settings.data_dir) / "queue" / settings.node_id


def remove_shard(disk: Path, rng: random.Random) -> int | None:
    """Take one shard's file away, as an accident would; returns which, None when there was none."""
    paths = sorted(node_folder(disk).glob("shard-*.db"))
    if not paths:
        return None
    path = rng.choice(paths)
    for suffix in ("", "-wal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    return int(path.stem.rpartition("-")[2])


def examine(disk: Path, promises: Promises, removed: int | None = None) -> Findings:
    """Open every shard of the map and compare; `removed`: this shard's file was taken away and must be missed."""
    findings = Findings()
    folder = node_folder(disk)
    # As `Shards` does when a node starts.
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, str] = {}
    quarantined: set[int] = set()
    try:
        manifest = Manifest(folder)
    except ShardDamaged as e:
        findings.corrupt.append(str(e))
        return findings
    for shard_id in range(promises.shards):
        try:
            database = identity.open_verified(folder, shard_id, manifest, settings_for(disk).cache_bytes)
        except (ShardDamaged, apsw.Error, OSError, ValueError) as e:
            quarantined.add(shard_id)
            if shard_id != removed or not isinstance(e, ShardDamaged):
                findings.corrupt.append(f"shard {shard_id} is quarantined: {e}")
            continue
        try:
            _examine_shard(disk, shard_id, database, found, findings)
        except apsw.Error as e:
            findings.corrupt.append(f"shard {shard_id} cannot be read: {e}")
        finally:
            database.close()
    # What is in a file that was refused is neither lost nor found.
    excused = {event_id for event_id in promises.events if ids.shard_of(bytes.fromhex(event_id)) in quarantined}
    judge(promises, found, excused, findings)
    return findings


def _examine_shard(disk: Path, shard_id: int, database: Database, found: dict[str, str], findings: Findings) -> None:
    shard = Shard(shard_id, database, settings_for(disk), SystemClock(), Sessions(), boot_number=1)
    answer = database.value("PRAGMA integrity_check(1)")
    if answer != "ok":
        findings.corrupt.append(f"shard {shard_id}: integrity_check says {answer}")
    for sql in _KEPT:
        for request_id, place, stored in database.rows(sql):
            event_id = request_id.hex()
            found[event_id] = found.get(event_id, "") + place
            payload = event_pb2.Event.FromString(stored).payload
            if payload != payload_of(event_id, len(payload) - 2):
                findings.corrupt.append(f"the payload of {event_id} is damaged")
    for bucket_id in shard.outcomes.bucket_ids:
        for (request_id,) in database.rows(f"SELECT request_id FROM outcomes_{bucket_id}"):
            event_id = request_id.hex()
            found[event_id] = found.get(event_id, "") + ENDED
    live = len(database.rows("SELECT 1 FROM events")) + len(database.rows("SELECT 1 FROM delayed"))
    if shard.depth != live:
        findings.corrupt.append(f"shard {shard_id} counts {shard.depth} events and has {live}")
    # It serves: time passes once.
    shard.drain([])
