"""Records are read as they grow: whole ones, of one run, none that were there before."""

import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest

from loadtest.arrivals.arrivals import MAX_ARRIVALS
from loadtest.workloads import record_reader
from loadtest.workloads.handler import RECORD
from loadtest.workloads.record_reader import RecordReader, TooManyFiles


def note(folder: Path, name: str, *records: tuple[int, int, int, int]) -> None:
    with (folder / f"{name}.runs").open("ab") as file:
        file.write(b"".join(RECORD.pack(*one) for one in records))


def starts(reader: RecordReader, *numbers: int) -> list[int]:
    return [int(one) for one in reader.starts_ns(np.array(numbers, dtype=np.int64))]


def test_what_is_new_is_told_once(tmp_path: Path) -> None:
    reader = RecordReader(tmp_path / "made", 1)
    folder = reader.folder
    assert list(reader.read()) == []
    note(folder, "a", (1, 0, 100, 110), (1, 5, 120, 190))
    note(folder, "b", (1, 2, 105, 115))
    assert sorted(reader.read()) == [0, 2, 5]
    note(folder, "a", (1, 3, 200, 210))
    assert list(reader.read()) == [3]
    assert list(reader.read()) == []
    assert starts(reader, 0, 1, 2, 3, 5, 10**6) == [100, 0, 105, 200, 120, 0]
    assert reader.last_end_ns == 210 and reader.records == 4


def test_records_that_go_with_their_fleet_leave_what_was_read(tmp_path: Path) -> None:
    reader = RecordReader(tmp_path / "made", 1)
    note(reader.folder, "a", (1, 0, 100, 110))
    assert list(reader.read()) == [0]
    shutil.rmtree(reader.folder)
    assert list(reader.read()) == [] and starts(reader, 0) == [100]


def test_the_first_start_counts_whatever_the_order(tmp_path: Path) -> None:
    reader = RecordReader(tmp_path, 1)
    note(tmp_path, "a", (1, 7, 500, 510), (1, 7, 300, 310))
    note(tmp_path, "b", (1, 7, 400, 410))
    assert list(reader.read()) == [7, 7, 7]
    assert starts(reader, 7) == [300]


def test_other_runs_and_older_records_are_passed_over(tmp_path: Path) -> None:
    note(tmp_path, "old", (1, 1, 10, 20))
    reader = RecordReader(tmp_path, 1)
    note(tmp_path, "old", (2, 2, 30, 40), (1, 3, 50, 60), (1, MAX_ARRIVALS + 1, 50, 900))
    assert list(reader.read()) == [3]
    assert starts(reader, 1, 2, 3) == [0, 0, 50]
    assert reader.last_end_ns == 60


def test_half_a_record_waits_for_the_rest(tmp_path: Path) -> None:
    whole = RECORD.pack(1, 4, 10, 20) + RECORD.pack(1, 6, 30, 40)
    reader = RecordReader(tmp_path, 1)
    with (tmp_path / "a.runs").open("wb", buffering=0) as file:
        file.write(whole[: RECORD.size + 5])
        assert list(reader.read()) == [4]
        file.write(whole[RECORD.size + 5 :])
        assert list(reader.read()) == [6]


def test_numbers_may_be_far_apart(tmp_path: Path) -> None:
    reader = RecordReader(tmp_path, 1)
    note(tmp_path, "a", (1, 3_000_000, 10, 20), (1, 5, 11, 21))
    reader.read()
    assert starts(reader, 5, 3_000_000, 2_999_999) == [11, 10, 0]


def test_files_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_reader, "MAX_FILES", 1)
    note(tmp_path, "a", (1, 1, 1, 1))
    note(tmp_path, "b", (1, 2, 1, 1))
    with pytest.raises(TooManyFiles, match="delete the old ones"):
        RecordReader(tmp_path, 1)


def test_files_are_read_however_few_may_be_open(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reader = RecordReader(tmp_path, 1)
    opened = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 20, hard))
    try:
        for number in range(100):
            note(tmp_path, str(number), (1, number, 10, 20))
        assert sorted(reader.read()) == list(range(100))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_old_files_do_not_count_and_are_seen_when_they_grow_after_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_reader, "MAX_FILES", 1)
    monkeypatch.setattr(record_reader, "_OLD_POLL_SECONDS", 0.0)
    for name in "abc":
        note(tmp_path, name, (1, 1, 1, 1))
        os.utime(tmp_path / f"{name}.runs", (1.0, 1.0))
    reader = RecordReader(tmp_path, 1)
    assert list(reader.read()) == []
    note(tmp_path, "b", (1, 2, 5, 9))
    assert list(reader.read()) == [2] and list(reader.read()) == []


def test_ends_within_the_counted_part_are_counted(tmp_path: Path) -> None:
    reader = RecordReader(tmp_path, 1)
    reader.count_between(100, 200)
    note(tmp_path, "a", (1, 0, 10, 99), (1, 1, 50, 100), (1, 2, 90, 199), (1, 3, 90, 200), (2, 4, 90, 150))
    reader.read()
    assert reader.completed == 2
