"""The journal on a real SQLite file."""

from pathlib import Path

import apsw
import pytest

from services.policy.s3_events import ObjectVersion
from services.poller.sources.journal import (
    ANNOUNCED,
    REFUSED,
    Journal,
    JournalClosed,
    drop_journals,
    journal_path,
)


def version(key: str, inode: int = 1, mtime_ns: int = 1) -> ObjectVersion:
    return ObjectVersion(key, inode, mtime_ns, 10)


def open_journal(folder: Path, source_id: str = "source-1", revision: int = 5) -> Journal:
    return Journal(journal_path(folder, source_id), source_id, revision)


def test_marks_are_there_after_a_new_start(run_dir: Path) -> None:
    """Announced and refused objects are known for good; another version of a key is not."""
    journal = open_journal(run_dir)
    journal.mark([(version("a"), ANNOUNCED), (version("b"), REFUSED)])
    # No close: as after a crash.
    again = open_journal(run_dir)
    unknown = again.unknown([version("a"), version("b"), version("c"), version("a", mtime_ns=2), version("b", inode=2)])
    assert unknown == [version("c"), version("a", mtime_ns=2), version("b", inode=2)]
    assert again.rows == 2


def test_rows_are_counted_whatever_is_done(run_dir: Path) -> None:
    """The count follows new marks, marks in place of others, and rows that are forgotten."""
    journal = open_journal(run_dir)
    journal.mark([(version("a"), ANNOUNCED), (version("b"), ANNOUNCED)])
    journal.mark([(version("b", 2), ANNOUNCED), (version("c"), REFUSED), (version("c", 2), ANNOUNCED)])
    assert journal.rows == 3
    journal.forget([("a", version("a").identity), ("missing", "1:1:1")])
    assert journal.rows == 2 == open_journal(run_dir).rows


def test_a_row_that_was_marked_anew_is_not_forgotten(run_dir: Path) -> None:
    """The file came back between the sweep's look and its deletion: the row stays."""
    journal = open_journal(run_dir)
    journal.mark([(version("a"), ANNOUNCED)])
    rows = journal.after("", 10)
    journal.mark([(version("a", 2), ANNOUNCED)])
    journal.forget(rows)
    assert journal.unknown([version("a", 2)]) == []


def test_rows_come_in_order_in_parts(run_dir: Path) -> None:
    """Every row once, whatever its key."""
    journal = open_journal(run_dir)
    keys = ["a", "a/b", "ä", "b c", "z"]
    journal.mark([(version(key), ANNOUNCED) for key in keys])
    seen: list[str] = []
    while rows := journal.after(seen[-1] if seen else "", 2):
        seen += [key for key, _ in rows]
    assert seen == sorted(keys, key=str.encode)


def test_a_closed_journal_says_so(run_dir: Path) -> None:
    """A thread that is late gets a typed error, not a crash."""
    journal = open_journal(run_dir)
    journal.close()
    journal.close()
    with pytest.raises(JournalClosed):
        journal.mark([(version("a"), ANNOUNCED)])


def test_a_damaged_file_is_set_aside(run_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Damage in the middle of the file is found at the start; the new journal works, the old one is kept."""
    journal = open_journal(run_dir)
    journal.mark([(version(f"key-{n:05}"), ANNOUNCED) for n in range(1_000)])
    journal.close()
    path = journal_path(run_dir, "source-1")
    content = bytearray(path.read_bytes())
    content[8_192:20_480] = b"\xa5" * 12_288
    path.write_bytes(content)
    fresh = open_journal(run_dir)
    assert (fresh.rows, path.with_suffix(".damaged").stat().st_size) == (0, len(content))
    assert "source-1 is damaged" in caplog.text


def test_two_owners_in_turn_share_the_file(run_dir: Path) -> None:
    """While a source changes hands both pollers have it open, and each sees the other's marks."""
    first, second = open_journal(run_dir), open_journal(run_dir)
    first.mark([(version("a"), ANNOUNCED)])
    second.mark([(version("b"), ANNOUNCED)])
    assert first.unknown([version("b")]) == [] == second.unknown([version("a")])


def test_journals_of_gone_sources_are_dropped_and_no_others(run_dir: Path) -> None:
    """Only a view that is newer than the journal can say that its source is gone; odd ids have odd names."""
    odd = "../odd id"
    for source_id, revision in [("kept", 5), ("gone", 5), ("younger-than-view", 9), (odd, 5), ("odd-gone/x", 5)]:
        open_journal(run_dir, source_id, revision).close()
    path = journal_path(run_dir, "gone")
    path.with_suffix(".damaged").write_text("x")
    dropped = drop_journals(run_dir, {"kept", odd}, 9)
    assert dropped == sorted([path.name, journal_path(run_dir, "odd-gone/x").name])
    left = {journal_path(run_dir, source_id).name for source_id in ("kept", "younger-than-view", odd)}
    assert {p.name for p in run_dir.iterdir()} == left


def test_a_full_disk_is_an_error_that_changes_nothing(run_dir: Path) -> None:
    """A mark that does not fit raises, the count stays, and the journal goes on when there is room."""
    journal = open_journal(run_dir)
    assert journal._connection is not None
    pages = next(iter(journal._connection.execute("PRAGMA page_count")))[0]
    journal._connection.execute(f"PRAGMA max_page_count = {pages}")
    many = [(version("k" * 900 + str(n)), ANNOUNCED) for n in range(50)]
    with pytest.raises(apsw.FullError):
        journal.mark(many)
    assert journal.rows == 0
    journal._connection.execute("PRAGMA max_page_count = 100000")
    journal.mark(many)
    assert journal.rows == 50
