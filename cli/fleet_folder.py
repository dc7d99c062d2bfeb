"""A fleet's data directory: private, locked by one fleet at a time, with the fleet's token."""

import fcntl
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cli.failures import CliError

DATA_VARIABLE = "EVENFLOW_DATA"
DEFAULT_DATA = ".evenflow"
LOCK_NAME = "fleet.lock"
TOKEN_NAME = "fleet.token"
TOKEN_BYTES = 32
MAX_SOCKET_PATH_BYTES = 107
# The longest name in the run folder: a node id of 16 characters and what the metrics' socket adds.
LONGEST_SOCKET_NAME = "frontend-1234567.metrics.sock"
RUN_PREFIX = "evenflow-"
# After a killed supervisor its services drain for a moment and hold the lock as long.
LOCK_WAIT_SECONDS = 12.0
_LOCK_POLL_SECONDS = 0.05


def data_folder(given: Path | None) -> Path:
    """--data, else EVENFLOW_DATA, else ./.evenflow; absolute."""
    chosen = given or Path(os.environ.get(DATA_VARIABLE) or DEFAULT_DATA)
    return Path(os.path.abspath(chosen.expanduser()))


def prepare_data(folder: Path) -> None:
    """Make the folder, 0700. CliError: it cannot be made or belongs to somebody else."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid != os.geteuid():
            raise CliError(f"data directory {folder} belongs to another user: choose another with --data")
        if stat.S_IMODE(found.st_mode) != 0o700:
            folder.chmod(0o700)
        for name in ("logs", "buckets", "traces", "snapshots"):
            (folder / name).mkdir(exist_ok=True)
    except OSError as e:
        raise CliError(f"data directory {folder} cannot be used: {e.strerror}") from None


class FleetLock:
    """The exclusive lock of a data directory; inherited by the services, so that it ends with the last of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / LOCK_NAME
        self.fd = -1

    def acquire(self, wait_seconds: float = LOCK_WAIT_SECONDS, say: Callable[[str], None] = lambda _text: None) -> None:
        """Take it. CliError: another fleet has it, named by its pid."""
        self.fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + wait_seconds
        has_said = False
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pid = self._holder()
                # A dead supervisor's services are on their way out: worth a wait. A living one is not.
                if (pid and _is_alive(pid)) or time.monotonic() > deadline:
                    self.release()
                    who = f" (pid {pid})" if pid else ""
                    raise CliError(
                        f"data directory {self._folder} is in use by another fleet{who}: "
                        "stop it, or choose another with --data"
                    ) from None
                if not has_said:
                    has_said = True
                    say("waiting for processes of the last fleet to end")
                time.sleep(_LOCK_POLL_SECONDS)
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let it go."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _holder(self) -> int:
        try:
            return int(os.pread(self.fd, 32, 0).decode().strip() or 0)
        except ValueError:
            return 0


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def prepare_token(folder: Path) -> Path:
    """The file with the fleet's token, 0600; made once."""
    path = folder / TOKEN_NAME
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        path.chmod(0o600)
        if len(path.read_text().strip()) >= TOKEN_BYTES:
            return path
        # A start that was cut off between making and writing it.
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    with os.fdopen(fd, "w") as file:
        file.write(secrets.token_hex(TOKEN_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return path


def make_run_folder() -> Path:
    """A fresh private folder for sockets, its path short enough. CliError: no place for it."""
    tried: list[str] = []
    for base in dict.fromkeys((os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp")):
        if not base or not os.path.isdir(base):
            continue
        name_bytes = len(os.fsencode(base)) + len(f"/{RUN_PREFIX}12345678/{LONGEST_SOCKET_NAME}")
        if name_bytes > MAX_SOCKET_PATH_BYTES:
            tried.append(f"{base} (too long)")
            continue
        try:
            return Path(tempfile.mkdtemp(prefix=RUN_PREFIX, dir=base))
        except OSError as e:
            tried.append(f"{base} ({e.strerror})")
    raise CliError(f"no folder for the fleet's sockets; tried {', '.join(tried)}: set TMPDIR to a short, writable one")


def remove_run_folder(folder: Path) -> None:
    """Remove a run folder of ours, this fleet's or one that a killed fleet left."""
    is_ours = folder.name.startswith(RUN_PREFIX) and folder.is_dir() and not folder.is_symlink()
    if is_ours and folder.stat().st_uid == os.geteuid():
        shutil.rmtree(folder, ignore_errors=True)
