"""A shard's file on its way: only the whole, closed file of that shard is taken, whatever comes."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from services.queue import transfer
from services.queue.identity import Manifest, ShardRecord, shard_path
from services.queue.transfer import CopyRefused, FileFacts, IncomingFile, OfferedFile, incoming_path
from tests.unit.queue.kit import Bench


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a closed shard 0 that has events."""
    folder = tmp_path / "source"
    folder.mkdir()
    bench = Bench(folder)
    bench.enqueue(*(bench.event(payload=b'"' + b"x" * 50_000 + b'"') for _ in range(60)))
    bench.close()
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """An empty folder."""
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def record_of(folder: Path) -> ShardRecord:
    """The manifest's record of shard 0."""
    return Manifest(folder).records[0]


def copy(source: Path, target: Path, facts: FileFacts | None = None, spoil: int = -1) -> FileFacts:
    """Send the file from folder to folder; `spoil`: flip a bit of this chunk after it was read."""
    offered = OfferedFile(source, 0, record_of(source))
    incoming = IncomingFile(target, 0, facts or offered.facts)
    is_whole = False
    try:
        number = 0
        while chunk := offered.read():
            assert len(chunk) <= transfer.CHUNK_BYTES
            if number == spoil:
                chunk = bytes([chunk[0] ^ 1]) + chunk[1:]
            incoming.write(chunk)
            number += 1
        incoming.finish(offered.digest())
        is_whole = True
    finally:
        offered.close()
        incoming.close(keep=is_whole)
    return offered.facts


def test_a_whole_copy_is_put_in_place(source: Path, target: Path) -> None:
    """Several chunks; the same bytes; putting it in place twice does no harm; a WAL left there is not taken for its."""
    facts = copy(source, target)
    path = shard_path(target, 0)
    assert facts.size_bytes > 2 * transfer.CHUNK_BYTES and not path.exists()
    Path(f"{path}-wal").write_bytes(b"of an earlier life")
    transfer.put_in_place(target, 0)
    transfer.put_in_place(target, 0)
    assert path.read_bytes() == shard_path(source, 0).read_bytes()
    assert not Path(f"{path}-wal").exists() and not incoming_path(target, 0).exists()


def test_a_changed_byte_is_refused_and_nothing_is_left(source: Path, target: Path) -> None:
    """By its hash."""
    with pytest.raises(CopyRefused, match="SHA-256"):
        copy(source, target, spoil=1)
    assert not list(target.iterdir())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"identity": "0" * 32}, "another shard's file"),
        ({"generation": 99}, "not the file that was closed"),
        ({"closed_stamp": "0" * 16}, "not the file that was closed"),
        ({"size_bytes": 5_000}, "more than the promised 5,000 bytes"),
        ({"size_bytes": 50_000_000}, "50,000,000 were promised"),
        ({"size_bytes": 1 << 60}, "make room"),
    ],
)
def test_another_file_than_promised_is_refused(
    source: Path, target: Path, change: dict[str, object], words: str
) -> None:
    """Identity, generation, stamp and size are the file's own; there is room for it."""
    offered = OfferedFile(source, 0, record_of(source))
    offered.close()
    with pytest.raises(CopyRefused, match=words):
        copy(source, target, replace(offered.facts, **change))  # type: ignore[arg-type]
    assert not list(target.iterdir())


def test_a_corrupt_file_is_refused_although_it_is_what_was_sent(source: Path, target: Path) -> None:
    """Damage at the source does not travel on."""
    with open(shard_path(source, 0), "r+b") as file:
        file.seek(4_096 * 5)
        file.write(os.urandom(4_096 * 20))
    with pytest.raises(CopyRefused, match=r"corrupt|no shard"):
        copy(source, target)
    assert not list(target.iterdir())


def test_a_shard_that_was_not_closed_is_not_offered(source: Path) -> None:
    """Neither without a stamp nor with a WAL."""
    record = record_of(source)
    with pytest.raises(CopyRefused, match="not closed cleanly"):
        OfferedFile(source, 0, replace(record, closed=""))
    Path(f"{shard_path(source, 0)}-wal").write_bytes(b"x")
    with pytest.raises(CopyRefused, match="not closed cleanly"):
        OfferedFile(source, 0, record)


def test_a_call_that_was_left_behind_touches_no_other_file(source: Path, target: Path) -> None:
    """After the close, reads give nothing and writes are refused."""
    offered = OfferedFile(source, 0, record_of(source))
    incoming = IncomingFile(target, 0, offered.facts)
    offered.close()
    incoming.close(keep=False)
    assert offered.read() == b""
    with pytest.raises(CopyRefused, match="given up"):
        incoming.write(b"x")


def test_copies_that_nobody_noted_go_at_start(source: Path, target: Path) -> None:
    """And only those."""
    for shard_id in (0, 7):
        incoming_path(target, shard_id).write_bytes(b"x")
    transfer.remove_unfinished(target, lambda shard_id: shard_id == 7)
    assert [path.name for path in target.iterdir()] == ["shard-0007.incoming"]
