"""Certificates that count no more before their time: a file with one serial number a line."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

MAX_REVOKED_BYTES = 1 << 20
log = logging.getLogger(__name__)


class Revoked:
    """The serial numbers in a file, read again when it changes."""

    def __init__(self, path: str) -> None:
        """Empty path: nothing is revoked. ValueError: the file cannot be read."""
        self._path = path
        self.serials: frozenset[int] = frozenset()
        self._version: tuple[int, int, int] | None = None
        if path:
            self.serials, self._version = parse(_read(path)), self._look()

    def reload(self) -> bool:
        """Whether the file says something else than before. One that is damaged or gone changes nothing."""
        if not self._path:
            return False
        version = self._look()
        if version == self._version:
            return False
        self._version = version
        try:
            now = parse(_read(self._path))
        except ValueError as e:
            # Opening the fleet to whoever was shut out, because of a typing error, would be the worse end.
            log.error("%s; the %d serial numbers known so far stay revoked", e, len(self.serials))
            return False
        has_changed, self.serials = now != self.serials, now
        return has_changed

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def parse(text: str) -> frozenset[int]:
    """Serial numbers in hexadecimal, one a line; `#` begins a comment. ValueError: a line is none."""
    serials = set()
    for number, line in enumerate(text.splitlines(), 1):
        word = line.partition("#")[0].strip()
        if word:
            try:
                serials.add(int(word, 16))
            except ValueError:
                raise ValueError(
                    f"revoked certificates, line {number}: {word[:80]!r} is no hexadecimal number"
                ) from None
    return frozenset(serials)


def render(entries: Iterable[tuple[int, str]]) -> str:
    """The file's text from serial numbers, each with a comment."""
    return "".join(f"{serial:x}  # {comment}\n" for serial, comment in entries)


def _read(path: str) -> str:
    try:
        if os.stat(path).st_size > MAX_REVOKED_BYTES:
            raise ValueError(f"tls.revoked_file {path} has more than {MAX_REVOKED_BYTES} bytes")
        return Path(path).read_text(encoding="ascii")
    except OSError as e:
        raise ValueError(f"tls.revoked_file {path}: {e.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"tls.revoked_file {path} is no text") from None
