"""The code package of all attack programs, with the names and secrets of one run in it."""

import io
import zipfile
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
_VERSION = 'VERSION = "1"'


def sources(mark: str, secret: str = "none", version: str = "1") -> dict[str, str]:
    """Files of the package by name. `secret` stands in programs/secret.py."""
    files = {f"programs/{path.name}": path.read_text() for path in sorted(PROGRAMS.glob("*.py"))}
    files["programs/mark.py"] = f'MARK = "{mark}"\n'
    files["programs/secret.py"] = f'SECRET = "{secret}"\n'
    assert _VERSION in files["programs/a17_poison.py"]
    files["programs/a17_poison.py"] = files["programs/a17_poison.py"].replace(_VERSION, f'VERSION = "{version}"')
    return files


def package(files: dict[str, str]) -> bytes:
    """The zip; the same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text, compress_type=zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
