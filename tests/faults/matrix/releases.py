"""Two versions of Evenflow beside each other, as an operator keeps them: a folder each with a virtual environment of
its own, and a link `current` that says which one starts.

The older one is a commit of this project's history, see previous_version.txt; the newer one is this tree. Both use the
packages that are installed here. The supervisor runs `current/.venv/bin/python`, so that whatever it starts again is of
the version that the link names then; a process's own code stays that of its folder, whatever the link does later.
"""

import contextlib
import io
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PREVIOUS_FILE = Path(__file__).with_name("previous_version.txt")
OLDER, NEWER = "older", "newer"
UPGRADE, DOWNGRADE = "upgrade", "downgrade"
GIT_SECONDS, GENERATE_SECONDS = 60.0, 120.0
_NOTE = "_release_note"
# Every process of a release that is about to be a service notes where its code will come from.
_NOTING = """
import importlib.util, os, sys
if any(one.startswith("services.") for one in sys.orig_argv):
    found = importlib.util.find_spec("services")
    fresh = os.path.join({folder!r}, f".{{os.getpid()}}")
    with open(fresh, "w") as file:
        file.write(os.path.realpath(found.origin))
    os.rename(fresh, os.path.join({folder!r}, str(os.getpid())))
"""


def previous_commit(step: str) -> str:
    """The commit of the version before, for this step between versions: "upgrade" or "downgrade"."""
    lines = PREVIOUS_FILE.read_text().split("\n")
    (commit,) = (line.split()[1] for line in lines if line.startswith(f"{step} "))
    return commit


def lacking(step: str) -> str:
    """Why the step's older version cannot be had here, in words; "": it can."""
    commit = previous_commit(step)
    try:
        found = _git("cat-file", "-e", f"{commit}^{{commit}}")
    except FileNotFoundError:
        return "git, which has the older version's tree"
    if found.returncode:
        return f"commit {commit[:12]} of {PREVIOUS_FILE.name}: not in this clone (git fetch --unshallow)"
    return ""


class Releases:
    """Both versions of a step in a folder. OSError, CalledProcessError: they could not be made."""

    def __init__(self, folder: Path, step: str) -> None:
        self._folder = folder
        self._running = folder / "running"
        self._running.mkdir(parents=True)
        older = folder / OLDER
        archive = _git("archive", "--format=tar", previous_commit(step))
        archive.check_returncode()
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(older, filter="data")
        subprocess.run(
            [sys.executable, older / "tools" / "generate_protos.py"],
            check=True,
            capture_output=True,
            timeout=GENERATE_SECONDS,
        )
        self._trees = {OLDER: older, NEWER: ROOT}
        for name, tree in self._trees.items():
            (folder / name).mkdir(exist_ok=True)
            self._make_environment(folder / name / ".venv", tree)

    @property
    def python(self) -> Path:
        """The interpreter of whichever version is current."""
        return self._folder / "current" / ".venv" / "bin" / "python"

    def switch(self, name: str) -> None:
        """From now on this version is what starts."""
        fresh = self._folder / ".current"
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        fresh.symlink_to(name)
        fresh.replace(self._folder / "current")

    def of(self, pid: int) -> str:
        """Which version a service's process runs, by what it noted as it began; in words where it is none of both."""
        try:
            origin = Path((self._running / str(pid)).read_text())
        except FileNotFoundError:
            return f"pid {pid} noted nothing"
        for name, tree in self._trees.items():
            if origin == tree.resolve() / "services" / "__init__.py":
                return name
        return f"code of {origin}"

    def _make_environment(self, folder: Path, tree: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        packages = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        (packages / f"{_NOTE}.py").write_text(_NOTING.format(folder=str(self._running)))
        # The .pth files in the packages' folder are not read so: the tree that is installed there is not found.
        lines = (tree, tree / "gen", sysconfig.get_path("purelib"), f"import {_NOTE}")
        (packages / "release.pth").write_text("".join(f"{line}\n" for line in lines))


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["git", "-C", ROOT, *arguments],
        check=False,
        capture_output=True,
        timeout=GIT_SECONDS,
        env={**os.environ, "GIT_NO_LAZY_FETCH": "1"},
    )
