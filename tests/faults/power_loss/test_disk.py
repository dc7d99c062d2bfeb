"""The disk that remembers what is durable."""

import random

import pytest

from tests.faults.power_loss.disk import SECTOR_BYTES, Change, Disk, Image, Model
from tests.faults.power_loss.recorder import CREATED, DIRECTORY, Kind, Record


def _call(kind: Kind, inode: int = 0, *, offset: int = 0, value: int = 0, name: str = "", data: bytes = b"") -> Record:
    return Record(kind, inode, offset, value, name, data)


def _disk(*records: Record) -> Disk:
    disk = Disk()
    for record in (_call(Kind.OPEN, 1, value=DIRECTORY), *records):
        disk.apply(record)
    return disk


def _image(disk: Disk, model: Model, seed: int = 0) -> Image:
    return disk.image(model, random.Random(seed))


_CREATE = _call(Kind.OPEN, 5, value=CREATED, name="a")
_SYNC_NAMES, _SYNC = _call(Kind.SYNC, 1), _call(Kind.SYNC, 5)


def test_a_file_whose_name_was_not_synced_is_gone() -> None:
    disk = _disk(_CREATE, _call(Kind.WRITE, 5, data=b"x"), _SYNC)
    assert _image(disk, Model.ALL).files == {"a": b"x"}
    assert _image(disk, Model.DROPPED).files == {}
    disk.apply(_SYNC_NAMES)
    assert _image(disk, Model.DROPPED).files == {"a": b"x"}


def test_what_was_written_or_cut_after_the_last_sync_is_dropped() -> None:
    disk = _disk(_CREATE, _SYNC_NAMES, _call(Kind.WRITE, 5, data=b"abc"), _SYNC)
    disk.apply(_call(Kind.WRITE, 5, offset=6, data=b"d"))
    disk.apply(_call(Kind.TRUNCATE, 5, value=2))
    disk.apply(_call(Kind.EXTEND, 5, value=4))
    assert _image(disk, Model.ALL).files["a"] == b"ab\0\0"
    assert _image(disk, Model.DROPPED).files["a"] == b"abc"


def test_a_rename_is_whole_or_not_at_all() -> None:
    old = (_CREATE, _call(Kind.WRITE, 5, data=b"old"), _SYNC, _SYNC_NAMES)
    fresh = (_call(Kind.OPEN, 6, value=CREATED, name="a.new"), _call(Kind.WRITE, 6, data=b"new"), _call(Kind.SYNC, 6))
    disk = _disk(*old, *fresh, _call(Kind.RENAME, name="a.new", data=b"a"))
    assert _image(disk, Model.ALL).files == {"a": b"new"}
    assert _image(disk, Model.DROPPED).files == {"a": b"old"}
    assert {bytes(_image(disk, Model.TORN, seed).files["a"]) for seed in range(50)} == {b"old", b"new"}
    disk.apply(_SYNC_NAMES)
    assert _image(disk, Model.DROPPED).files == {"a": b"new"}


def test_a_folder_that_was_not_synced_takes_its_files_along() -> None:
    disk = _disk(
        _call(Kind.MKDIR, name="b"),
        _call(Kind.OPEN, 7, value=DIRECTORY, name="b"),
        _call(Kind.OPEN, 8, value=CREATED, name="b/c"),
        _call(Kind.SYNC, 7),
    )
    assert _image(disk, Model.ALL) == Image(["b"], {"b/c": bytearray()})
    assert _image(disk, Model.DROPPED) == Image([], {})
    disk.apply(_SYNC_NAMES)
    assert _image(disk, Model.DROPPED).folders == ["b"]


def test_torn_writes_keep_whole_sectors() -> None:
    change = Change(500, b"y" * 1_000)
    assert [(piece.offset, len(piece.data or b"")) for piece in change.pieces()] == [(500, 12), (512, 512), (1024, 476)]
    size = 16 * SECTOR_BYTES
    disk = _disk(_CREATE, _SYNC_NAMES, _call(Kind.WRITE, 5, data=b"x" * size), _SYNC)
    disk.apply(_call(Kind.WRITE, 5, data=b"y" * size))
    mixed = 0
    for seed in range(20):
        content = bytes(_image(disk, Model.TORN, seed).files["a"])
        sectors = {content[at : at + SECTOR_BYTES] for at in range(0, size, SECTOR_BYTES)}
        assert sectors <= {b"x" * SECTOR_BYTES, b"y" * SECTOR_BYTES}
        mixed += len(sectors) == 2
    assert mixed


def test_an_inode_that_is_used_again_is_another_file() -> None:
    disk = _disk(_CREATE, _call(Kind.WRITE, 5, data=b"x"), _call(Kind.UNLINK, name="a"), _CREATE)
    assert _image(disk, Model.ALL).files == {"a": b""}


@pytest.mark.parametrize(
    "record",
    [
        _call(Kind.WRITE, 9, data=b"x"),
        _call(Kind.OPEN, 9, name="nobody-made-it"),
        _call(Kind.RENAME, name="a", data=b"b"),
        _call(Kind.MKDIR, name="x/y"),
    ],
)
def test_a_call_that_does_not_fit_is_refused(record: Record) -> None:
    with pytest.raises(ValueError, match=r"opened|renamed|not there"):
        _disk(record)
