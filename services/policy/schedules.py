"""Schedules as EventBridge writes them: rate() and cron() with six fields, in UTC. Pure; times are handed in.

cron(MINUTES HOURS DAY-OF-MONTH MONTH DAY-OF-WEEK YEAR): values, lists, ranges, steps, names of months and days, ? in
one of the two day fields, L (last), W (nearest weekday), # (nth weekday of the month); EventBridge user guide, "Cron
expressions". Days of the week count from 1 = SUN.
"""

import calendar
import re
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import UTC, datetime

MAX_EXPRESSION_CHARACTERS = 256
MAX_RATE = 1_000_000
MINUTE_MS = 60_000
FIRST_YEAR, LAST_YEAR = 1_970, 2_199
_UNITS_MS = {"minute": MINUTE_MS, "hour": 60 * MINUTE_MS, "day": 1_440 * MINUTE_MS}
_RATE = re.compile(r"rate\(\s*(\d{1,10})\s+([a-z]+)\s*\)")
_CRON = re.compile(r"cron\(([^()]*)\)")
_MONTHS = {
    name: number
    for number, name in enumerate(
        ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"], 1
    )
}
_DAYS = {name: number for number, name in enumerate(["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"], 1)}
SATURDAY = 7


@dataclass(frozen=True, slots=True)
class Rate:
    """Every so often, counted from the schedule's beginning."""

    period_ms: int

    def next_after(self, after_ms: int, begun_ms: int = 0) -> int | None:
        """The first fire later than `after_ms`; never before one period after `begun_ms` is over."""
        periods = max(1, (after_ms - begun_ms) // self.period_ms + 1)
        return begun_ms + periods * self.period_ms


@dataclass(frozen=True, slots=True)
class Cron:
    """By the calendar, in UTC; a day has to be in both `days` and `weekdays`."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: frozenset[int]
    years: frozenset[int]
    days: "_DaysOfMonth"
    weekdays: "_DaysOfWeek"

    def next_after(self, after_ms: int, begun_ms: int = 0) -> int | None:
        """The first fire later than `after_ms` and than `begun_ms`; None: there is none until the year 2199 ends."""
        minute_ms = max(after_ms, begun_ms, -MINUTE_MS) // MINUTE_MS * MINUTE_MS + MINUTE_MS
        if minute_ms >= _END_MS:
            return None
        start = datetime.fromtimestamp(minute_ms / 1_000, UTC)
        for year in range(start.year, LAST_YEAR + 1):
            if year not in self.years:
                continue
            for month in range(start.month if year == start.year else 1, 13):
                if month in self.months and (found := self._in_month(year, month, start)) is not None:
                    return int(found.timestamp()) * 1_000
        return None

    def _in_month(self, year: int, month: int, start: datetime) -> datetime | None:
        first = start.day if (year, month) == (start.year, start.month) else 0
        for day in sorted(self.days.of(year, month) & self.weekdays.of(year, month)):
            if day < first:
                continue
            time = self._in_day(start.hour, start.minute) if day == first else (self.hours[0], self.minutes[0])
            if time is not None:
                return datetime(year, month, day, *time, tzinfo=UTC)
        return None

    def _in_day(self, hour: int, minute: int) -> tuple[int, int] | None:
        """The first time of day at or after this one."""
        at = bisect_left(self.hours, hour)
        if at < len(self.hours) and self.hours[at] == hour:
            within = bisect_left(self.minutes, minute)
            if within < len(self.minutes):
                return hour, self.minutes[within]
            at += 1
        return (self.hours[at], self.minutes[0]) if at < len(self.hours) else None


Schedule = Rate | Cron


def parse(expression: str) -> Schedule:
    """The schedule of rate(VALUE UNIT) or cron(FIELDS). ValueError says what is wrong."""
    if len(expression) > MAX_EXPRESSION_CHARACTERS:
        raise ValueError(f"a schedule has at most {MAX_EXPRESSION_CHARACTERS} characters, not {len(expression)}")
    if (rate := _RATE.fullmatch(expression)) is not None:
        return _rate(int(rate[1]), rate[2])
    if (cron := _CRON.fullmatch(expression)) is not None:
        return _cron(cron[1].split())
    raise ValueError(f"{expression[:80]!r} is no schedule: use rate(5 minutes) or cron(0 12 * * ? *)")


def latest_fire(schedule: Schedule, after_ms: int, until_ms: int, begun_ms: int) -> int | None:
    """The last fire later than `after_ms` and not later than `until_ms`; callers bound the span."""
    found = None
    due_ms = schedule.next_after(after_ms, begun_ms)
    while due_ms is not None and due_ms <= until_ms:
        found, due_ms = due_ms, schedule.next_after(due_ms, begun_ms)
    return found


def _rate(value: int, unit: str) -> Rate:
    singular = unit.removesuffix("s")
    if singular not in _UNITS_MS:
        raise ValueError(f"rate: the unit is minutes, hours or days, not {unit[:40]!r}")
    if not 1 <= value <= MAX_RATE:
        raise ValueError(f"rate: the value is within 1 to {MAX_RATE:,}, not {value:,}")
    wanted = singular if value == 1 else f"{singular}s"
    if unit != wanted:
        raise ValueError(f"rate: {value} goes with {wanted!r}: rate({value} {wanted})")
    return Rate(value * _UNITS_MS[singular])


# --- cron's fields


@dataclass(frozen=True, slots=True)
class _DaysOfMonth:
    numbers: frozenset[int] = frozenset()
    is_last: bool = False
    # Weekdays (Monday to Friday) nearest to these days; 0 stands for the last one of the month.
    nearest: tuple[int, ...] = ()
    is_any: bool = False

    def of(self, year: int, month: int) -> set[int]:
        """The days of a month that are meant."""
        last = calendar.monthrange(year, month)[1]
        days = set(range(1, last + 1))
        if self.is_any:
            return days
        return (
            (days & self.numbers)
            | ({last} if self.is_last else set())
            | {_nearest_weekday(year, month, wanted, last) for wanted in self.nearest if wanted <= last}
        )


@dataclass(frozen=True, slots=True)
class _DaysOfWeek:
    numbers: frozenset[int] = frozenset()
    # The last such day of the month.
    last: frozenset[int] = frozenset()
    # (day of the week, which one of the month).
    nth: frozenset[tuple[int, int]] = frozenset()
    is_any: bool = False

    def of(self, year: int, month: int) -> set[int]:
        """The days of a month that are meant."""
        # Python's Monday is 0, AWS's Sunday is 1.
        first, last = calendar.monthrange(year, month)
        found = set()
        for day in range(1, last + 1):
            weekday = (first + day) % 7 + 1
            if (
                self.is_any
                or weekday in self.numbers
                or (weekday in self.last and day + 7 > last)
                or (weekday, (day + 6) // 7) in self.nth
            ):
                found.add(day)
        return found


@dataclass(frozen=True, slots=True)
class _Field:
    """What one field of a cron expression takes."""

    name: str
    low: int
    high: int
    names: dict[str, int] = field(default_factory=dict)
    has_steps: bool = True

    def values(self, text: str) -> set[int]:
        """The values of one element of a list: a value, a range, * and steps of those."""
        base, slash, step_text = text.partition("/")
        if slash and not self.has_steps:
            raise ValueError(f"cron: {self.name} has no steps: {text[:40]!r}")
        step = self._number(step_text, 1, self.high) if slash else 1
        if base == "*":
            first, last = self.low, self.high
        elif "-" in base:
            first_text, _, last_text = base.partition("-")
            first, last = self.value(first_text), self.value(last_text)
            if first > last:
                raise ValueError(f"cron: {self.name}: the range {base[:40]} goes backwards: list its two parts")
        else:
            first = self.value(base)
            last = self.high if slash else first
        return set(range(first, last + 1, step))

    def value(self, text: str) -> int:
        """One value, by number or name."""
        named = self.names.get(text.upper())
        return named if named is not None else self._number(text, self.low, self.high)

    def _number(self, text: str, low: int, high: int) -> int:
        # Not isdigit: it takes digits of every script.
        if re.fullmatch("[0-9]{1,4}", text) and low <= int(text) <= high:
            return int(text)
        known = f" or {', '.join(self.names)}" if self.names else ""
        raise ValueError(f"cron: {self.name}: {text[:40]!r} is not within {low} to {high}{known}")


_MINUTES = _Field("minutes", 0, 59)
_HOURS = _Field("hours", 0, 23)
_DAY_OF_MONTH = _Field("day-of-month", 1, 31)
_MONTH = _Field("month", 1, 12, _MONTHS)
_DAY_OF_WEEK = _Field("day-of-week", 1, 7, _DAYS, has_steps=False)
_YEAR = _Field("year", FIRST_YEAR, LAST_YEAR)
_END_MS = int(datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC).timestamp()) * 1_000


def _cron(fields: list[str]) -> Cron:
    if len(fields) != 6:
        raise ValueError(
            f"cron has six fields (minutes hours day-of-month month day-of-week year), not {len(fields)}: "
            "such as cron(0 12 * * ? *)"
        )
    minutes, hours, days, months, weekdays, years = fields
    if (days == "?") == (weekdays == "?"):
        raise ValueError("cron: one of day-of-month and day-of-week must be ?, and only one")
    return Cron(
        minutes=tuple(sorted(_plain(_MINUTES, minutes))),
        hours=tuple(sorted(_plain(_HOURS, hours))),
        months=frozenset(_plain(_MONTH, months)),
        years=frozenset(_plain(_YEAR, years)),
        days=_days_of_month(days),
        weekdays=_days_of_week(weekdays),
    )


def _plain(kind: _Field, text: str) -> set[int]:
    return {value for one in text.split(",") for value in kind.values(one)}


def _days_of_month(text: str) -> _DaysOfMonth:
    if text in ("?", "*"):
        return _DaysOfMonth(is_any=True)
    numbers: set[int] = set()
    nearest: list[int] = []
    is_last = False
    for one in text.upper().split(","):
        if one == "L":
            is_last = True
        elif one == "LW":
            nearest.append(0)
        elif one.endswith("W"):
            nearest.append(_DAY_OF_MONTH.value(one[:-1]))
        else:
            numbers |= _DAY_OF_MONTH.values(one)
    return _DaysOfMonth(frozenset(numbers), is_last, tuple(nearest))


def _days_of_week(text: str) -> _DaysOfWeek:
    if text in ("?", "*"):
        return _DaysOfWeek(is_any=True)
    numbers: set[int] = set()
    last: set[int] = set()
    nth: set[tuple[int, int]] = set()
    for one in text.upper().split(","):
        if one == "L":
            numbers.add(SATURDAY)
        elif one.endswith("L"):
            last.add(_DAY_OF_WEEK.value(one[:-1]))
        elif "#" in one:
            day, _, which = one.partition("#")
            if which not in ("1", "2", "3", "4", "5"):
                raise ValueError(f"cron: day-of-week: {one[:40]!r} must end in #1 to #5")
            nth.add((_DAY_OF_WEEK.value(day), int(which)))
        else:
            numbers |= _DAY_OF_WEEK.values(one)
    return _DaysOfWeek(frozenset(numbers), frozenset(last), frozenset(nth))


def _nearest_weekday(year: int, month: int, wanted: int, last: int) -> int:
    """The weekday nearest to a day, within its month; `wanted` 0: the month's last weekday."""
    day = wanted or last
    weekday = calendar.weekday(year, month, day)
    if weekday == calendar.SATURDAY:
        # Back to Friday, but not out of the month.
        return day - 1 if day > 1 else day + 2
    if weekday == calendar.SUNDAY:
        return day + 1 if wanted and day < last else day - 2
    return day
