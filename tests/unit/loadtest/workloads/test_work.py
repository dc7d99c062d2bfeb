"""What an event asks of its handler, and that the handler does it."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.workloads import handler
from loadtest.workloads.handler import RECORD, SUFFIX, Asked
from loadtest.workloads.work import Work, is_told_to_fail, payload

# The handler has no types: it is the package of a function.
run_handler: Any = handler.handler


def told(work: Work, number: int, run: int = 1, work_ms: float = 0.0) -> dict[str, object]:
    found: dict[str, object] = json.loads(payload(work, run, number, work_ms))
    return found


def test_a_payload_says_what_there_is_to_do_and_no_more() -> None:
    assert told(Work(), 7) == {"run": 1, "number": 7}
    asked = told(Work(sleep_ms=5.0, burn_ms=2.0, allocate_mib=3, pad_bytes=10), 7, work_ms=1.5)
    assert asked == {"run": 1, "number": 7, "sleep_ms": 6.5, "burn_ms": 2.0, "allocate_mib": 3, "pad": "x" * 10}


@settings(deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.integers(0, 500), st.integers(0, 500))
def test_the_same_event_asks_the_same(number: int, fail_rate: float, pad: int, most: int) -> None:
    work = Work(fail_rate=fail_rate, pad_bytes=pad, pad_bytes_max=most)
    assert payload(work, 3, number) == payload(work, 3, number)
    size = len(str(told(work, number).get("pad", "")))
    assert size == pad if not most else min(pad, most) <= size <= max(pad, most)


@pytest.mark.parametrize("work", [Work(), Work(fail_rate=0.3), Work(fail_rate=0.3, pad_bytes_max=9)])
def test_whether_an_event_fails_is_known_without_its_payload(work: Work) -> None:
    assert all(is_told_to_fail(work, 2, number) == ("fails" in told(work, number, 2)) for number in range(200))


def test_failures_come_at_their_rate() -> None:
    failing = sum("fails" in told(Work(fail_rate=0.3), number) for number in range(2_000))
    assert failing == pytest.approx(600, abs=120)


@pytest.mark.parametrize("wrong", [{"fail_rate": 1.1}, {"sleep_ms": -1}, {"pad_bytes": 2_000_000}, {"burn_ms": 1e7}])
def test_work_out_of_bounds_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Work(**wrong)  # type: ignore[arg-type]


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(handler.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(handler, "_own", [])
    return tmp_path


def test_the_handler_leaves_a_record_of_its_whole_run(records: Path) -> None:
    before_ns = time.time_ns()
    event = json.loads(payload(Work(sleep_ms=3.0, burn_ms=1.0, allocate_mib=1), 9, 4))
    assert run_handler(event, None) == {"number": 4}
    (file,) = records.glob(f"*{SUFFIX}")
    ((run, number, started_ns, ended_ns),) = RECORD.iter_unpack(file.read_bytes())
    assert (run, number) == (9, 4)
    assert before_ns <= started_ns and ended_ns - started_ns >= 4e6


def test_a_failing_event_fails_and_leaves_its_record(records: Path) -> None:
    with pytest.raises(Asked, match="event 4"):
        run_handler(json.loads(payload(Work(fail_rate=1.0), 9, 4)), None)
    (file,) = records.glob(f"*{SUFFIX}")
    assert len(file.read_bytes()) == RECORD.size
