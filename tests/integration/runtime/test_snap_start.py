"""SnapStart: sandboxes forked from a template that loaded the handler once. As root, with every namespace."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from evenflow.common.v1 import event_pb2

from services.runtime import fork_tmps, nursery
from services.runtime.sandbox import snapshot, strays
from tests.integration.runtime.kit import HostKit, PatientHost
from tests.integration.runtime.test_isolation import shown_in_tmp
from tests.integration.runtime.test_provisioned import publish, ready, target
from tests.kit.waiting import eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a template forks with privileges of its host")

LOOK = """
import os, pathlib, random, secrets, ssl, tempfile, uuid
import snapshot_restore_py
BORN = uuid.uuid4().hex
random.random()
pathlib.Path("/tmp/of-template").write_text("x")
LOADED = {"type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]}
def handler(event, context):
    found = {}
    for name, expression in event.items():
        try:
            found[name] = eval(expression)
        except BaseException as e:
            found[name] = type(e).__name__
    return found
"""
CAPABILITIES = "[l.split()[1] for l in open('/proc/self/status') if l.startswith('Cap')]"
HOLD = "__import__('time').sleep(0.3)"


@pytest.fixture
async def kit(run_dir: Path) -> AsyncIterator[HostKit]:
    """A host that can do it."""
    async with HostKit(run_dir) as kit:
        needs(kit)
        yield kit


def needs(kit: HostKit) -> None:
    """Skip where this root may not do it."""
    if kit.host.dispatcher.nursery.snapshots.missing:
        pytest.skip(kit.host.dispatcher.nursery.snapshots.missing)


def command_of(pid: int) -> bytes:
    """The command line of a process; empty: it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


async def at_once(kit: HostKit, name: str, events: list[Any], **changes: Any) -> list[Any]:
    """Results of synchronous runs that overlap, so that each has a sandbox of its own."""
    return await asyncio.gather(*(kit.call(name, event, **changes) for event in events))


def template_of(kit: HostKit) -> Any:
    """The only one."""
    (template,) = kit.host.dispatcher.nursery.snapshots._all
    return template


async def test_loaded_once_and_different_in_each(kit: HostKit) -> None:
    """The module's own values are the same everywhere; seeds, names and identifiers are not."""
    kit.deploy("look", LOOK, snap_start=True)
    ask = {
        "born": "BORN",
        "random": "random.random()",
        "uuid4": "uuid.uuid4().hex",
        "uuid1": "uuid.uuid1().hex",
        "secret": "secrets.token_hex()",
        "name": "next(tempfile._get_candidate_names())",
        "stream": "context.log_stream_name",
        "hold": HOLD,
        "type": "os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']",
        "loaded": "LOADED['type']",
    }
    found = await at_once(kit, "look", [ask] * 6)
    assert {one["born"] for one in found} == {found[0]["born"]}
    for name in ("random", "uuid4", "uuid1", "secret", "name", "stream"):
        assert len({one[name] for one in found}) == 6, name
    assert {one["type"] for one in found} == {one["loaded"] for one in found} == {"snap-start"}


async def test_every_python_that_is_here_has_it(run_dir: Path) -> None:
    """Each forks from a template of its own version."""
    async with PatientHost(run_dir) as kit:
        needs(kit)
        for line in (await kit.host.runtimes.table()).pythons:
            name = f"on-{line.replace('.', '-')}"
            kit.deploy(name, "import sys\n" + LOOK, snap_start=True, runtime=f"python{line}")
            ask = {"born": "BORN", "version": "list(sys.version_info[:2])", "uuid1": "uuid.uuid1().hex", "hold": HOLD}
            found = await at_once(kit, name, [ask] * 3)
            assert found[0]["version"] == [int(part) for part in line.split(".")]
            assert len({one["born"] for one in found}) == 1 and len({one["uuid1"] for one in found}) == 3


async def test_hooks_run_in_their_order(kit: HostKit) -> None:
    """Before the snapshot the last one first, once; after it in order, in each sandbox."""
    source = """
from snapshot_restore_py import register_after_restore, register_before_snapshot
SEEN = []
register_before_snapshot(SEEN.append, "before 1")
register_before_snapshot(SEEN.append, "before 2")
@register_after_restore
def first():
    SEEN.append("after 1")
register_after_restore(SEEN.append, "after 2")
def handler(event, context):
    __import__("time").sleep(0.2)
    return SEEN
"""
    kit.deploy("hooked", source, snap_start=True)
    for seen in await at_once(kit, "hooked", [None] * 3):
        assert seen == ["before 2", "before 1", "after 1", "after 2"]


@pytest.mark.parametrize(
    ("hook", "error_type", "message"),
    [
        ("register_before_snapshot", "Runtime.BeforeSnapshotError", "ZeroDivisionError: division by zero"),
        ("register_after_restore", "Runtime.AfterRestoreError", "ZeroDivisionError: division by zero"),
    ],
)
async def test_a_hook_that_fails_fails_the_run(kit: HostKit, hook: str, error_type: str, message: str) -> None:
    """AWS's names for it, and the next run is tried anew."""
    source = f"import snapshot_restore_py as s\ns.{hook}(lambda: 1 / 0)\ndef handler(event, context):\n    return 1\n"
    kit.deploy("hooked", source, snap_start=True)
    for _ in range(2):
        outcome = await kit.invoke("hooked")
        assert (outcome.error_type, outcome.error_message) == (error_type, message)
        assert outcome.status == event_pb2.OUTCOME_STATUS_FUNCTION_ERROR
    assert f"[ERROR] {error_type}: {message}" in kit.log("hooked")


async def test_a_restore_without_end_is_given_up(kit: HostKit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bound is its own, not that of an init."""
    monkeypatch.setattr(nursery, "RESTORE_SECONDS", 0.3)
    source = "import snapshot_restore_py as s, time\ns.register_after_restore(time.sleep, 60)\ndef handler(e, c): ...\n"
    kit.deploy("slow", source, snap_start=True)
    outcome = await kit.invoke("slow")
    assert outcome.error_type == "SnapStartTimeoutException"


async def test_an_import_that_fails_is_told_as_ever(kit: HostKit) -> None:
    """The template's failure is the run's."""
    kit.deploy("broken", "import nothing_of_the_kind\n", snap_start=True)
    outcome = await kit.invoke("broken")
    assert outcome.error_type == "Runtime.ImportModuleError" and "nothing_of_the_kind" in outcome.error_message
    kit.deploy("exits", "import os\nos._exit(3)\n", snap_start=True)
    outcome = await kit.invoke("exits")
    assert outcome.error_type == "Runtime.ExitError" and "exit status 3" in outcome.error_message


async def test_each_has_its_own_tmp(kit: HostKit) -> None:
    """Nothing of the template's, nothing of another's, nothing of who had it before."""
    kit.deploy("look", LOOK, snap_start=True)
    write = "pathlib.Path('/tmp/' + context.aws_request_id).write_text('x')"
    ask = {"before": "os.listdir('/tmp')", "wrote": write, "hold": HOLD, "after": "os.listdir('/tmp')"}
    for _ in range(2):
        found = await at_once(kit, "look", [ask] * 4)
        for one in found:
            assert set(one["before"]) <= shown_in_tmp() and one["wrote"] == 1
            assert len(set(one["after"]) - shown_in_tmp()) == 1
        for sandbox in list(kit.host.dispatcher.nursery.sandboxes.values()):
            kit.host.dispatcher._room.retire(sandbox, "idle")
        await eventually(lambda: not template_of(kit).used_forks and not template_of(kit)._emptying)
    template = template_of(kit)
    assert all(os.stat(path).st_uid == template.seat.uid for path in template._tmps.paths)
    await eventually(lambda: len(template._tmps._free) == snapshot.MAX_FORKS - kit.settings.spare_sandboxes)


async def test_a_crash_is_its_own(kit: HostKit) -> None:
    """The others go on, how it ended is told, and what it had started is gone."""
    kit.deploy("look", LOOK, snap_start=True)
    start = "__import__('subprocess').Popen(['sleep', '4711'], start_new_session=True).pid"
    crash = {"child": start, "end": "os._exit(7)"}
    died, *others = await asyncio.gather(
        kit.invoke("look", crash), *(kit.invoke("look", {"born": "BORN", "hold": HOLD}) for _ in range(3))
    )
    assert died.error_type == "Runtime.ExitError" and "exit status 7" in died.error_message
    assert all(one.status == event_pb2.OUTCOME_STATUS_SUCCEEDED for one in others)
    died = await kit.invoke("look", {"end": "os.kill(os.getpid(), 11)"})
    assert "segmentation fault" in died.error_message
    assert not [one for one in strays.descendants_of(os.getpid()) if b"4711" in command_of(one)]
    assert template_of(kit).is_ready


async def test_a_timeout_is_its_own(kit: HostKit) -> None:
    """Asked by SIGTERM first, then killed, with what it had started."""
    kit.deploy("look", LOOK, snap_start=True, timeout_ms=500)
    start = "__import__('subprocess').Popen(['sleep', '4712'], start_new_session=True).pid"
    late, other = await asyncio.gather(
        kit.invoke("look", {"child": start, "end": "__import__('time').sleep(60)"}),
        kit.invoke("look", {"hold": HOLD, "born": "BORN"}),
    )
    assert late.error_type == "Sandbox.Timedout" and other.status == event_pb2.OUTCOME_STATUS_SUCCEEDED
    assert not [one for one in strays.descendants_of(os.getpid()) if b"4712" in command_of(one)]
    await kit.call("look", {"born": "BORN"})


async def test_after_a_crash_of_the_template_all_are_replaced(kit: HostKit) -> None:
    """Runs in its forks fail; the next one works at once, and with a template again after a while."""
    kit.deploy("look", LOOK, snap_start=True)
    (first,) = await at_once(kit, "look", [{"born": "BORN"}])
    template = template_of(kit)
    under_way = kit.begin(kit.invocation("look", {"end": "__import__('time').sleep(60)"}))
    await eventually(lambda: bool(kit.host.dispatcher.busy))
    os.kill(template.pid, signal.SIGKILL)
    assert (await under_way).error_type == "Runtime.ExitError"
    (second,) = await at_once(kit, "look", [{"born": "BORN"}])
    assert second["born"] != first["born"]
    await eventually(lambda: template not in kit.host.dispatcher.nursery.snapshots._all)
    kit.host.dispatcher.nursery.snapshots._failures["default", "look", "$LATEST"] = 1, 0.0
    third = await at_once(kit, "look", [{"born": "BORN", "hold": HOLD}] * 3)
    # One may be the idle sandbox that had loaded the handler itself.
    assert len({one["born"] for one in third} - {second["born"]}) == 1
    assert template_of(kit).is_ready


async def test_a_fork_is_shut_in_like_any_sandbox(kit: HostKit) -> None:
    """No capability, no way into the template's mounts or a neighbour's, no signal to them, no new mounts."""
    kit.deploy("look", LOOK, snap_start=True)
    libc = "__import__('ctypes').CDLL(None, use_errno=True)"
    others = "[p for p in map(int, filter(str.isdigit, os.listdir('/proc'))) if p not in (1, os.getpid())]"

    def tried(what: str) -> str:
        """What came of it for each process beside its own; nobody may have succeeded."""
        return f"[p for p in {others} if not __import__('app').refused(lambda: {what})]"

    source = LOOK + "\ndef refused(attempt):\n    try:\n        attempt()\n    except OSError:\n        return True\n"
    kit.deploy("look", source, snap_start=True)
    ask = {
        "open": "sorted(int(n) for n in os.listdir('/proc/self/fd'))",
        "caps": CAPABILITIES,
        "privs": "[l.split()[1] for l in open('/proc/self/status') if l.startswith(('NoNewPrivs', 'Seccomp:'))]",
        "filters": "[l.split()[1] for l in open('/proc/self/status') if l.startswith('Seccomp_filters')]",
        "others": f"len({others})",
        "setns": f"{libc}.setns(os.open('/proc/self/ns/mnt', os.O_RDONLY), 0x20000)",
        "unshare": f"{libc}.unshare(0x10000000)",
        "mount": f"{libc}.mount(b'x', b'/tmp', b'tmpfs', 0, None)",
        "roots": tried("os.listdir(f'/proc/{p}/root/tmp')"),
        "mounts": tried("os.open(f'/proc/{p}/ns/mnt', os.O_RDONLY)"),
        "memory": tried("open(f'/proc/{p}/mem', 'rb')"),
        "fds": tried("os.readlink(f'/proc/{p}/fd/3')"),
        "killed": tried("os.kill(p, 0)"),
        "write": "open('/var/task/x', 'w')",
        "uid": "os.getuid()",
        "groups": "open('/proc/self/cgroup').read()",
        "hold": HOLD,
    }
    first, second = await at_once(kit, "look", [ask] * 2)
    for one in (first, second):
        assert all(int(value, 16) == 0 for value in one["caps"]), one["caps"]
        assert one["filters"] in ([], ["2"])
        assert one["privs"] == ["1", "2"] and one["others"] >= 1
        assert one["setns"] == one["unshare"] == one["mount"] == -1
        assert not any(one[name] for name in ("roots", "mounts", "memory", "fds")), one
        assert one["write"] == "OSError" and one["open"][:4] == [0, 1, 2, 3] and len(one["open"]) <= 5
        if kit.host.isolation.landlock >= 6:
            assert one["killed"] == []
    assert first["groups"] != second["groups"] and first["uid"] == second["uid"] >= 20_000


async def test_what_a_template_loads_is_shut_in_too(kit: HostKit) -> None:
    """It keeps two capabilities that own nothing: no mounts, no namespaces, no other user, no files of the fleet."""
    source = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def tried(attempt):
    try:
        return attempt()
    except OSError as e:
        return type(e).__name__
def into(path, kind):
    with open(path) as file:
        return libc.setns(file.fileno(), kind)
FOUND = {
    "caps": [l.split()[1] for l in open("/proc/self/status") if l.startswith("Cap")],
    "mount": libc.mount(b"x", b"/tmp", b"tmpfs", 0, None),
    "umount": libc.umount2(b"/tmp", 2),
    "unshare": [libc.unshare(flag) for flag in (0x20000, 0x10000000, 0x40000000)],
    "clone": tried(lambda: libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)),
    "chroot": libc.chroot(b"/tmp"),
    "hostname": libc.sethostname(b"x", 1),
    "setuid": tried(lambda: os.setuid(0)),
    "init": [tried(lambda: into(f"/proc/1/ns/{name}", 0)) for name in ("mnt", "user", "pid", "net")],
    "own": [tried(lambda: into(f"/proc/self/ns/{name}", 0)) for name in ("user", "pid", "net", "ipc", "uts", "cgroup")],
    "fds": sorted(int(n) for n in os.listdir("/proc/self/fd")),
    "remount": libc.mount(b"none", b"/var/task", b"", 32 | 4096, None),
    "write": tried(lambda: open("/var/task/x", "w")),
    "data": tried(lambda: os.listdir(os.environ["DATA"])),
    "kill": tried(lambda: os.kill(1, 0)),
    "environ": open("/proc/self/environ").read(),
    "groups": os.getgroups(),
}
def handler(event, context):
    return FOUND
"""
    data = kit.settings.data_dir
    os.environ["EVENFLOW_TEST_SECRET"] = "canary"
    try:
        kit.deploy("tries", source, snap_start=True, environment={"DATA": data})
        found = await kit.call("tries")
    finally:
        del os.environ["EVENFLOW_TEST_SECRET"]
    assert [int(value, 16) for value in found["caps"]] == [0, 1 << 21 | 1 << 18, 1 << 21 | 1 << 18, 0, 0]
    assert found["mount"] == found["umount"] == found["chroot"] == found["hostname"] == found["remount"] == -1
    assert (
        found["unshare"] == [-1, -1, -1] and found["setuid"] in ("PermissionError", "OSError") and found["clone"] == -1
    )
    assert set(found["init"]) == {"PermissionError"} and set(found["own"]) == {-1}
    assert found["write"] == "OSError" and found["data"] == "FileNotFoundError"
    assert found["kill"] == "PermissionError" and "canary" not in str(found) and found["groups"] == []
    assert found["fds"][:4] == [0, 1, 2, 3] and len(found["fds"]) <= 6


async def test_bounds_are_each_ones_own(run_dir: Path) -> None:
    """Memory, processes and /tmp: who passes them is ended or refused, a neighbour has all of its own."""
    async with HostKit(run_dir, max_processes=40, tmp_mb=8) as kit:
        needs(kit)
        kit.deploy("look", "import subprocess\nKEPT = []\n" + LOOK, snap_start=True)
        eat = "KEPT.extend(bytearray(1 << 20) for _ in range(400)) or len(KEPT)"
        start = "[KEPT.append(subprocess.Popen(['sleep', '5'])) for _ in range({})] and len(KEPT)"
        fill = "[open('/tmp/large', 'ab').write(b'x' * (1 << 20)) for _ in range(16)] and __import__('time').sleep(3)"
        modest = {"few": start.format(10), "hold": HOLD, "some": "len(bytes(1 << 25))"}
        eaten, many, filled, *fine = await asyncio.gather(
            kit.invoke("look", {"eat": eat}),
            # Its processes stay: nobody else may get its sandbox, however long the others take to start.
            kit.call("look", {"many": start.format(100), "hold": "__import__('time').sleep(2)"}),
            kit.invoke("look", {"fill": fill}),
            *(kit.call("look", modest) for _ in range(4)),
        )
        assert eaten.error_type == filled.error_type == "Runtime.ExitError", (eaten, filled)
        assert "killed" in eaten.error_message and "/tmp was over its size" in filled.error_message
        assert many["many"] == "BlockingIOError"
        # In the same groups again: what ended their processes left the limits as they were.
        for sandbox in list(kit.host.dispatcher.nursery.sandboxes.values()):
            kit.host.dispatcher._room.retire(sandbox, "idle")
        await eventually(lambda: not template_of(kit).used_forks)
        again = await at_once(kit, "look", [{"many": start.format(100), "hold": HOLD}] * 4)
        assert [one["many"] for one in again] == ["BlockingIOError"] * 4
        assert fine == [{"few": 10, "hold": None, "some": 1 << 25}] * 4


async def test_a_module_whose_forks_do_not_live_goes_without(kit: HostKit) -> None:
    """After a few the template is given up, and sandboxes load the handler."""
    source = "import os\nos.register_at_fork(after_in_child=lambda: os._exit(1))\ndef handler(event, context): ...\n"
    kit.deploy("lone", source, snap_start=True)
    outcomes = [await kit.invoke("lone") for _ in range(8)]
    assert outcomes[-1].status == event_pb2.OUTCOME_STATUS_SUCCEEDED, outcomes[-1]
    assert {one.error_type for one in outcomes} <= {"", "Runtime.ExitError"}


async def test_a_broken_function_that_is_kept_ready_is_not_loaded_without_pause(kit: HostKit) -> None:
    """Its template fails as its sandboxes would, and is tried again after a while."""
    publish(kit, "print('loading')\n1 / 0\n", snap_start=True)
    target(kit, 1)
    await eventually(lambda: "loading" in kit.log("f"))
    function = kit.host.dispatcher.functions()[0]
    await eventually(lambda: function.provisioned.failures == 1)
    assert (await kit.invoke("f", version="1")).error_type == "ZeroDivisionError"
    # One of each: what was to be kept ready waits for its next try.
    assert kit.log("f").count("loading") == 2 and function.provisioned.failures == 1


async def test_what_is_kept_ready_is_restored_too(kit: HostKit) -> None:
    """Provisioned sandboxes are forks of the template, initialised as what they are."""
    publish(kit, LOOK, snap_start=True)
    target(kit, 2)
    await ready(kit, 2)
    ask = {"born": "BORN", "type": "os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']", "hold": HOLD}
    first, second = await at_once(kit, "f", [ask] * 2, version="1")
    assert first == second and first["type"] == "provisioned-concurrency"


@pytest.mark.parametrize("descriptor", ["3", "control"])
async def test_a_template_that_lies_harms_only_itself(kit: HostKit, descriptor: str) -> None:
    """Rubbish for the host from a module that is being loaded ends it; a neighbour notices nothing."""
    source = f"""
import os, time
control = [n for n in map(int, os.listdir("/proc/self/fd")) if n > 3 and os.path.exists(f"/proc/self/fd/{{n}}")]
os.write({descriptor if descriptor == "3" else "control[0]"}, b"x" * 100)
time.sleep(60)
"""
    kit.deploy("liar", source, snap_start=True)
    kit.deploy("look", LOOK, snap_start=True)
    outcome, fine = await asyncio.gather(kit.invoke("liar"), kit.call("look", {"born": "BORN"}))
    assert outcome.error_type == "Runtime.ExitError" and fine["born"]
    assert kit.host.dispatcher.nursery.snapshots._templates["default", "look", "$LATEST"].is_ready


async def test_a_template_may_not_speak_for_what_it_is_not(kit: HostKit) -> None:
    """It says that forks ended which live, in ways that nobody ends: they go on."""
    source = """
import json, os, snapshot_restore_py, socket, threading, time
control = [n for n in map(int, os.listdir("/proc/self/fd")) if n > 3 and os.path.exists(f"/proc/self/fd/{n}")][0]
def lie():
    with socket.socket(fileno=os.dup(control)) as sock:
        while True:
            for number in range(1, 20):
                sock.send(json.dumps({"ended": number, "status": 0x137F}).encode())
            time.sleep(0.005)
snapshot_restore_py.register_before_snapshot(lambda: threading.Thread(target=lie, daemon=True).start())
def handler(event, context):
    time.sleep(0.2)
    return os.getpid()
"""
    kit.deploy("liar", source, snap_start=True)
    kit.deploy("look", LOOK)
    kit.begin(kit.invocation("liar"))
    for _ in range(5):
        assert (await kit.call("look", {"two": "1 + 1"}))["two"] == 2
    for sandbox in list(kit.host.dispatcher.nursery.sandboxes.values()):
        kit.host.dispatcher._room.retire(sandbox, "idle")


async def test_a_new_revision_has_a_template_of_its_own(kit: HostKit) -> None:
    """The old one ends when its forks have."""
    kit.deploy("look", "A = 1\n" + LOOK, snap_start=True)
    slow = kit.begin(kit.invocation("look", {"hold": HOLD, "a": "A"}))
    await eventually(lambda: bool(kit.host.dispatcher.busy))
    old = template_of(kit)
    kit.deploy("look", "A = 2\n" + LOOK, snap_start=True)
    assert (await kit.call("look", {"a": "A"}))["a"] == 2
    assert json.loads((await slow).response_payload)["a"] == 1
    await eventually(lambda: old not in kit.host.dispatcher.nursery.snapshots._all)
    assert template_of(kit).is_ready and template_of(kit) is not old


async def test_an_unused_template_ends(run_dir: Path) -> None:
    """Later than its forks."""
    async with HostKit(run_dir, idle_seconds=0.05) as kit:
        needs(kit)
        kit.deploy("look", LOOK, snap_start=True)
        await kit.call("look", {"born": "BORN"})
        template = template_of(kit)
        await eventually(lambda: not kit.host.dispatcher.nursery.snapshots._all)
        assert template.sandbox.end_cause == "idle" and kit.host.dispatcher.nursery.census.memory_mb == 0
        assert not Path(template.seat.tmp_dir + fork_tmps.SUFFIX).exists()


async def test_a_template_takes_memory_of_the_budget(run_dir: Path) -> None:
    """It gives way to another function; where it would not fit with a fork, there is none."""
    async with HostKit(run_dir, memory_mb=384) as kit:
        needs(kit)
        kit.deploy("look", LOOK, snap_start=True)
        kit.deploy("large", LOOK, memory_mb=384)
        kit.deploy("larger", LOOK, memory_mb=256, snap_start=True)
        await kit.call("look", {"born": "BORN"})
        assert kit.host.dispatcher.nursery.census.memory_mb == 256
        await kit.call("large", {"born": "BORN"})
        assert not kit.host.dispatcher.nursery.snapshots._templates
        await kit.call("larger", {"born": "BORN"})
        assert not kit.host.dispatcher.nursery.snapshots._templates


async def test_beyond_its_forks_sandboxes_load_the_handler(run_dir: Path) -> None:
    """A bound of the template is none of the function."""
    async with HostKit(run_dir, spare_sandboxes=0) as kit:
        needs(kit)
        kit.deploy("look", LOOK, snap_start=True)
        (first,) = await at_once(kit, "look", [{"born": "BORN"}])
        del template_of(kit)._tmps._free[1:]
        found = await at_once(kit, "look", [{"born": "BORN", "hold": HOLD}] * 4)
        born = [one["born"] for one in found]
        assert born.count(first["born"]) == 2 and len(set(born)) == 3


async def test_without_the_means_it_runs_without(run_dir: Path) -> None:
    """The log says why, once; the handler is loaded by each."""
    async with HostKit(run_dir, isolation="0") as kit:
        kit.deploy("look", LOOK.replace("/tmp/", "/dev/null").replace("of-template", ""), snap_start=True)
        found = await at_once(kit, "look", [{"born": "BORN", "hold": HOLD}] * 2)
        assert found[0]["born"] != found[1]["born"]
        assert kit.log("look").count("[evenflow] SnapStart is not used for this function") == 1


async def test_a_restore_is_faster_than_the_import_that_it_saves(kit: HostKit) -> None:
    """With a module that takes 300 ms to import; the figures are in what this prints."""
    source = "import time\ntime.sleep(0.3)\ndef handler(event, context):\n    return 1\n"
    kit.deploy("slow", source, snap_start=True)
    restores_us: list[int] = []
    for _ in range(21):
        outcome = await kit.invoke("slow")
        restores_us.append(outcome.init_duration_us)
        for sandbox in list(kit.host.dispatcher.nursery.sandboxes.values()):
            kit.host.dispatcher._room.retire(sandbox, "idle")
        await eventually(lambda: not kit.host.dispatcher.nursery.sandboxes)
    restores_us.sort()
    print(f"restore: p50 {restores_us[10] / 1_000:.1f} ms, max {restores_us[-1] / 1_000:.1f} ms")
    assert all(restores_us) and restores_us[10] < 150_000
    log = kit.log("slow")
    assert log.count("RESTORE_START Runtime Version: python:") == log.count("RESTORE_REPORT Restore Duration: ") == 21
    assert "\tRestore Duration: " in log and "\tBilled Restore Duration: " in log and "Init Duration" not in log
