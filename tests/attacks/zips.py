"""Packages that must be refused before a byte of them is extracted."""

import io
import stat
import struct
import warnings
import zipfile

# In every name, so that anything that got out is found.
NAME = "ef-hostile-zip"
BOMB_BYTES = 30_000_000
CLAIMED_ENTRIES = 0xFFFF


def _zipped(*entries: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")
        for name, data in entries:
            archive.writestr(name, data, compress_type=zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _special(mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(NAME)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def _overlapping() -> bytes:
    package = _zipped((NAME + "1", b"1" * 50), (NAME + "2", b"2" * 50))
    second_local = package.find(b"PK\x03\x04", 4)
    size_field = package.find(b"PK\x01\x02") + 20
    return package[:size_field] + struct.pack("<L", second_local) + package[size_field + 4 :]


def _million() -> bytes:
    # The directory alone says it: none of the entries need exist.
    return struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, CLAIMED_ENTRIES, CLAIMED_ENTRIES, 0, 0, 0)


def hostile() -> dict[str, bytes]:
    """By what is wrong with them."""
    return {
        "..": _zipped(("app.py", b""), (f"../{NAME}", b"x")),
        ".. deeper": _zipped(("app.py", b""), (f"a/../../../../../../tmp/{NAME}", b"x")),
        "absolute": _zipped(("app.py", b""), (f"/tmp/{NAME}", b"x")),
        "symbolic link": _zipped((_special(stat.S_IFLNK | 0o777), b"/etc")),
        "link, then through it": _zipped((_special(stat.S_IFLNK | 0o777), b"/tmp"), (f"{NAME}/{NAME}", b"x")),
        "device": _zipped((_special(stat.S_IFCHR | 0o666), b"")),
        "overlap": _overlapping(),
        "bomb": _zipped((NAME, bytes(BOMB_BYTES))),
        "a million entries": _million(),
    }


def with_setuid_bit() -> bytes:
    """Taken, as build tools write such modes; the bit must not be there after extraction."""
    return _zipped(("app.py", b""), (_special(stat.S_IFREG | 0o6755), b"#!/bin/sh\n"))
