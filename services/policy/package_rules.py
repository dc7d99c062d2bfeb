"""Which code packages are taken: a zip's own directory is read and judged before a byte of it is extracted.

Pure over the zip's bytes. Control asks at upload, a host again before extraction; both walk this reader, so that no
second reader can understand the file in another way. ValueError carries a sentence for who deploys.
"""

import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass

MAX_PACKAGE_BYTES = 52_428_800
MAX_TOTAL_BYTES = 262_144_000
MAX_ENTRIES = 20_000
MAX_NAME_BYTES = 512
MAX_DEPTH = 32
# Source text reaches 20, empty pages 1,000; only entries of some size are judged.
MAX_RATIO = 200
RATIO_FROM_BYTES = 1_048_576
STORED = 0
DEFLATED = 8

_END = struct.Struct("<4s4H2LH")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_END_SIGNATURE = b"PK\x05\x06"
_CENTRAL_SIGNATURE = b"PK\x01\x02"
_LOCAL_SIGNATURE = b"PK\x03\x04"
_MAX_COMMENT_BYTES = 65_535
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_UTF8 = 0x800


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or folder: its data stand at data_offset, packed_bytes long, and unpack to size_bytes."""

    name: str
    is_folder: bool
    is_executable: bool
    method: int
    crc32: int
    packed_bytes: int
    size_bytes: int
    header_offset: int
    data_offset: int


def check_package(data: bytes) -> list[Entry]:
    """Its entries in the order of the archive. ValueError: no zip, or it breaks a rule; the text says which."""
    if len(data) > MAX_PACKAGE_BYTES:
        raise ValueError(f"the package has {len(data):,} bytes; at most {MAX_PACKAGE_BYTES:,} are taken")
    count, directory_offset, directory_bytes = _end_of(data)
    entries: list[Entry] = []
    total = 0
    offset = directory_offset
    for _ in range(count):
        entry, offset = _entry_at(data, offset, directory_offset)
        total += entry.size_bytes
        if total > MAX_TOTAL_BYTES:
            raise ValueError(f"the package unpacks to more than {MAX_TOTAL_BYTES:,} bytes")
        entries.append(entry)
    if offset != directory_offset + directory_bytes:
        raise ValueError("the package is damaged: its directory does not have the length that it states")
    _check_names(entries)
    _check_overlap(entries)
    return entries


def _end_of(data: bytes) -> tuple[int, int, int]:
    start = max(0, len(data) - _END.size - _MAX_COMMENT_BYTES)
    at = data.rfind(_END_SIGNATURE, start)
    if at < 0 or at + _END.size > len(data):
        raise ValueError("the package is no zip file")
    _, disk, first_disk, here, count, directory_bytes, directory_offset, comment = _END.unpack_from(data, at)
    if at + _END.size + comment != len(data):
        raise ValueError("the package is damaged: bytes follow the end of the zip")
    if disk or first_disk or here != count:
        raise ValueError("the package is one part of several: one whole zip is expected")
    if count > MAX_ENTRIES or directory_offset == 0xFFFFFFFF:
        raise ValueError(f"the package has more than {MAX_ENTRIES:,} entries")
    if directory_offset + directory_bytes != at:
        raise ValueError("the package is damaged: its directory is not where it states")
    return count, directory_offset, directory_bytes


def _entry_at(data: bytes, at: int, directory_offset: int) -> tuple[Entry, int]:
    if at + _CENTRAL.size > len(data):
        raise ValueError("the package is damaged: its directory ends too early")
    (
        signature,
        made_by,
        _needed,
        flags,
        method,
        _time,
        _date,
        crc,
        packed,
        size,
        name_bytes,
        extra_bytes,
        comment_bytes,
        disk,
        _internal,
        external,
        header_offset,
    ) = _CENTRAL.unpack_from(data, at)
    name_at = at + _CENTRAL.size
    raw_name = data[name_at : name_at + name_bytes]
    if signature != _CENTRAL_SIGNATURE or len(raw_name) != name_bytes:
        raise ValueError("the package is damaged: its directory ends too early")
    name = _decoded(raw_name, flags)
    if flags & _ENCRYPTED:
        raise ValueError(f"{name!r} is encrypted")
    if method not in (STORED, DEFLATED):
        raise ValueError(f"{name!r} is packed by method {method}: only stored and deflated entries are taken")
    if 0xFFFFFFFF in (packed, size, header_offset) or disk:
        raise ValueError(f"{name!r} uses zip64, which no package of this size needs")
    if method == STORED and packed != size:
        raise ValueError(f"{name!r} is stored but states two different sizes")
    if size >= RATIO_FROM_BYTES and size > packed * MAX_RATIO:
        raise ValueError(f"{name!r} unpacks to more than {MAX_RATIO} times its size")
    # The upper half holds Unix modes when made on Unix (3) or by tools that say so although they are not.
    mode = external >> 16
    kind = stat.S_IFMT(mode)
    is_folder = name.endswith("/")
    if kind and kind != (stat.S_IFDIR if is_folder else stat.S_IFREG):
        raise ValueError(f"{name!r} is neither file nor folder: links and devices are not taken")
    if is_folder and size:
        raise ValueError(f"folder {name!r} has content")
    entry = Entry(
        name=name,
        is_folder=is_folder,
        is_executable=made_by >> 8 == 3 and bool(mode & stat.S_IXUSR),
        method=method,
        crc32=crc,
        packed_bytes=packed,
        size_bytes=size,
        header_offset=header_offset,
        data_offset=_data_offset(data, header_offset, raw_name, name),
    )
    if entry.data_offset + packed > directory_offset:
        raise ValueError(f"{name!r} reaches into the directory of the zip")
    return entry, name_at + name_bytes + extra_bytes + comment_bytes


def _decoded(raw: bytes, flags: int) -> str:
    if len(raw) > MAX_NAME_BYTES:
        raise ValueError(f"an entry has a name of {len(raw)} bytes; at most {MAX_NAME_BYTES} are taken")
    try:
        return raw.decode("utf-8" if flags & _UTF8 or raw.isascii() else "cp437")
    except UnicodeDecodeError:
        raise ValueError("an entry has a name that is not UTF-8") from None


def _data_offset(data: bytes, at: int, raw_name: bytes, name: str) -> int:
    if at + _LOCAL.size > len(data):
        raise ValueError(f"the package is damaged: {name!r} lies outside of it")
    signature, *_, name_bytes, extra_bytes = _LOCAL.unpack_from(data, at)
    name_at = at + _LOCAL.size
    if signature != _LOCAL_SIGNATURE or data[name_at : name_at + name_bytes] != raw_name:
        raise ValueError(f"the package is damaged: {name!r} has another name at its data")
    offset: int = name_at + name_bytes + extra_bytes
    return offset


def _check_names(entries: Sequence[Entry]) -> None:
    seen: dict[str, bool] = {}
    for entry in entries:
        name = entry.name.rstrip("/") if entry.is_folder else entry.name
        parts = name.split("/")
        if not name or "\x00" in name or "\\" in name or name.startswith("/") or name[1:2] == ":":
            raise ValueError(f"{entry.name!r} is no relative path with forward slashes")
        if any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"{entry.name!r} would leave its folder or has an empty part")
        if len(parts) > MAX_DEPTH or any(len(part.encode()) > 255 for part in parts):
            raise ValueError(f"{entry.name[:80]!r} is nested too deep or has too long a part")
        if name in seen:
            raise ValueError(f"{entry.name!r} is in the package twice")
        seen[name] = entry.is_folder
    for name in seen:
        folder = name.rpartition("/")[0]
        while folder:
            if seen.get(folder) is False:
                raise ValueError(f"{folder!r} is a file and a folder at once")
            folder = folder.rpartition("/")[0]


def _check_overlap(entries: Sequence[Entry]) -> None:
    end = 0
    for entry in sorted(entries, key=lambda one: one.header_offset):
        if entry.header_offset < end:
            raise ValueError(f"{entry.name!r} shares its bytes with another entry")
        end = entry.data_offset + entry.packed_bytes
