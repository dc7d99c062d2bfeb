"""Hostile zips are refused before extraction, each with its reason; ordinary ones pass."""

import io
import stat
import struct
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.policy.package_rules import MAX_ENTRIES, check_package
from services.runtime.packages import _extract


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")
        for name, data in entries:
            archive.writestr(name, data, compress_type=zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def with_mode(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def test_an_ordinary_package_is_extracted_as_it_is(tmp_path: Path) -> None:
    """Folders, executables, empty files, other alphabets."""
    package = zipped(
        ("app.py", b"x = 1\n"),
        ("lib/", b""),
        ("lib/größe.txt", b""),
        (with_mode("bin/run", stat.S_IFREG | 0o755), b"#!"),
    )
    _extract(package, tmp_path / "code")
    assert (tmp_path / "code/app.py").read_bytes() == b"x = 1\n"
    assert (tmp_path / "code/lib/größe.txt").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "code/bin/run").stat().st_mode & 0o777 == 0o755
    assert not list(tmp_path.glob("*.new"))


@pytest.mark.parametrize(
    ("package", "reason"),
    [
        (b"no zip at all", "no zip file"),
        (zipped(("../x", b"")), "would leave its folder"),
        (zipped(("a/../../x", b"")), "would leave its folder"),
        (zipped(("/etc/x", b"")), "no relative path"),
        (zipped(("a\\..\\x", b"")), "no relative path"),
        (zipped(("C:x", b"")), "no relative path"),
        (zipped(("a//x", b"")), "empty part"),
        (zipped(("x", b"1"), ("x", b"2")), "twice"),
        (zipped(("x", b"1"), ("x/y", b"2")), "a file and a folder"),
        (zipped((with_mode("link", stat.S_IFLNK | 0o777), b"/etc/passwd")), "links and devices"),
        (zipped((with_mode("dev", stat.S_IFCHR | 0o666), b"")), "links and devices"),
        (zipped((with_mode("pipe", stat.S_IFIFO | 0o666), b"")), "links and devices"),
        (zipped(("bomb", bytes(20_000_000))), "times its size"),
        (zipped(("x", b"1")) + b"tail", "bytes follow"),
        (b"head" + zipped(("x", b"1")), "not where it states"),
        (zipped(("d/" * 40 + "x", b"1")), "nested too deep"),
    ],
)
def test_hostile_packages_are_refused(package: bytes, reason: str) -> None:
    """With a sentence for who deploys."""
    with pytest.raises(ValueError, match=reason):
        check_package(package)


def test_a_directory_that_states_a_million_entries_is_not_read() -> None:
    """The count alone is enough, in the old field and in zip64's."""
    for count in (MAX_ENTRIES + 1, 0xFFFF):
        end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, 0, 0, 0)
        with pytest.raises(ValueError, match="entries"):
            check_package(end)


def _patched(package: bytes, offset: int, layout: str, value: int) -> bytes:
    """One field of the first entry of the central directory."""
    at = package.find(b"PK\x01\x02") + offset
    return package[:at] + struct.pack(layout, value) + package[at + struct.calcsize(layout) :]


def test_entries_that_share_their_bytes_are_refused() -> None:
    """The overlap bomb: two names, one stream."""
    package = bytearray(zipped(("aa", b"1" * 50), ("ab", b"2" * 50)))
    second_local = package.find(b"PK\x03\x04", 4)
    first_central = package.find(b"PK\x01\x02")
    # The first entry's data reach into the second entry.
    package = bytearray(_patched(bytes(package), 20, "<L", second_local))
    assert first_central > second_local
    with pytest.raises(ValueError, match="shares its bytes"):
        check_package(bytes(package))


def test_encryption_other_methods_and_differing_names_are_refused() -> None:
    """Each by its field."""
    package = zipped(("aa", b"1" * 50))
    with pytest.raises(ValueError, match="encrypted"):
        check_package(_patched(package, 8, "<H", 1))
    with pytest.raises(ValueError, match="method 12"):
        check_package(_patched(package, 10, "<H", 12))
    with pytest.raises(ValueError, match="another name"):
        check_package(package.replace(b"aa", b"ab", 1))
    with pytest.raises(ValueError, match="zip64"):
        check_package(_patched(package, 24, "<L", 0xFFFFFFFF))


def test_a_lie_about_the_size_ends_the_extraction(tmp_path: Path) -> None:
    """Nothing is left of it."""
    package = _patched(zipped(("a", b"1" * 500)), 24, "<L", 10)
    with pytest.raises(ValueError, match="size and checksum"):
        _extract(package, tmp_path / "code")
    assert list(tmp_path.iterdir()) == []


@given(st.data())
def test_a_package_with_one_byte_changed_is_refused_or_harmless(data: st.DataObject) -> None:
    """Never anything but ValueError."""
    package = bytearray(zipped(("a.py", b"x" * 100), ("lib/b.py", b"y" * 100)))
    at = data.draw(st.integers(0, len(package) - 1))
    package[at] = data.draw(st.integers(0, 255))
    try:
        entries = check_package(bytes(package))
    except ValueError:
        return
    assert all(".." not in e.name.split("/") and not e.name.startswith("/") for e in entries)
