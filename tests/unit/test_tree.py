"""The tree as it is tracked: what a merge may leave in it."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Seven of each, in a line by themselves or before a name.
MARKERS = re.compile(rb"^(<{7} |={7}$|>{7} )", re.MULTILINE)


def test_make_reads_its_file() -> None:
    """Every target has a place in it, also after a merge."""
    done = subprocess.run(["make", "-n", "help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_tracked_file_has_conflict_markers() -> None:
    """An opening or closing one in any file; a middle one counts with these only, as headings are underlined so."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    files = [ROOT / name.decode() for name in listed.split(b"\0") if name]
    marked = [
        file.relative_to(ROOT)
        for file in files
        if file.is_file() and {line[:1] for line in MARKERS.findall(file.read_bytes())} & {b"<", b">"}
    ]
    assert marked == []
