"""How many rows each lane has, stored with every change of them: a start looks at the lanes, never at the events."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import apsw

from services.queue.database import Bulk
from services.queue.domain import LANE_SHIFT

if TYPE_CHECKING:
    from services.queue.lanes import Lane

CREATE = """CREATE TABLE lane_counts (
  lane_id INTEGER PRIMARY KEY,
  events INTEGER NOT NULL CHECK (events >= 0),
  delayed INTEGER NOT NULL CHECK (delayed >= 0)
) STRICT, WITHOUT ROWID"""
# What the table must hold, counted.
COUNTED = f"""SELECT lane_id, sum(events) AS events, sum(delayed) AS delayed FROM (
  SELECT sequence >> {LANE_SHIFT} AS lane_id, count(*) AS events, 0 AS delayed FROM events GROUP BY 1
  UNION ALL SELECT lane_id, 0, count(*) FROM delayed GROUP BY 1
) GROUP BY lane_id"""
FILL = f"INSERT INTO lane_counts (lane_id, events, delayed) {COUNTED}"
_STORE = Bulk(
    "INSERT INTO lane_counts (lane_id, events, delayed) VALUES {rows} "
    "ON CONFLICT (lane_id) DO UPDATE SET events = excluded.events, delayed = excluded.delayed",
    3,
)


class LaneChanges:
    """The rows that one transaction adds to and takes from each lane."""

    def __init__(self) -> None:
        self.events: Counter[Lane] = Counter()
        self.delayed: Counter[Lane] = Counter()

    def write(self, connection: apsw.Connection) -> None:
        """Store the new numbers, inside the running transaction, while memory still has the old ones. apsw.Error."""
        values: list[Any] = []
        for lane in self.events.keys() | self.delayed.keys():
            values += (lane.lane_id, lane.depth + self.events[lane], lane.delayed + self.delayed[lane])
        _STORE.run(connection, values)

    def committed(self) -> None:
        """They are durable: the delayed ones change here, the others one by one as their entries do."""
        for lane, change in self.delayed.items():
            lane.delayed += change
