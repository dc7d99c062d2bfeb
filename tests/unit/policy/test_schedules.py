"""rate() and cron(): when they fire next, compared with a plain model that looks at every minute."""

import calendar
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.policy.schedules import MINUTE_MS, latest_fire, parse


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000)


def fires(expression: str, after: str, count: int = 3) -> list[str]:
    schedule, found, at_ms = parse(expression), [], ms(after)
    for _ in range(count):
        due_ms = schedule.next_after(at_ms)
        if due_ms is None:
            break
        at_ms = due_ms
        found.append(datetime.fromtimestamp(due_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("cron(0 10 * * ? *)", "2026-11-25 10:00", ["2026-11-26 10:00", "2026-11-27 10:00"]),
        ("cron(15 12 * * ? *)", "2026-11-25 10:00", ["2026-11-25 12:15"]),
        ("cron(0 18 ? * MON-FRI *)", "2026-11-27 18:00", ["2026-11-30 18:00", "2026-12-01 18:00"]),
        ("cron(0 8 1 * ? *)", "2026-11-25 10:00", ["2026-12-01 08:00", "2027-01-01 08:00"]),
        ("cron(0/15 * * * ? *)", "2026-11-25 23:40", ["2026-11-25 23:45", "2026-11-26 00:00"]),
        ("cron(10-30/10 5 * * ? *)", "2026-11-25 00:00", ["2026-11-25 05:10", "2026-11-25 05:20", "2026-11-25 05:30"]),
        ("cron(*/20 5 * * ? *)", "2026-11-25 05:20", ["2026-11-25 05:40", "2026-11-26 05:00"]),
        ("cron(0/5 8-17 ? * MON-FRI *)", "2026-11-27 17:55", ["2026-11-30 08:00"]),
        ("cron(0 0 L * ? *)", "2028-02-01 00:00", ["2028-02-29 00:00", "2028-03-31 00:00"]),
        ("cron(0 0 29 FEB ? *)", "2026-01-01 00:00", ["2028-02-29 00:00", "2032-02-29 00:00"]),
        # The 1st of August 2026 is a Saturday, the 15th too, the 31st of May 2026 is a Sunday.
        ("cron(0 0 1W 8 ? 2026)", "2026-01-01 00:00", ["2026-08-03 00:00"]),
        ("cron(0 0 15W 8 ? 2026)", "2026-01-01 00:00", ["2026-08-14 00:00"]),
        ("cron(0 0 16W 8 ? 2026)", "2026-01-01 00:00", ["2026-08-17 00:00"]),
        ("cron(0 0 31W 5 ? 2026)", "2026-01-01 00:00", ["2026-05-29 00:00"]),
        ("cron(0 0 LW 5 ? 2026)", "2026-01-01 00:00", ["2026-05-29 00:00"]),
        ("cron(0 0 31W 4 ? *)", "2026-01-01 00:00", []),
        ("cron(0 0 ? * 6#3 *)", "2026-11-25 00:00", ["2026-12-18 00:00", "2027-01-15 00:00"]),
        ("cron(0 0 ? * FRI#5 *)", "2026-11-25 00:00", ["2027-01-29 00:00"]),
        ("cron(0 0 ? * 5L *)", "2026-11-01 00:00", ["2026-11-26 00:00", "2026-12-31 00:00"]),
        ("cron(0 0 ? * L *)", "2026-11-25 00:00", ["2026-11-28 00:00"]),
        ("cron(0 0 1,15 jan,JUL ? 2027-2028)", "2027-01-01 00:00", ["2027-01-15 00:00", "2027-07-01 00:00"]),
        ("cron(0 0 1 1 ? 2025)", "2026-01-01 00:00", []),
        ("cron(0 0 30 2 ? *)", "2026-01-01 00:00", []),
        ("cron(59 23 31 12 ? 2199)", "2026-01-01 00:00", ["2199-12-31 23:59"]),
    ],
)
def test_cron_fires_when_the_calendar_says(expression: str, after: str, expected: list[str]) -> None:
    """The next fires after a time, itself not included; at most as many as are named."""
    assert fires(expression, after, len(expected) or 1) == expected


@pytest.mark.parametrize(
    ("expression", "period_ms"),
    [
        ("rate(1 minute)", 60_000),
        ("rate(5 minutes)", 300_000),
        ("rate(1 hour)", 3_600_000),
        ("rate(7 days)", 604_800_000),
    ],
)
def test_a_rate_counts_from_its_beginning(expression: str, period_ms: int) -> None:
    """The first fire is one period after the schedule was made, never at once; then every period."""
    schedule = parse(expression)
    assert schedule.next_after(0, begun_ms=10_007) == 10_007 + period_ms
    assert schedule.next_after(10_007, begun_ms=10_007) == 10_007 + period_ms
    assert schedule.next_after(10_007 + period_ms, begun_ms=10_007) == 10_007 + 2 * period_ms
    assert schedule.next_after(10_006 + 5 * period_ms, begun_ms=10_007) == 10_007 + 5 * period_ms


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("every day", "is no schedule"),
        ("rate(0 minutes)", "within 1 to"),
        ("rate(1 minutes)", r"rate\(1 minute\)"),
        ("rate(2 hour)", r"rate\(2 hours\)"),
        ("rate(5 seconds)", "minutes, hours or days"),
        ("rate(-5 minutes)", "is no schedule"),
        ("rate(9999999999 days)", "within 1 to"),
        ("cron(0 12 * * ?)", "six fields"),
        ("cron(0 12 * * * *)", "must be ?"),
        ("cron(0 12 ? * ? *)", "must be ?"),
        ("cron(60 12 * * ? *)", "minutes: '60' is not within 0 to 59"),
        ("cron(0 24 * * ? *)", "hours"),
        ("cron(0 12 0 * ? *)", "day-of-month"),
        ("cron(0 12 32W * ? *)", "day-of-month"),
        ("cron(0 12 * 13 ? *)", "month"),
        ("cron(0 12 * FOO ? *)", "or JAN"),
        ("cron(0 12 ? * 0 *)", "day-of-week"),
        ("cron(0 12 ? * 8 *)", "day-of-week"),
        ("cron(0 12 ? * MON/2 *)", "no steps"),
        ("cron(0 12 ? * 2#6 *)", "#1 to #5"),
        ("cron(0 12 * * ? 1969)", "year"),
        ("cron(0/0 12 * * ? *)", "minutes"),
        ("cron(, 12 * * ? *)", "minutes"),
        ("cron(5- 12 * * ? *)", "minutes"),
        ("cron(30-10 12 * * ? *)", "backwards"),
        ("cron(\u0665 12 * * ? *)", "minutes"),
        ("cron(" + "0," * 200 + "0 12 * * ? *)", "characters"),
    ],
)
def test_a_wrong_schedule_is_refused_with_a_sentence(expression: str, said: str) -> None:
    """The sentence names the field and what it takes."""
    with pytest.raises(ValueError, match=said.replace("?", r"\?")):
        parse(expression)


def test_the_latest_of_the_missed_fires_is_found() -> None:
    """Within a span; none where the span has none, and none before the beginning."""
    schedule = parse("rate(1 minute)")
    assert latest_fire(schedule, 0, 10 * MINUTE_MS + 5, begun_ms=0) == 10 * MINUTE_MS
    assert latest_fire(schedule, 10 * MINUTE_MS, 10 * MINUTE_MS + 5, begun_ms=0) is None
    assert latest_fire(schedule, 0, 10 * MINUTE_MS, begun_ms=10 * MINUTE_MS) is None


# --- against a plain model: the minutes of a few months, one by one

numbers = {"minutes": (0, 59), "hours": (0, 23), "days": (1, 31), "months": (1, 12)}


@st.composite
def plain_fields(draw: st.DrawFn, name: str) -> tuple[str, set[int]]:
    low, high = numbers[name]
    kind = draw(st.sampled_from(["any", "one", "list", "range", "step", "range step"]))
    first = draw(st.integers(low, high))
    last = draw(st.integers(first, high))
    step = draw(st.integers(1, high))
    if kind == "any":
        return "*", set(range(low, high + 1))
    if kind == "one":
        return str(first), {first}
    if kind == "list":
        return f"{first},{last}", {first, last}
    if kind == "range":
        return f"{first}-{last}", set(range(first, last + 1))
    if kind == "step":
        return f"{first}/{step}", set(range(first, high + 1, step))
    return f"{first}-{last}/{step}", set(range(first, last + 1, step))


@settings(max_examples=60, deadline=None)
@given(
    plain_fields("minutes"),
    plain_fields("hours"),
    plain_fields("days"),
    plain_fields("months"),
    st.integers(0, 700 * 1_440),
)
def test_the_next_fire_is_the_first_minute_that_matches(
    minutes: tuple[str, set[int]],
    hours: tuple[str, set[int]],
    days: tuple[str, set[int]],
    months: tuple[str, set[int]],
    offset_minutes: int,
) -> None:
    """No minute between a time and the next fire matches every field, and the fire does."""
    start = datetime(2027, 1, 1, tzinfo=UTC) + timedelta(minutes=offset_minutes)
    schedule = parse(f"cron({minutes[0]} {hours[0]} {days[0]} {months[0]} ? *)")
    found = schedule.next_after(int(start.timestamp() * 1_000))

    expected = None
    day = start.replace(hour=0, minute=0)
    # Days first, so that the model looks at few minutes.
    for _ in range(3 * 366):
        if day.day in days[1] and day.month in months[1]:
            times = [day + timedelta(hours=h, minutes=m) for h in sorted(hours[1]) for m in sorted(minutes[1])]
            later = [time for time in times if time > start]
            if later:
                expected = int(later[0].timestamp() * 1_000)
                break
        day += timedelta(days=1)
    if expected is not None:
        assert found == expected
    else:
        assert found is None or found > int((start + timedelta(days=3 * 365)).timestamp() * 1_000)


@given(st.integers(1, 31), st.integers(1, 12), st.integers(2026, 2040))
def test_the_nearest_weekday_is_a_weekday_of_that_month_at_most_two_days_away(day: int, month: int, year: int) -> None:
    """W never leaves the month, and fires on the day itself when that is a weekday."""
    found = parse(f"cron(0 0 {day}W {month} ? {year})").next_after(ms("2026-01-01 00:00") - 1)
    if day > calendar.monthrange(year, month)[1]:
        assert found is None
        return
    assert found is not None
    date = datetime.fromtimestamp(found / 1_000, UTC)
    assert (date.year, date.month) == (year, month)
    assert date.weekday() < 5
    assert abs(date.day - day) <= (2 if day in (1, calendar.monthrange(year, month)[1]) else 1)
    if datetime(year, month, day, tzinfo=UTC).weekday() < 5:
        assert date.day == day
