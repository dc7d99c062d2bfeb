"""Attack 17: leave something for whoever comes after: another version, another tenant, another function."""

import builtins
import contextlib
import ctypes
import json
import os
import socket
import time
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

from . import system
from .lib import Event, works
from .mark import MARK

NAME = f"{MARK}-poison"
# Of this run alone, as the name is.
KEY = zlib.crc32(MARK.encode()) & 0x7FFFFFFF | 1
_USER_KEYRING = -4
_KEYCTL_SEARCH, _KEYCTL_UNLINK = 10, 9
_IPC_CREAT, _IPC_RMID = 0o1000, 0
SHARED_FILES = (f"/dev/shm/{NAME}", f"/var/tmp/{NAME}", f"/run/lock/{NAME}", f"/dev/mqueue/{NAME}")
VERSION = "1"


def _tmp() -> str:
    return os.environ.get("TMPDIR", "/tmp")


def _touch(path: str) -> bool:
    with open(path, "w") as file:
        file.write("poison")
    return True


def _in_memory() -> bool:
    for module in (builtins, json):
        module.__dict__["ef_poison"] = True
    return True


def _system_v() -> bool:
    return int(system.libc.shmget(KEY, 4_096, _IPC_CREAT | 0o666)) >= 0


def _abstract() -> bool:
    place = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    place.bind("\0" + NAME)
    # Stays as long as this process.
    builtins.ef_poison_socket = place  # type: ignore[attr-defined]
    return True


def _poisons(event: Event) -> "dict[str, Callable[[], object]]":
    code = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    library = os.path.dirname(os.path.abspath(json.__file__))
    return {
        "memory": _in_memory,
        "/tmp": lambda: _touch(os.path.join(_tmp(), NAME)),
        "the code": lambda: _touch(os.path.join(code, NAME)),
        "the library": lambda: _touch(os.path.join(library, NAME)),
        **{path: partial(_touch, path) for path in SHARED_FILES},
        "System V memory": _system_v,
        "an abstract socket": _abstract,
        "the user's keys": lambda: system.call("add_key", b"user", NAME.encode(), b"x", 1, _USER_KEYRING) > 0,
        "the parent's memory": _write_parent,
    }


def _write_parent() -> bool:
    place = ctypes.create_string_buffer(b"same place in a fork")
    fd = os.open(f"/proc/{os.getppid()}/mem", os.O_RDWR)
    try:
        return os.pwrite(fd, b"s", ctypes.addressof(place)) == 1
    finally:
        os.close(fd)


def _traces(event: Event) -> "dict[str, Callable[[], object]]":
    code = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    library = os.path.dirname(os.path.abspath(json.__file__))
    return {
        "memory": lambda: hasattr(builtins, "ef_poison") or hasattr(json, "ef_poison"),
        "/tmp": lambda: os.path.exists(os.path.join(_tmp(), NAME)),
        "the code": lambda: os.path.exists(os.path.join(code, NAME)),
        "the library": lambda: os.path.exists(os.path.join(library, NAME)),
        **{path: partial(os.path.exists, path) for path in SHARED_FILES},
        "System V memory": lambda: system.libc.shmget(KEY, 0, 0) >= 0,
        "an abstract socket": _sees_abstract,
        "the user's keys": lambda: system.call("keyctl", _KEYCTL_SEARCH, _USER_KEYRING, b"user", NAME.encode(), 0) > 0,
    }


def _removals(event: Event) -> "dict[str, Callable[[], object]]":
    """What the machine shares, removed again; for a plain process of the host's user."""

    def system_v() -> bool:
        number = system.libc.shmget(KEY, 0, 0)
        return bool(number >= 0 and system.libc.shmctl(number, _IPC_RMID, None) == 0)

    def keys() -> bool:
        key = system.call("keyctl", _KEYCTL_SEARCH, _USER_KEYRING, b"user", NAME.encode(), 0)
        return system.succeeds("keyctl", _KEYCTL_UNLINK, key, _USER_KEYRING, 0, 0)

    files = {path: partial(works, os.unlink, path) for path in SHARED_FILES}
    return {**files, "System V memory": system_v, "the user's keys": keys}


def _sees_abstract() -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.connect("\0" + NAME)
    return True


def _which(candidates: "dict[str, Callable[[], object]]") -> "list[str]":
    found = []
    for name, attempt in candidates.items():
        with contextlib.suppress(OSError, RuntimeError):
            if attempt():
                found.append(name)
    return found


def handler(event: Event, _context: object) -> "dict[str, Any]":
    """`do`: poison, look, or poison and crash."""
    if event["do"] == "clean":
        return {"found": _which(_removals(event)), "version": VERSION}
    if event["do"] == "look":
        return {"found": _which(_traces(event)), "version": VERSION, "uid": os.getuid()}
    left = _which(_poisons(event))
    if event["do"] == "crash":
        time.sleep(event.get("seconds", 0))
        os._exit(9)
    return {"left": left, "version": VERSION, "uid": os.getuid()}
