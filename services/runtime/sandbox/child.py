"""From a fresh fork of the parent to a sandbox that serves."""

import os
import signal
import socket
import sys
from typing import Any, NoReturn

from . import bootstrap, frames, isolate, runtime_api

_SETUP_FAILED = 70


def become_sandbox(
    request: "dict[str, Any]", channel_fd: int, output_fd: int, parent_pid: int, needed: "list[str]"
) -> NoReturn:
    """Shut this process in and serve the function of the request; never returns."""
    try:
        _take_descriptors(channel_fd, output_fd)
        _shut_in(request, parent_pid, needed)
    except BaseException as e:
        text = f"{type(e).__name__}: {e}"
        try:
            socket.socket(fileno=bootstrap.CHANNEL_FD).sendall(
                frames.pack_failure(frames.FAULT, "Runtime.SandboxFault", text, b"")
            )
        finally:
            os._exit(_SETUP_FAILED)
    if request["commands"]:
        runtime_api.serve(request)
    bootstrap.serve(request["handler"])


def _take_descriptors(channel_fd: int, output_fd: int) -> None:
    # Both may stand where another one belongs: move them out of the way first.
    channel_fd, output_fd = os.dup(channel_fd), os.dup(output_fd)
    while min(channel_fd, output_fd) <= bootstrap.CHANNEL_FD:
        channel_fd, output_fd = os.dup(channel_fd), os.dup(output_fd)
    nothing = os.open("/dev/null", os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output_fd, 1)
    os.dup2(output_fd, 2)
    os.dup2(channel_fd, bootstrap.CHANNEL_FD, inheritable=False)
    os.closerange(bootstrap.CHANNEL_FD + 1, os.sysconf("SC_OPEN_MAX"))


def _shut_in(request: "dict[str, Any]", parent_pid: int, needed: "list[str]") -> None:
    os.setsid()
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)
    uid: int | None = request["uid"]
    namespaces: str = request["namespaces"]
    environment: dict[str, str] = dict(request["environment"])
    code = request["code"]
    if namespaces:
        isolate.enter_namespaces(namespaces)
        isolate.build_view(request, needed)
        code = isolate.TASK_ROOT
    else:
        environment["TMPDIR"] = request["tmp"]
    for name, path, _ in request["buckets"]:
        environment[bucket_variable(name)] = f"{isolate.MOUNT_ROOT}/{name}" if namespaces else path
    environment["LAMBDA_TASK_ROOT"] = code
    isolate.limit(request["limits"], own_uid=uid is not None)
    # What one sandbox writes into a bucket, another with another uid must be able to replace.
    os.umask(0 if uid is not None else 0o022)
    if uid is not None:
        isolate.become(uid)
    elif namespaces == "user":
        isolate.drop_capabilities()
    isolate.bind_to_parent(parent_pid, own_uid=uid is not None)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(code)
    sys.path[:0] = [code, *request["module_folders"]]
    sys.argv[:] = ["bootstrap", request["handler"]]
    sys.dont_write_bytecode = True


def bucket_variable(name: str) -> str:
    """The variable that names a bucket's folder inside the sandbox."""
    return "EVENFLOW_BUCKET_" + name.upper().replace("-", "_").replace(".", "_")
