"""A disk that remembers what is durable: the current state, the synced one, and the changes in between.

What a sync means here is what POSIX promises and no more: fsync or fdatasync of a file makes its content durable, and
fsync of a folder the names in it. That file systems usually do more is nothing to rely on.
"""

import enum
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.faults.power_loss.recorder import CREATED, DIRECTORY, TRUNCATED, Kind, Record

# What a disk writes whole or not at all.
SECTOR_BYTES = 512
_KEPT_SHARES = (0.05, 0.3, 0.5, 0.7, 0.95)


class Model(enum.StrEnum):
    """What a power cut does to changes that were not synced."""

    ALL = "all"  # all are there
    DROPPED = "dropped"  # none is
    TORN = "torn"  # a random subset of their sectors and of the changes of names
    MISSING = "missing"  # all are there, but one shard's file is gone: an accident, not a power cut


@dataclass(frozen=True, slots=True)
class Change:
    """A write at an offset, or with `data` None a new size."""

    offset: int
    data: bytes | None

    def apply(self, content: bytearray) -> None:
        """Do it."""
        if self.data is None:
            _resize(content, self.offset)
            return
        end = self.offset + len(self.data)
        if self.offset > len(content):
            _resize(content, self.offset)
        content[self.offset : end] = self.data

    def pieces(self) -> Iterable["Change"]:
        """The same, cut at the borders of sectors."""
        if self.data is None:
            yield self
            return
        at = 0
        while at < len(self.data):
            step = SECTOR_BYTES - (self.offset + at) % SECTOR_BYTES
            yield Change(self.offset + at, self.data[at : at + step])
            at += step


@dataclass(slots=True)
class Node:
    """A file (or a folder, which has no content of its own)."""

    is_folder: bool = False
    content: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)

    def change(self, change: Change) -> None:
        """Change it; not durable yet."""
        change.apply(self.content)
        self.pending.append(change)

    def sync(self) -> None:
        """All of it is durable."""
        for change in self.pending:
            change.apply(self.durable)
        self.pending.clear()

    def torn(self, rng: random.Random, share: float) -> bytearray:
        """The durable content and a random part of what is pending."""
        content = bytearray(self.durable)
        for change in self.pending:
            for piece in change.pieces():
                if rng.random() < share:
                    piece.apply(content)
        return content


@dataclass(frozen=True, slots=True)
class NameChange:
    """`name` now means `node` (None: nothing); with `old` it was called that before."""

    name: str
    node: Node | None
    old: str = ""

    def apply(self, names: dict[str, Node]) -> None:
        """Do it."""
        if self.old:
            names.pop(self.old, None)
        if self.node is None:
            names.pop(self.name, None)
        else:
            names[self.name] = self.node


@dataclass(frozen=True, slots=True)
class Image:
    """What is on the disk when power is back: folders, and files with their content."""

    folders: list[str]
    files: dict[str, bytearray]


class Disk:
    """Everything below one folder, which itself is there and durable."""

    def __init__(self) -> None:
        root = Node(is_folder=True)
        self._names: dict[str, Node] = {"": root}
        self._durable_names: dict[str, Node] = {"": root}
        self._pending_names: list[NameChange] = []
        self._inodes: dict[int, Node] = {}

    def apply(self, record: Record) -> None:
        """What this call did. ValueError: it does not fit what is here, so something was not recorded."""
        match record.kind:
            case Kind.OPEN:
                self._open(record)
            case Kind.WRITE:
                self._inode(record).change(Change(record.offset, record.data))
            case Kind.TRUNCATE:
                self._inode(record).change(Change(record.value, None))
            case Kind.EXTEND:
                node = self._inode(record)
                if record.value > len(node.content):
                    node.change(Change(record.value, None))
            case Kind.SYNC:
                self._sync(self._inode(record))
            case Kind.MKDIR:
                self._rename(NameChange(record.name, Node(is_folder=True)))
            case Kind.UNLINK:
                self._rename(NameChange(record.name, None))
            case Kind.RENAME:
                new = record.data.decode()
                if _folder(new) != _folder(record.name) or record.name not in self._names:
                    raise ValueError(f"{record.name} cannot be renamed to {new}")
                self._rename(NameChange(new, self._names[record.name], record.name))
            case _:
                raise ValueError(f"a record of kind {record.kind.name} is no call")

    def image(self, model: Model, rng: random.Random) -> Image:
        """The disk after a power cut now."""
        if model in (Model.ALL, Model.MISSING):
            names = self._names
            return _image(names, {name: node.content for name, node in names.items()})
        names = dict(self._durable_names)
        if model is Model.DROPPED:
            return _image(names, {name: node.durable for name, node in names.items()})
        share = rng.choice(_KEPT_SHARES)
        for change in self._pending_names:
            if rng.random() < share:
                change.apply(names)
        return _image(names, {name: node.torn(rng, share) for name, node in names.items()})

    def _open(self, record: Record) -> None:
        if record.value & CREATED and not record.value & DIRECTORY:
            self._rename(NameChange(record.name, Node()))
        node = self._names.get(record.name)
        if node is None:
            raise ValueError(f"{record.name} was opened, but nobody created it")
        # At each open, as the number of a file that is gone is used again.
        self._inodes[record.inode] = node
        if record.value & TRUNCATED:
            node.change(Change(0, None))

    def _inode(self, record: Record) -> Node:
        node = self._inodes.get(record.inode)
        if node is None:
            raise ValueError("a file was written that nobody opened")
        return node

    def _rename(self, change: NameChange) -> None:
        if _folder(change.name) not in self._names:
            raise ValueError(f"the folder of {change.name} is not there")
        change.apply(self._names)
        self._pending_names.append(change)

    def _sync(self, node: Node) -> None:
        if not node.is_folder:
            node.sync()
            return
        left: list[NameChange] = []
        for change in self._pending_names:
            if self._names.get(_folder(change.name)) is node:
                change.apply(self._durable_names)
            else:
                left.append(change)
        self._pending_names = left


def _image(names: dict[str, Node], contents: dict[str, bytearray]) -> Image:
    folders: list[str] = []
    files: dict[str, bytearray] = {}
    # Sorted: a folder comes before what is in it.
    for name in sorted(names):
        if name and _folder(name) not in folders and _folder(name) != "":
            # Its folder is not on the disk.
            continue
        if names[name].is_folder:
            folders.append(name)
        else:
            files[name] = contents[name]
    return Image([name for name in folders if name], files)


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))
