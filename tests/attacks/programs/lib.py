"""What the attack programs share: a variant is tried and gives what it obtained, or why it was refused."""

import ctypes
import errno
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .mark import MARK

# Every planted secret looks like this; the harness knows which ones are real.
CANARY = re.compile(rb"canary-[0-9a-f]{16}")
MAX_EVIDENCE = 8
MAX_EVIDENCE_CHARACTERS = 160
# Whatever is left over ends by itself after this.
LIFE_SECONDS = 30
# What was obtained must last so long: a host may look now and then instead of being asked each time.
KEPT_SECONDS = 2.0
READ_BYTES = 65_536
_PR_SET_NAME = 15

Event = Mapping[str, Any]


class Tries:
    """What one variant got, and how often it was refused for which reason."""

    def __init__(self) -> None:
        self.obtained: list[str] = []
        self.refused: dict[str, int] = {}

    def take(self, what: str, attempt: Callable[..., object], *arguments: Any) -> bool:
        """Try one thing; whether it gave anything."""
        try:
            evidence = attempt(*arguments)
        except OSError as e:
            self.refuse(errno.errorcode.get(e.errno or 0, type(e).__name__))
        except Exception as e:
            self.refuse(type(e).__name__)
        else:
            if evidence:
                self.got(what if evidence is True else f"{what}: {evidence}")
                return True
            self.refuse("nothing there")
        return False

    def got(self, evidence: str) -> None:
        """Note what was obtained."""
        if len(self.obtained) < MAX_EVIDENCE:
            self.obtained.append(evidence[:MAX_EVIDENCE_CHARACTERS])

    def refuse(self, reason: str) -> None:
        """Note a refusal."""
        self.refused[reason] = self.refused.get(reason, 0) + 1


Variant = Callable[[Event, Tries], None]


def run(variants: Mapping[str, Variant], event: Event) -> "dict[str, Any]":
    """Try the variants that the event names, or all of them."""
    answer: dict[str, Any] = {}
    for name in event.get("variants") or variants:
        tries = Tries()
        tries.take(name, variants[name], event, tries)
        if tries.refused.get("nothing there") == 1:
            del tries.refused["nothing there"]
        answer[name] = {"obtained": tries.obtained, "refused": tries.refused}
    return answer


def keep(event: Event, times: int = 1) -> None:
    """Wait as long as what was obtained must last; a control has shown enough."""
    if not event.get("is_control"):
        time.sleep(KEPT_SECONDS * times)


def canaries_in(data: bytes) -> str:
    """The secrets in these bytes, "" when there is none."""
    return " ".join(sorted({found.decode() for found in CANARY.findall(data)}))


def canaries_of(path: str) -> str:
    """The secrets in this file. OSError: it cannot be read."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return canaries_in(os.read(fd, READ_BYTES))
    finally:
        os.close(fd)


def opens(path: str, flags: int) -> bool:
    """Whether it can be opened like that; nothing is read or written. OSError: it cannot."""
    os.close(os.open(path, flags | os.O_NONBLOCK))
    return True


def foreign_pids(event: Event) -> Iterator[int]:
    """Processes that are not this sandbox's: those that the harness names, and whatever /proc shows besides."""
    named = [int(pid) for pid in event.get("pids", {}).values()]
    hides = event.get("only_named_pids") or has_own_pids(event)
    shown = [] if hides else [int(name) for name in os.listdir("/proc") if name.isdigit()]
    yield from dict.fromkeys(pid for pid in [*named, *shown] if pid != os.getpid())


def has_own_pids(event: Event) -> bool:
    """Whether all that /proc shows is this sandbox's, the first process of its PID namespace included."""
    try:
        if os.stat("/proc/self/ns/pid").st_ino == event.get("pid_namespace"):
            return False
        with open("/proc/self/status") as file:
            # One pid: this /proc was mounted in here.
            return any(line.startswith("NSpid:") and len(line.split()) == 2 for line in file)
    except OSError:
        return False


def works(call: Callable[..., object], *arguments: Any) -> bool:
    """True when it returns at all, whatever that is."""
    call(*arguments)
    return True


def in_child(attempt: Callable[..., object], *arguments: Any, seconds: int = 5) -> object:
    """Try something that changes the process in a fork of it. OSError, RuntimeError: as there, or it was killed."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_fd)
        signal.alarm(seconds)
        answer: dict[str, Any] = {}
        try:
            answer["obtained"] = attempt(*arguments)
        except OSError as e:
            answer["errno"] = e.errno
        except BaseException as e:
            answer["error"] = type(e).__name__
        try:
            os.write(write_fd, json.dumps(answer, default=str).encode())
        finally:
            os._exit(0)
    os.close(write_fd)
    with open(read_fd, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(pid, 0)
    if not data:
        code = os.waitstatus_to_exitcode(status)
        raise RuntimeError(f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit {code}")
    told = json.loads(data)
    if "errno" in told:
        raise OSError(told["errno"], "in a child")
    if "error" in told:
        raise RuntimeError(told["error"])
    return told["obtained"]


# Whatever is forked from here on carries the mark, too.
ctypes.CDLL(None).prctl(_PR_SET_NAME, MARK.encode(), 0, 0, 0)


def end_by_itself() -> None:
    """In any case, after some time; for a fork."""
    signal.alarm(LIFE_SECONDS)


def linger() -> None:
    """Stay, deaf to polite signals, until killed or the time is over; for a fork."""
    end_by_itself()
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    try:
        while True:
            signal.pause()
    finally:
        os._exit(0)
