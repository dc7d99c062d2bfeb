"""What time does to events: delayed ones become due, old ones expire, old outcomes and dead letters go.

Each step is bounded, so that a backlog of it never holds up other work; `more` says that there is more at once.
"""

from typing import TYPE_CHECKING, Any

from services.queue import counts, dead_letters
from services.queue.database import Bulk
from services.queue.domain import DUE_SHIFT, LANE_SHIFT, ZONE_SHIFT
from services.queue.intake import SET_ZONE
from services.queue.lane_counts import LaneChanges
from services.queue.lanes import ENTRY_COLUMNS, Lane, entry_from, zone_of
from services.queue.states import State
from services.queue.transitions import Input, transition

if TYPE_CHECKING:
    from services.queue.shard import Shard

DUE_BATCH = 500
DUE_BATCH_BYTES = 8 << 20
EXPIRY_BATCH = 500
# A zone is 4,096 events, a few milliseconds to read: between two of them others have their turn.
ZONE_BATCH = 2
NEVER_MS = 1 << 62
_DUE_ROW = transition(State.DELAYED, Input.DUE)
_DUE = f"SELECT delayed_id, lane_id, {ENTRY_COLUMNS} FROM delayed WHERE delayed_id < ? ORDER BY delayed_id LIMIT ?"
_INSERT = Bulk(f"INSERT INTO events (sequence, {ENTRY_COLUMNS}) VALUES {{rows}}", 17)
_DELETE_DUE = Bulk("DELETE FROM delayed WHERE delayed_id IN ({rows})", 1)
_ZONES = "SELECT zone, expires_at_ms FROM expiry_zones WHERE expires_at_ms <= ? ORDER BY expires_at_ms LIMIT ?"
_IN_ZONE = "SELECT sequence, expires_at_ms FROM events WHERE sequence BETWEEN ? AND ?"
_ENTRY = f"SELECT sequence, {ENTRY_COLUMNS} FROM events WHERE sequence = ?"
_NEXT_DUE = f"SELECT delayed_id >> {DUE_SHIFT} FROM delayed ORDER BY delayed_id LIMIT 1"
_NEXT_EXPIRY = "SELECT min(expires_at_ms) FROM expiry_zones"


def next_due_ms(shard: "Shard") -> int:
    """When the next delayed event is due."""
    found = shard.database.value(_NEXT_DUE)
    return NEVER_MS if found is None else int(found)


def next_expiry_ms(shard: "Shard") -> int:
    """When an event may expire next."""
    found = shard.database.value(_NEXT_EXPIRY)
    return NEVER_MS if found is None else int(found)


def move_due(shard: "Shard") -> bool:
    """Make due events available, last in their lanes; whether there are more."""
    bound = (shard.now_ms + 1) << DUE_SHIFT
    rows: list[tuple[Any, ...]] = []
    size = 0
    for row in shard.database.connection.execute(_DUE, (bound, DUE_BATCH)):
        rows.append(row)
        size += len(row[-1])
        if size >= DUE_BATCH_BYTES:
            break
    if rows:
        lanes = [shard.lanes.get_by_id(row[1]) for row in rows]
        sequences = [lane.next_sequence() for lane in lanes]
        values: list[Any] = []
        zones: dict[int, int] = {}
        for row, sequence in zip(rows, sequences, strict=True):
            values += (sequence, *row[2:])
            zone = zone_of(sequence)
            zones[zone] = min(row[3], zones.get(zone, row[3]))
        changes = LaneChanges()
        changes.events.update(lanes)
        changes.delayed.subtract(lanes)
        with shard.transaction():
            _INSERT.run(shard.database.connection, values)
            _DELETE_DUE.run(shard.database.connection, [row[0] for row in rows])
            shard.database.connection.executemany(SET_ZONE, list(zones.items()))
            changes.write(shard.database.connection)
        changes.committed()
        now_ns = shard.wall_ns()
        for row, lane, sequence in zip(rows, lanes, sequences, strict=True):
            entry = entry_from((sequence, *row[2:]), lane)
            entry.available_ns = now_ns
            shard.lanes.appended(lane, entry)
        # Those with a handover move the same numbers: they had it before.
        counts.moved(shard, _DUE_ROW, len(rows))
        shard.next_expiry_ms = min(shard.next_expiry_ms, *zones.values())
    shard.next_due_ms = next_due_ms(shard)
    return shard.next_due_ms <= shard.now_ms


def claim_expired(shard: "Shard") -> bool:
    """Set aside available events past their age, to be leased before all others; whether there may be more."""
    if len(shard.expired) >= EXPIRY_BATCH:
        return False
    connection, now_ms = shard.database.connection, shard.now_ms
    updates: list[tuple[int, int]] = []
    done: list[tuple[int]] = []
    touched: set[Lane] = set()
    zones = shard.database.rows(_ZONES, (now_ms, ZONE_BATCH))
    for zone, _ in zones:
        if len(shard.expired) >= EXPIRY_BATCH:
            break
        first = zone << ZONE_SHIFT
        earliest = NEVER_MS
        for sequence, expires_at_ms in shard.database.rows(_IN_ZONE, (first, first + (1 << ZONE_SHIFT) - 1)):
            is_due = expires_at_ms <= now_ms and sequence not in shard.leases and sequence not in shard.claimed
            if is_due and len(shard.expired) < EXPIRY_BATCH:
                row = shard.database.rows(_ENTRY, (sequence,))[0]
                lane = shard.lanes.get_by_id(sequence >> LANE_SHIFT)
                entry = entry_from(row, lane)
                entry.event = None
                entry.state = transition(entry.state, Input.AGE_OVER).after
                shard.expired.append(entry)
                shard.claimed.add(sequence)
                touched.add(lane)
            if expires_at_ms <= now_ms:
                # Leased or set aside, now or before: look again when that lease could have ended unsettled.
                earliest = min(earliest, now_ms + shard.settings.visibility_timeout_ms)
            else:
                earliest = min(earliest, expires_at_ms)
        if earliest == NEVER_MS:
            done.append((zone,))
        else:
            updates.append((earliest, zone))
    for lane in touched:
        shard.lanes.remove_claimed(lane, shard.claimed)
    if done or updates:
        with shard.transaction():
            connection.executemany("DELETE FROM expiry_zones WHERE zone = ?", done)
            connection.executemany("UPDATE expiry_zones SET expires_at_ms = ? WHERE zone = ?", updates)
        for lane in shard.lanes.by_key.values():
            # The zone that a lane writes to may just have been changed on disk.
            lane.zone = -1
    shard.next_expiry_ms = next_expiry_ms(shard)
    return shard.next_expiry_ms <= now_ms and len(shard.expired) < EXPIRY_BATCH


def drop_old(shard: "Shard") -> bool:
    """Drop outcomes and dead letters that were kept long enough; whether there are more of them."""
    for bucket_id in shard.outcomes.overdue(shard.now_ms):
        with shard.transaction():
            shard.outcomes.drop(bucket_id)
        shard.outcomes.dropped(bucket_id)
    before_ms = shard.now_ms - shard.settings.dead_letter_keep_seconds * 1_000
    if not shard.dead_count or not dead_letters.any_before(shard, before_ms):
        return False
    with shard.transaction():
        expired = dead_letters.expire(shard, before_ms)
    return expired()
