"""Every kind of wrong file is told at start, by name, and left as it is."""

import json
import os
from pathlib import Path

import apsw
import pytest

from services.queue import identity, wal
from services.queue.identity import Manifest, ShardDamaged, note_numbers, open_verified
from services.queue.paths import shard_path
from tests.unit.queue.kit import Bench, bury

PAGE = 4_096
FRAME = wal.FRAME_HEADER_BYTES + PAGE


def filled(folder: Path, events: int = 300) -> Bench:
    """A shard with some events of 1 KiB, so that its tables have interior pages, and one dead letter."""
    bench = Bench(folder)
    bench.enqueue(*(bench.event(payload=b'"%s"' % (b"x" * 1_000)) for _ in range(events)))
    (lease,) = bench.lease()
    bench.settle(bury(lease))
    return bench


def note(bench: Bench) -> None:
    """What a node does every few seconds."""
    record = bench.manifest.records[0]
    note_numbers(bench.shard.database, record, bench.shard.stats(), bench.clock.wall_ms())
    bench.manifest.save()


def reason_of(folder: Path, shard_id: int = 0) -> str:
    """Why the file is refused; it must be, and nothing may be made or removed by that."""
    before = sorted(path.name for path in folder.iterdir() if not path.name.endswith("-shm"))
    with pytest.raises(ShardDamaged) as refused:
        open_verified(folder, shard_id, Manifest(folder), 1 << 20)
    after = sorted(path.name for path in folder.iterdir() if not path.name.endswith("-shm"))
    assert after == before or set(after) - set(before) <= {f"shard-{shard_id:04d}.db-wal"}
    return str(refused.value)


def pages_of(path: Path, table: str) -> dict[str, list[int]]:
    """Numbers of the table's pages by kind: interior, leaf, overflow."""
    found: dict[str, list[int]] = {}
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    for kind, number in connection.execute("SELECT pagetype, pageno FROM dbstat WHERE name = ?", (table,)):
        found.setdefault(str(kind), []).append(int(number))
    connection.close()
    return found


def overwrite(path: Path, at: int, data: bytes) -> None:
    """Change bytes of a file in place."""
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def test_a_missing_file_is_named_with_what_it_held(run_dir: Path) -> None:
    bench = filled(run_dir)
    note(bench)
    bench.shard.database.close()
    shard_path(run_dir, 0).unlink()
    reason = reason_of(run_dir)
    assert "missing" in reason and "299 unfinished events and 1 dead letters" in reason
    assert "300 accepted and 1 finished" in reason and "as of 2027-01-15T08:00:00Z" in reason


def test_a_foreign_file(run_dir: Path) -> None:
    """Another shard's file, well-formed as it is."""
    (run_dir / "other").mkdir()
    other = filled(run_dir / "other")
    other.close()
    bench = filled(run_dir)
    bench.close()
    shard_path(run_dir / "other", 0).replace(shard_path(run_dir, 0))
    assert "a foreign file" in reason_of(run_dir)


@pytest.mark.parametrize("is_crash", [False, True])
@pytest.mark.parametrize("size", [0, 100, PAGE, PAGE * 3, PAGE * 10 + 1_000, -PAGE, -1])
def test_a_truncated_file(run_dir: Path, size: int, is_crash: bool) -> None:
    """Cut to nothing, in the first page, in the middle of a page, by one page or by one byte; after either end."""
    bench = filled(run_dir)
    path = shard_path(run_dir, 0)
    if is_crash:
        bench.shard.database.checkpoint(truncate=True)
        bench.shard.database.close()
    else:
        bench.close()
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)
    assert reason_of(run_dir)


@pytest.mark.parametrize("table", ["events", "events_by_request_id", "lanes", "sqlite_schema"])
@pytest.mark.parametrize("is_crash", [False, True])
def test_a_corrupt_page(run_dir: Path, table: str, is_crash: bool) -> None:
    """A page of each kind of the table or index, one at a time."""
    bench = filled(run_dir)
    path = shard_path(run_dir, 0)
    if is_crash:
        bench.shard.database.checkpoint(truncate=True)
        bench.shard.database.close()
    else:
        bench.close()
    whole = path.read_bytes()
    kinds = pages_of(path, table)
    assert table in ("lanes", "sqlite_schema") or {"internal", "leaf"} <= set(kinds)
    for kind in ("internal", "leaf"):
        for number in kinds.get(kind, [])[:1]:
            damaged = bytearray(whole)
            at = (number - 1) * PAGE
            damaged[at + (100 if number == 1 else 0) : at + PAGE] = os.urandom(PAGE - (100 if number == 1 else 0))
            path.write_bytes(damaged)
            reason = reason_of(run_dir)
            assert "corrupt" in reason or "malformed" in reason or "does not open" in reason, (kind, reason)
    path.write_bytes(whole)
    open_verified(run_dir, 0, Manifest(run_dir), 1 << 20).close()


def test_a_large_file_is_checked_when_it_has_shown_damage(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the bound it opens; the check that follows a failed read finds the page whatever the size."""
    bench = filled(run_dir)
    note(bench)
    bench.close()
    path = shard_path(run_dir, 0)
    leaf = pages_of(path, "events")["leaf"][5]
    overwrite(path, (leaf - 1) * PAGE, os.urandom(PAGE))
    monkeypatch.setattr(identity, "CLEAN_CHECK_MAX_BYTES", 1)
    monkeypatch.setattr(identity, "QUICK_CHECK_MAX_BYTES", 1)
    manifest = Manifest(run_dir)
    open_verified(run_dir, 0, manifest, 1 << 20).close()
    with pytest.raises(ShardDamaged, match=r"(?s)corrupt.*299 unfinished"):
        identity.check_pages(run_dir, 0, manifest.records[0], 1 << 20)


def crashed_with_wal(folder: Path, batches: int = 20) -> Path:
    """A shard that died with this many transactions in its WAL, one event each."""
    bench = Bench(folder)
    for _ in range(batches):
        bench.enqueue(bench.event())
    path = shard_path(folder, 0)
    assert bench.shard.database.wal_frames() > batches
    bench.shard.database.close()
    return Path(f"{path}-wal")


@pytest.mark.parametrize("where", ["page", "checksum", "salt", "header"])
def test_rot_in_the_wal_is_told_from_a_torn_end(run_dir: Path, where: str) -> None:
    """Transactions that were durable stand behind the damage: SQLite alone would drop them without a word."""
    log = crashed_with_wal(run_dir)
    offset = {"page": 24 + 1_000, "checksum": 17, "salt": 9, "header": 0}[where]
    overwrite(log, (wal.HEADER_BYTES + 5 * FRAME if where != "header" else 4) + offset, b"\xa5\x5a")
    assert "WAL is damaged" in reason_of(run_dir) if where != "header" else "WAL" in reason_of(run_dir)


def test_a_torn_last_transaction_is_no_damage(run_dir: Path) -> None:
    """What a power cut leaves: pieces of the one transaction that was never answered, in any order."""
    bench = Bench(run_dir)
    for _ in range(5):
        bench.enqueue(bench.event())
    log = Path(f"{shard_path(run_dir, 0)}-wal")
    before = log.stat().st_size
    bench.enqueue(*(bench.event(payload=b'"%s"' % (b"y" * 9_000)) for _ in range(5)))
    bench.shard.database.close()
    whole = log.read_bytes()
    assert len(whole) > before + 5 * FRAME
    for at in range(before, len(whole), 1_537):
        log.write_bytes(whole[:at] + bytes(min(512, len(whole) - at)) + whole[at + 512 :])
        frames = wal_frames_of(run_dir)
        assert wal.find_damage(log, frames) is None, at
    log.write_bytes(whole[:-700])
    bench.open()
    assert bench.shard.depth == 5
    bench.shard.database.close()


def wal_frames_of(folder: Path) -> int:
    """Frames that SQLite takes."""
    from services.queue.database import Database

    database = Database(shard_path(folder, 0), cache_bytes=1 << 20)
    frames = database.wal_frames()
    database.close()
    return frames


def test_an_old_copy_after_a_clean_end_and_after_a_crash(run_dir: Path) -> None:
    """By its generation; inside one generation by the stamp that a node counts up while it serves."""
    bench = filled(run_dir)
    path = shard_path(run_dir, 0)
    bench.close()
    clean = path.read_bytes()
    bench.open()
    bench.close()
    path.write_bytes(clean)
    assert "an old copy: generation" in reason_of(run_dir)

    (run_dir / "b").mkdir()
    bench = filled(run_dir / "b")
    path = shard_path(run_dir / "b", 0)
    note(bench)
    bench.shard.database.checkpoint(truncate=True)
    copy = path.read_bytes()
    bench.enqueue(bench.event())
    note(bench)
    bench.shard.database.close()
    path.write_bytes(copy)
    Path(f"{path}-wal").unlink()
    reason = reason_of(run_dir / "b")
    assert "an old copy, or its WAL was lost" in reason and "300 unfinished" in reason


@pytest.mark.parametrize("fault", ["removed", "emptied", "cut"])
def test_a_wal_that_is_gone_after_a_crash(run_dir: Path, fault: str) -> None:
    bench = filled(run_dir)
    log = Path(f"{shard_path(run_dir, 0)}-wal")
    bench.enqueue(bench.event())
    before = log.stat().st_size
    note(bench)
    bench.shard.database.close()
    if fault == "removed":
        log.unlink()
    else:
        os.truncate(log, 0 if fault == "emptied" else before)
    assert "WAL was lost" in reason_of(run_dir)


def test_a_missing_manifest_makes_nothing_new(run_dir: Path) -> None:
    """Neither for a file that is there nor for one that is not."""
    bench = filled(run_dir)
    bench.close()
    (run_dir / "manifest.json").unlink()
    assert "the manifest does not name it" in reason_of(run_dir)
    assert "manifest.json is missing" in reason_of(run_dir, shard_id=1)
    assert not (run_dir / "manifest.json").exists()


@pytest.mark.parametrize(
    "text", ["", "{", '{"format": 2, "shards": {}}', '{"format": 1, "shards": {"0": {"x": 1}}}', "[]"]
)
def test_an_unreadable_manifest_says_so(run_dir: Path, text: str) -> None:
    (run_dir / "manifest.json").write_text(text)
    with pytest.raises(ShardDamaged, match=r"manifest\.json is unreadable"):
        Manifest(run_dir)


def test_a_manifest_older_than_the_files_serves_and_catches_up(run_dir: Path) -> None:
    """The file is the newer of the two: nothing is lost by going on with it."""
    bench = filled(run_dir)
    bench.close()
    old = (run_dir / "manifest.json").read_text()
    for _ in range(3):
        bench.open()
        bench.close()
    (run_dir / "manifest.json").write_text(old)
    bench.open()
    assert bench.shard.depth == 299
    found = json.loads((run_dir / "manifest.json").read_text())["shards"]["0"]
    assert found["generation"] == bench.shard.database.get_meta("generation") == 5
    bench.shard.database.close()


def test_a_locked_file_is_not_opened(run_dir: Path) -> None:
    descriptor = identity.lock(run_dir / "shard-0000.lock")
    with pytest.raises(ShardDamaged, match="another process"):
        identity.lock(run_dir / "shard-0000.lock")
    os.close(descriptor)
    os.close(identity.lock(run_dir / "shard-0000.lock"))
