"""AWS's hooks around a snapshot, and what must not be the same in two sandboxes of one.

A function registers hooks with the public package snapshot_restore_py; its registries are used when it was imported.
Sources: that package, awslambdaric's lambda_runtime_hooks_runner, AWS's page on uniqueness with SnapStart.
"""

import os
import sys
from typing import Any

from . import failures

PACKAGE = "snapshot_restore_py"
BEFORE_SNAPSHOT_ERROR = "Runtime.BeforeSnapshotError"
AFTER_RESTORE_ERROR = "Runtime.AfterRestoreError"
_SEED_BYTES = 32


def run_before_snapshot() -> None:
    """The last one registered comes first. Fault: one failed."""
    _run("get_before_snapshot", BEFORE_SNAPSHOT_ERROR, is_reversed=True)


def run_after_restore() -> None:
    """In the order of registration. Fault: one failed."""
    _run("get_after_restore", AFTER_RESTORE_ERROR, is_reversed=False)


def refresh_randomness() -> None:
    """New seeds for what was loaded already; os.urandom and what draws on it need none."""
    loaded = sys.modules
    for name, refresh in _REFRESHES.items():
        if name in loaded:
            refresh(loaded[name])


def _run(registry: str, error_type: str, *, is_reversed: bool) -> None:
    package = sys.modules.get(PACKAGE)
    if package is None:
        return
    hooks = list(getattr(package, registry)())
    for function, arguments, named in reversed(hooks) if is_reversed else hooks:
        try:
            function(*arguments, **named)
        except Exception as e:
            found = failures.of_exception(e, "")
            raise failures.Fault(error_type, f"{found.error_type}: {found.message}", found.stack) from e


def _refresh_random(random: Any) -> None:
    random.seed()


def _refresh_uuid(uuid: Any) -> None:
    uuid._last_timestamp = None
    # The library behind it counts on in memory that all forks have alike; uuid1's own way draws at random.
    uuid._generate_time_safe = None
    for name in ("_last_timestamp_v6", "_last_timestamp_v7"):
        if hasattr(uuid, name):
            setattr(uuid, name, None)


def _refresh_numpy(random: Any) -> None:
    random.seed(int.from_bytes(os.urandom(4), "little"))


def _refresh_openssl(ssl: Any) -> None:
    ssl.RAND_add(os.urandom(_SEED_BYTES), float(_SEED_BYTES))


def _refresh_tempfile(tempfile: Any) -> None:
    tempfile._name_sequence = None


_REFRESHES = {
    "random": _refresh_random,
    "uuid": _refresh_uuid,
    "numpy.random": _refresh_numpy,
    "ssl": _refresh_openssl,
    "tempfile": _refresh_tempfile,
}
