"""From a fresh fork of the parent to a sandbox that serves: shut in first, then told what it shall be."""

import json
import os
import signal
import socket
import sys
from typing import Any, NamedTuple, NoReturn

from . import bootstrap, frames, identity, landlock, linux, namespaces, runtime_api, seccomp, snapshot, view

_SETUP_FAILED = 70
_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def become_sandbox(plan: "Plan", cgroups: "list[str]", channel_fd: int, output_fd: int) -> NoReturn:
    """Shut this process in, wait for a function, serve it; never returns. cgroups: the files to enter by."""
    try:
        _take_descriptors(channel_fd, output_fd)
        blank = Blank(plan)
        blank.shut_in(cgroups)
        bootstrap.rehearse()
        with socket.socket(fileno=os.dup(bootstrap.CHANNEL_FD)) as channel:
            receiver = snapshot.Receiver(channel)
            configuration = frames.read_configure(receiver.receive)
        if not configuration:
            os._exit(0)
        request = json.loads(configuration)
        blank.settle(request)
        if not request["commands"]:
            blank.enforce()
    except BaseException as e:
        text = f"{type(e).__name__}: {e}"
        try:
            socket.socket(fileno=bootstrap.CHANNEL_FD).sendall(
                frames.pack_failure(frames.FAULT, "Runtime.SandboxFault", text, b"")
            )
        finally:
            os._exit(_SETUP_FAILED)
    if request["commands"]:
        # What this process does for the program is its own code's; the rules are the program's, from its start on.
        runtime_api.serve(request, blank.enforce)
    template = None
    if request.get("fork_tmps"):
        template = snapshot.Template(socket.socket(fileno=receiver.fds[0]), blank.rules_of_forks())
    bootstrap.serve(request["handler"], template)


class Plan(NamedTuple):
    """What is the same for all sandboxes of a parent: isolation as in `Parent.prepare`, its filter, its pid.

    template_program: the filter of a sandbox that forks others.
    """

    isolation: "dict[str, Any]"
    filter_program: bytes
    parent_pid: int
    template_program: bytes = b""


class Blank:
    """A sandbox without a function: what is the same for all comes first, `settle` is the rest. OSError: refused."""

    def __init__(self, plan: Plan) -> None:
        self._isolation = plan.isolation
        self._filter_program = plan.filter_program
        self._template_program = plan.template_program
        self._parent_pid = plan.parent_pid
        self._namespaces: list[str] = plan.isolation["namespaces"]
        self._view: view.View | None = None
        self._rules: landlock.Ruleset | None = None
        self._granted: list[tuple[str, int]] = []

    def shut_in(self, cgroups: "list[str]") -> None:
        """Everything that needs no knowledge of the function."""
        identity.signal_defaults(_SIGNALS)
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        for path in cgroups:
            with open(path, "w") as file:
                file.write("0")
        if self._isolation["by_user_namespace"] and namespaces.PID in self._namespaces:
            namespaces.enter_pid_namespace_in_a_fork()
        os.setsid()
        # After the cgroups: the cgroup namespace begins where the process is.
        namespaces.enter(self._namespaces)
        isolation = self._isolation
        if namespaces.MOUNT in self._namespaces:
            self._view = view.View(
                isolation["hides"], isolation["needed"], isolation["folder"], others_need=isolation["has_uid"]
            )
            self._view.build(has_own_proc=namespaces.PID in self._namespaces)
        linux.bar_capabilities()
        if isolation["landlock"]:
            self._rules = self._rules_of_all(isolation["landlock"])

    def settle(self, request: "dict[str, Any]") -> None:
        """Take a function's code, /tmp, buckets, user and environment, and give up every privilege; then `enforce`."""
        uid: int | None = request["uid"]
        environment: dict[str, str] = dict(request["environment"])
        code, tmp, layers = request["code"], request["tmp"], request["layers"]
        buckets = [(name, path, writable) for name, path, writable in request["buckets"]]
        if self._view is not None:
            self._view.add_function(request)
            code, tmp, layers = view.TASK_ROOT, "/tmp", view.LAYERS_ROOT if layers else ""
            buckets = [(name, f"{view.MOUNT_ROOT}/{name}", writable) for name, _, writable in buckets]
        else:
            environment["TMPDIR"] = tmp
        for name, path, _ in buckets:
            environment[bucket_variable(name)] = path
        environment["LAMBDA_TASK_ROOT"] = code
        own_uid = uid is not None
        identity.limit(request["limits"], own_uid, is_command=bool(request["commands"]))
        # What one sandbox writes into a bucket, another with another uid must be able to replace.
        os.umask(0 if own_uid else 0o022)
        is_template = bool(request.get("fork_tmps"))
        if uid is not None:
            if is_template:
                namespaces.take_mounts_along(uid)
            identity.become(uid)
        if is_template:
            # A user namespace begins with all, for its programs, too.
            linux.bar_capabilities()
            self._filter_program = self._template_program
        linux.drop_capabilities(but=snapshot.CAPABILITIES if is_template else ())
        own_pids = namespaces.PID in self._namespaces
        identity.bind_to_parent(self._parent_pid, own_pids, own_uid)
        os.chdir(code)
        self._granted = [(path, landlock.READ_AND_RUN) for path in (code, layers) if path]
        self._granted.append((tmp, landlock.EVERYTHING))
        for _, path, is_writable in buckets:
            self._granted.append((path, landlock.EVERYTHING if is_writable else landlock.READ))
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:0] = [code, *request["module_folders"]]
        sys.argv[:] = ["bootstrap", request["handler"]]
        sys.dont_write_bytecode = True

    def enforce(self) -> None:
        """The last of it, after `settle`: which files may be opened, which calls made. OSError: refused."""
        rules = self._rules
        kept_fds = self._view.kept_fds if self._view is not None else []
        if rules is not None:
            for path, access in self._granted:
                rules.allow(path, access)
            for fd in kept_fds:
                rules.allow(f"/proc/self/fd/{fd}", landlock.EVERYTHING)
            rules.allow("/proc/self", landlock.READ)
            rules.enforce()
        for fd in kept_fds:
            os.close(fd)
        if self._filter_program:
            linux.load_seccomp_filter(self._filter_program)

    def rules_of_forks(self) -> snapshot.Rules:
        """What holds for the forks of this one, a template."""
        program = b""
        if self._filter_program:
            program = seccomp.refusal(linux.machine(), snapshot.CALL_OF_TEMPLATE)
        return snapshot.Rules(self._isolation["landlock"], program)

    def _rules_of_all(self, version: int) -> landlock.Ruleset:
        rules = landlock.Ruleset(version)
        rules.allow_system()
        for path in self._isolation["needed"]:
            rules.allow(path, landlock.READ_AND_RUN)
        if self._view is not None:
            rules.allow("/dev/shm", landlock.EVERYTHING)
            for path in view.OWN_ROOTS:
                rules.allow(path, landlock.READ)
        if namespaces.PID in self._namespaces:
            rules.allow("/proc", landlock.READ)
        return rules


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


def bucket_variable(name: str) -> str:
    """The variable that names a bucket's folder inside the sandbox."""
    return "EVENFLOW_BUCKET_" + name.upper().replace("-", "_").replace(".", "_")
