"""What a sandbox sees and what it does not; as root with mounts, and as an ordinary user."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from evenflow.control.v1 import resources_pb2

from tests.integration.runtime.kit import HostKit

is_root = os.geteuid() == 0
LOOK = """
import os, pathlib
def handler(event, context):
    found = {}
    for name, expression in event.items():
        try:
            found[name] = eval(expression)
        except Exception as e:
            found[name] = f"{type(e).__name__}"
    return found
"""


async def test_no_secrets_and_no_descriptors(run_dir: Path) -> None:
    """The environment is AWS's and the function's; open are stdio and the channel."""
    async with HostKit(run_dir) as kit:
        kit.deploy("look", LOOK)
        os.environ["EVENFLOW_TEST_SECRET"] = "canary"
        try:
            got = await kit.call(
                "look",
                {
                    "env": "dict(os.environ)",
                    "first": "open('/proc/self/environ').read()",
                    "fds": "sorted(int(n) for n in os.listdir('/proc/self/fd'))",
                    "loaded": "[m for m in __import__('sys').modules if m.startswith(('grpc', 'opentel', 'services'))]",
                    "grpc": "__import__('grpc') and 1",
                    "boto3": "__import__('boto3').__version__",
                    "privs": "[l for l in open('/proc/self/status') if l.startswith('NoNewPrivs')][0].split()[1]",
                    "caps": "[l for l in open('/proc/self/status') if l.startswith('CapEff')][0].split()[1]",
                },
            )
        finally:
            del os.environ["EVENFLOW_TEST_SECRET"]
        assert "canary" not in str(got)
        assert not any(name.startswith("EVENFLOW_") for name in got["env"])
        assert got["loaded"] == [] and got["grpc"] == "ModuleNotFoundError"
        assert got["boto3"][0].isdigit()
        if isinstance(got["fds"], list):
            assert got["fds"][:4] == [0, 1, 2, 3] and len(got["fds"]) <= 5
        assert got["privs"] == "1"
        if is_root or kit.host.isolation.namespaces:
            assert int(got["caps"], 16) == 0


@pytest.mark.skipif(not is_root, reason="needs root: a uid and mounts for each sandbox")
async def test_a_sandbox_of_a_root_host_is_somebody_else(run_dir: Path) -> None:
    """Own uid, read-only code at /var/task, private /tmp, the fleet's folders empty."""
    async with HostKit(run_dir) as kit:
        if not kit.host.isolation.has_mounts:
            pytest.skip("this root may not mount")
        assert kit.host.tier in ("a", "b", "c")
        kit.deploy("look", LOOK)
        kit.deploy("other", LOOK)
        code_dir = Path(kit.settings.data_dir, "runtime/runtime-0/packages")
        got = await kit.call(
            "look",
            {
                "uid": "os.getuid()",
                "file": "__file__",
                "write": "open('/var/task/x', 'w')",
                "tmp": "os.listdir('/tmp')",
                "wrote": "pathlib.Path('/tmp/mine').write_text('x')",
                "token": f"open({str(run_dir / 'token')!r}).read()",
                "data": f"os.listdir({kit.settings.data_dir!r})",
                "packages": f"os.listdir({str(code_dir)!r})",
                "kill": f"os.kill({os.getpid()}, 0)",
                "mnt": "os.listdir('/mnt')",
                "remount": "__import__('subprocess').run(['mount', '-o', 'remount,rw', '/var/task']).returncode",
            },
        )
        assert got["uid"] >= 20_000 and got["file"] == "/var/task/app.py" and got["write"] == "OSError"
        assert set(got["tmp"]) <= shown_in_tmp() and got["wrote"] == 1 and got["mnt"] == []
        assert got["token"] == "FileNotFoundError" and got["data"] == got["packages"] == "FileNotFoundError"
        assert got["kill"] in ("PermissionError", "ProcessLookupError") and got["remount"] != 0
        got = await kit.call("other", {"tmp": "os.listdir('/tmp')", "uid": "os.getuid()"})
        assert set(got["tmp"]) <= shown_in_tmp() and got["uid"] >= 20_000


def shown_in_tmp() -> set[str]:
    """What a sandbox must find in its private /tmp: the way to an interpreter that lies there; empty as a rule."""
    homes = [Path(home) for home in (sys.prefix, sys.base_prefix)]
    tops = [Path("/tmp"), Path("/var/tmp")]
    return {home.relative_to(top).parts[0] for home in homes for top in tops if home.is_relative_to(top)}


@pytest.mark.parametrize("isolation", ["auto", "0"])
async def test_granted_buckets_are_seen_and_no_others(run_dir: Path, isolation: str) -> None:
    """Writable and read-only, replaced by another sandbox, locked with flock; what is not granted is not there."""
    source = """
import fcntl, os, pathlib
def handler(event, context):
    into, out = (pathlib.Path(os.environ[f"EVENFLOW_BUCKET_{n}"]) for n in ("IN_PUT", "OUT"))
    with open(out / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        text = (into / "a.txt").read_text()
        (out / "new").write_text(text + event)
        (out / "new").replace(out / "b.txt")
    try:
        (into / "c.txt").write_text("x")
        denied = False
    except OSError:
        denied = True
    return [str(into), denied, "EVENFLOW_BUCKET_OTHER" in os.environ, os.path.exists("/mnt/other")]
"""
    async with HostKit(run_dir, isolation=isolation) as kit:
        buckets = Path(kit.settings.data_dir, "buckets")
        for name in ("in-put", "out", "other"):
            (buckets / name).mkdir(parents=True)
        (buckets / "in-put" / "a.txt").write_text("from a ")
        grants = [resources_pb2.BucketGrant(bucket="in-put"), resources_pb2.BucketGrant(bucket="out", writable=True)]
        for name in ("one", "two"):
            kit.deploy(name, source, buckets=grants)
            where, denied, names_other, sees_other = await kit.call(name, name)
            assert not names_other and not sees_other
            if kit.host.isolation.has_mounts:
                assert where == "/mnt/in-put" and denied
            assert (buckets / "out" / "b.txt").read_text() == f"from a {name}"


async def test_a_package_with_its_own_boto3_wins(run_dir: Path) -> None:
    """The bare parent serves it."""
    async with HostKit(run_dir) as kit:
        files = {
            "app.py": "import boto3\ndef handler(e, c):\n    return boto3.WHOSE\n",
            "boto3/__init__.py": "WHOSE = 'mine'\n",
        }
        kit.deploy("own", files)
        assert await kit.call("own") == "mine"


@pytest.mark.skipif(not is_root, reason="is not root already: the other tests run this way")
def test_the_same_as_an_ordinary_user() -> None:
    """The runs and the isolation tests pass for a host that is not root."""
    root = Path(__file__).parents[3]
    blocked = [p for p in (Path(sys.base_prefix), *Path(sys.base_prefix).parents) if not p.stat().st_mode & 0o001]
    if blocked:
        program = sys.executable
        # The interpreter lies where an ordinary user cannot go: drop everything but the right to read.
        wrap = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all,+dac_read_search"]
        wrap += ["--ambient-caps=-all,+dac_read_search", "--bounding-set=-all,+dac_read_search"]
    else:
        program = sys.executable
        wrap = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    tests = [f"tests/integration/runtime/test_{name}.py" for name in ("runs", "isolation")]
    done = subprocess.run(
        [*wrap, program, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=root,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/tmp"},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-2_000:]
