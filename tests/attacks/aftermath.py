"""What an attack left behind: processes, descriptors, files."""

import os
from dataclasses import dataclass
from pathlib import Path

from services.runtime.sandbox.strays import children_of
from services.runtime.uids import BLOCK_UIDS, MAX_BLOCKS
from tests.attacks.host import AttackHost
from tests.kit.waiting import until

QUIET_SECONDS = 6.0
# Two for each blank sandbox that is at hand now and was not before, one for each log that was opened.
SPARE_DESCRIPTORS = 12
# The default of sandbox.first_uid.
FIRST_SANDBOX_UID = 20_000
SHARED_FOLDERS = ("/dev/shm", "/var/tmp", "/run/lock", "/run", "/", "/mnt", "/opt", "/home", "/tmp", "/dev/mqueue")


def tree(pid: int) -> set[int]:
    """This process and everything below it."""
    found = {pid}
    for child in children_of(pid):
        found |= tree(child)
    return found


def marked(mark: str) -> list[int]:
    """Processes of an attack, wherever on the machine they are."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            command = Path(f"/proc/{name}/comm").read_text().strip()
            line = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if command == mark or mark.encode() in line:
            found.append(int(name))
    return found


def shared_files(marker: str) -> list[str]:
    """Files of an attack in folders that the whole machine shares; they are removed."""
    found = [path for folder in SHARED_FOLDERS if (path := Path(folder, marker)).exists()]
    for path in found:
        path.unlink()
    return [str(path) for path in found]


@dataclass(frozen=True, slots=True)
class Before:
    """How it was before an attack."""

    processes: frozenset[int]
    descriptors: int
    files: frozenset[str]


class Aftermath:
    """Compares a host with what it was."""

    def __init__(self, host: AttackHost, mark: str) -> None:
        self._host = host
        self._mark = mark
        assert host.process is not None
        self._pid = host.process.pid
        self._tmp = host.sandbox_folder() / "tmp"

    async def before(self) -> Before:
        """Look now."""
        return Before(frozenset(tree(self._pid)), self._descriptors(), self._files())

    async def left(self, before: Before) -> list[str]:
        """What is more than before, once it had the time to go; nothing as a rule."""
        found: list[str] = []

        async def is_clean() -> bool:
            found[:] = await self._differences(before)
            return not found

        try:
            await until(is_clean, QUIET_SECONDS)
        except AssertionError:
            return found
        return []

    async def _differences(self, before: Before) -> list[str]:
        found = []
        if names := marked(self._mark):
            found.append(f"{len(names)} processes of the attack live")
        # The neighbour's sandbox may be another one than before, if it had to be replaced.
        known = set().union(*(tree(one.pid) for one in await self._host.sandboxes()))
        if more := [pid for pid in tree(self._pid) - before.processes - known if _has_own_user(pid)]:
            found.append(f"{len(more)} processes of a sandbox's user live: {[_name_of(pid) for pid in more][:4]}")
        if (fds := self._descriptors()) > before.descriptors + SPARE_DESCRIPTORS:
            found.append(f"{fds} descriptors of the host, {before.descriptors} before")
        if files := self._files() - before.files:
            found.append(f"{len(files)} files in folders of /tmp: {sorted(files)[:4]}")
        return found

    def _descriptors(self) -> int:
        try:
            return len(os.listdir(f"/proc/{self._pid}/fd"))
        except PermissionError:
            return 0

    def _files(self) -> frozenset[str]:
        """What is at the top of each folder of /tmp: further down may be deeper than a path can say."""
        folders = [folder for folder in self._tmp.iterdir() if os.access(folder, os.R_OK | os.X_OK)]
        return frozenset(f"{folder.name}/{name}" for folder in folders for name in os.listdir(folder))


def _has_own_user(pid: int) -> bool:
    """Whether it runs as a user that only a sandbox has; blank sandboxes have none yet."""
    try:
        return os.stat(f"/proc/{pid}").st_uid in range(FIRST_SANDBOX_UID, FIRST_SANDBOX_UID + BLOCK_UIDS * MAX_BLOCKS)
    except OSError:
        return False


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "gone"
