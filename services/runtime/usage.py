"""What every function used on this host, by UTC day: the numbers that a bill is made of. Pure: days and times in."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

NS_PER_DAY = 86_400 * 1_000_000_000
# Further functions of a day are counted together for each tenant, and beyond twice as many all together.
MAX_ROWS_A_DAY = 10_000
# Days that are kept one by one; older ones are folded into one row for each tenant.
MAX_DAYS = 92
UsageKey = tuple[str, str]
# The day of what was folded: before all days.
FOLDED_DAY = 0


@dataclass(slots=True)
class UsageRow:
    """Of one function and day. Whole numbers only: their sums are exact.

    invocations: runs, failed ones and retries included. billed_ms: each run rounded up to a millisecond. mb_ms: the sum
    of memory size times billed_ms. request_units: see services/policy/prices.py. init_ms: loading handlers; not billed.
    """

    invocations: int = 0
    billed_ms: int = 0
    mb_ms: int = 0
    request_units: int = 0
    errors: int = 0
    init_ms: int = 0

    def add(self, other: "UsageRow") -> None:
        """Count both together."""
        for one in fields(UsageRow):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def values(self) -> list[int]:
        """In the order of the fields."""
        return [getattr(self, one.name) for one in fields(UsageRow)]


class UsageLedger:
    """Counts; one dictionary look-up a run. `changed`: days that are to be saved, cleared by whoever saves them."""

    def __init__(self) -> None:
        self.changed: set[int] = set()
        # The last day that was folded; nothing is counted for it or before it any more.
        self.folded_through = 0
        self._days: dict[int, dict[UsageKey, UsageRow]] = {}
        self._day = -1
        self._rows: dict[UsageKey, UsageRow] = {}

    def ran(self, key: UsageKey, at_ns: int, memory_mb: int, billed_ms: int, units: int, *, is_error: bool) -> None:
        """A run ended; at_ns: when it began, wall time."""
        row = self._row(key, at_ns)
        row.invocations += 1
        row.billed_ms += billed_ms
        row.mb_ms += memory_mb * billed_ms
        row.request_units += units
        row.errors += is_error

    def initialised(self, key: UsageKey, at_ns: int, init_ms: int) -> None:
        """A handler was loaded."""
        self._row(key, at_ns).init_ms += init_ms

    def _row(self, key: UsageKey, at_ns: int) -> UsageRow:
        day = at_ns // NS_PER_DAY
        if day != self._day:
            self._turn_to(day)
        self.changed.add(self._day)
        row = self._rows.get(key)
        if row is None:
            rows = self._rows
            if len(rows) >= MAX_ROWS_A_DAY:
                of_tenant = key[0], ""
                key = of_tenant if of_tenant in rows or len(rows) < 2 * MAX_ROWS_A_DAY else ("", "")
            row = rows.setdefault(key, UsageRow())
        return row

    def _turn_to(self, day: int) -> None:
        self._fold(day)
        # A clock that was set back by months counts on the first day that is still open.
        self._day = max(day, self.folded_through + 1)
        self._rows = self._days.setdefault(self._day, {})

    def put(self, day: int, rows: dict[UsageKey, UsageRow]) -> None:
        """What was saved of a day, at start."""
        self._days[day] = rows

    def rows(self, first_day: int) -> Iterator[tuple[int, UsageKey, UsageRow]]:
        """Everything of that day and later, by day; FOLDED_DAY: all there is."""
        for day in sorted(self._days):
            if day >= first_day:
                for key, row in list(self._days.get(day, {}).items()):
                    yield day, key, row

    def of_day(self, day: int) -> list[tuple[UsageKey, list[int]]]:
        """A day's rows as they are now, to be saved."""
        return [(key, row.values()) for key, row in self._days.get(day, {}).items()]

    def _fold(self, newest: int) -> None:
        """Keep MAX_DAYS days; what is older becomes one row for each tenant."""
        days = sorted({newest, *self._days} - {FOLDED_DAY})
        for day in days[:-MAX_DAYS]:
            folded = self._days.setdefault(FOLDED_DAY, {})
            for (tenant_id, _), row in self._days.pop(day, {}).items():
                folded.setdefault((tenant_id, ""), UsageRow()).add(row)
            self.folded_through = day
            self.changed.add(FOLDED_DAY)
            self.changed.discard(day)


def rows_from(saved: Iterable[tuple[str, str, list[int]]]) -> dict[UsageKey, UsageRow]:
    """Rows as they were saved. ValueError: they are none."""
    rows: dict[UsageKey, UsageRow] = {}
    for tenant_id, function_name, values in saved:
        if len(values) != len(fields(UsageRow)) or not all(type(v) is int and v >= 0 for v in values):
            raise ValueError("a row of usage has whole numbers from 0 up")
        rows[tenant_id, function_name] = UsageRow(*values)
    return rows
