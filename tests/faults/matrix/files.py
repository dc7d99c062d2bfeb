"""A shard's file that is removed or cut under the running node, and the documented way back."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

from services.shared import ids
from tests.faults.matrix.cell import Cell
from tests.faults.matrix.rig import Rig

BETWEEN_EVENTS = 400
PAGE_BYTES = 4_096
# With so few pages of WAL most of a shard is in its file, where a cut meets it.
CHECKPOINT_PAGES = 16
_RESCUED = re.compile(r"shard-\d{4}\.rescued-.+\.db")


def _choose(rig: Rig) -> tuple[int, Path]:
    row = rig.draw.choice([row for row in rig.shards() if row["depth"] or row["accepted_total"]])
    shard_id = int(row["shard_id"])
    return shard_id, rig.fleet.data / "queue" / str(row["owner"]) / f"shard-{shard_id:04d}.db"


def _wait_quarantined(rig: Rig, shard_id: int, node_id: str) -> None:
    def is_set_aside(rows: list[dict[str, Any]]) -> bool:
        return any(row["shard_id"] == shard_id and row["state"] == "quarantined" for row in rows)

    rig.wait_shards(node_id, is_set_aside, f"shard {shard_id} to be set aside")
    (row,) = [row for row in rig.shards(node_id) if row["shard_id"] == shard_id]
    rig.notes.append(f"shard {shard_id} of {node_id}: {row['state_reason']}")


def _remove(rig: Rig) -> None:
    """The node has saved what it still had open: that file goes in its place."""
    shard_id, path = _choose(rig)
    path.unlink()
    _wait_quarantined(rig, shard_id, path.parent.name)
    rig.wait_acked(BETWEEN_EVENTS)
    rescued = [one for one in path.parent.iterdir() if _RESCUED.fullmatch(one.name)]
    if len(rescued) != 1:
        rig.broken.append(f"{len(rescued)} files were rescued, not one")
        return
    shutil.move(rescued[0], path)
    Path(f"{path}-wal").unlink(missing_ok=True)
    said = rig.fleet.cli("shards", "reopen", str(shard_id))
    rig.notes.append(f"shard {shard_id} back: {said.strip()}")
    rig.wait_acked(BETWEEN_EVENTS)


def _cut(rig: Rig) -> None:
    """The last quarter is gone: a repair keeps what is left and says what it knows to be lost."""
    shard_id, path = _choose(rig)
    size = path.stat().st_size
    os.truncate(path, size // 4 * 3 // PAGE_BYTES * PAGE_BYTES)
    rig.notes.append(f"shard {shard_id}: its file cut from {size} to {path.stat().st_size} bytes")
    _wait_quarantined(rig, shard_id, path.parent.name)
    rig.wait_acked(BETWEEN_EVENTS)
    told = rig.fleet.cli_json("shards", "repair", str(shard_id))
    rig.named_lost |= {ids.from_text(one) for named in told["lost_ids"].values() for one in named}
    rig.damaged_shards.add(shard_id)
    kept = ", ".join(f"{count} {table}" for table, count in told["kept"].items())
    lost = ", ".join(f"{count} {table}" for table, count in told["lost_ids_total"].items()) or "none"
    rig.notes.append(f"repaired: kept {kept}; named as lost: {lost}; it held {told['last_known']}")
    rig.wait_acked(BETWEEN_EVENTS)


CELLS = (
    Cell(
        "shard-file-removed",
        "set aside, never silently empty; the rescued file and `shards reopen` bring every event back",
        _remove,
    ),
    Cell(
        "shard-file-cut",
        "set aside, the rest served; `shards repair` names what is lost",
        _cut,
        settings={"queue.checkpoint_pages": str(CHECKPOINT_PAGES)},
    ),
)
