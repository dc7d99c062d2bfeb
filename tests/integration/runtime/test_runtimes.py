"""The runtimes of this machine: every Python that is here, Node.js from a package, and what is not offered."""

import json
import shutil
from pathlib import Path

import pytest
from evenflow.common.v1 import event_pb2

from services.runtime.discovery import HOST_NODE_MODULES, find_nodes, find_pythons, own_interpreter
from tests.integration.runtime.kit import PatientHost, settings_for, zipped
from tests.integration.runtime.programs import node_runtime

S = event_pb2.OutcomeStatus
LOOK = """
import os, sys, boto3
def handler(event, context):
    if event == "raise":
        raise ValueError("no")
    return {"version": list(sys.version_info[:2]), "boto3": boto3.__version__, "env": os.environ["AWS_EXECUTION_ENV"],
            "loaded": "boto3.session" in sys.modules, "ssl": __import__("ssl").OPENSSL_VERSION,
            "runtime_dir": os.environ["LAMBDA_RUNTIME_DIR"], "id": context.aws_request_id}
"""


async def test_every_python_that_is_here_runs_functions(run_dir: Path) -> None:
    """Each version forks from a parent of its own, with boto3 preloaded, and has its standard library."""
    async with PatientHost(run_dir) as kit:
        table = await kit.host.runtimes.table()
        lines = [table.own.line, *table.pythons]
        for line in lines:
            name = f"on-{line.replace('.', '-')}"
            kit.deploy(name, LOOK, runtime=f"python{line}")
            outcome = await kit.invoke(name)
            assert outcome.status == S.OUTCOME_STATUS_SUCCEEDED, (line, outcome, kit.log(name))
            got = json.loads(outcome.response_payload)
            assert got["version"] == [int(part) for part in line.split(".")]
            assert got["env"] == f"AWS_Lambda_python{line}" and got["loaded"] and got["runtime_dir"] == "/var/runtime"
            failed = await kit.invoke(name, "raise")
            assert failed.error_type == "ValueError" and failed.sandbox_id == outcome.sandbox_id
            assert len(json.loads(failed.response_payload)["stackTrace"]) == 1
            assert f"INIT_START Runtime Version: python:{line}.v{line}." in kit.log(name)
        if len(lines) == 1:
            pytest.skip("only the host's own Python is here")


async def test_a_runtime_that_is_not_here_is_refused_with_the_list(run_dir: Path) -> None:
    """RUNTIME_UNSUPPORTED, and what this host offers instead."""
    async with PatientHost(run_dir, node="/no/such/node") as kit:
        kit.deploy("f", {"app.js": ""}, runtime="nodejs22.x")
        outcome = await kit.invoke("f")
        assert outcome.status == S.OUTCOME_STATUS_SYSTEM_ERROR
        assert "'nodejs22.x' is not offered by this host (there is no Node.js 22 on it)" in outcome.error_message
        offered = (await kit.host.runtimes.table()).names()
        assert outcome.error_message.endswith(f": {', '.join(offered)} are")
        assert "python3" in offered and "provided.al2023" in offered and not any("node" in name for name in offered)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not here")
async def test_a_package_may_bring_its_node_client(run_dir: Path) -> None:
    """Its own node_modules come before the host's; without either the refusal says so."""
    client = Path(HOST_NODE_MODULES, "aws-lambda-ric")
    if not (client / "rapid-client.node").exists():
        pytest.skip("aws-lambda-ric is not installed: tools/node_client.sh says why")
    handler = 'exports.handler = async () => [process.argv[1], process.versions.node, require("left")];\n'
    files: dict[str, str | bytes] = {"app.js": handler, "node_modules/left/index.js": "module.exports = 'right';\n"}
    names = ("package.json", "index.mjs", "rapid-client.node")
    brought = {f"node_modules/aws-lambda-ric/{name}": (client / name).read_bytes() for name in names}
    async with PatientHost(run_dir, node_client="/nowhere/node_modules") as kit:
        kit.deploy("bare", zipped(files), runtime=node_runtime())
        outcome = await kit.invoke("bare")
        assert "aws-lambda-ric is neither in the package's node_modules nor on the host" in outcome.error_message
        kit.deploy("own", zipped({**files, **brought}), runtime=node_runtime())
        program, version, left = await kit.call("own")
        assert program.endswith("/node_modules/aws-lambda-ric/index.mjs") and left == "right"
        if kit.host.isolation.has_mounts:
            assert program.startswith("/var/task/")
        assert f"INIT_START Runtime Version: nodejs:{version.split('.')[0]}.v{version}" in kit.log("own")


def test_programs_that_cannot_run_are_not_offered(run_dir: Path) -> None:
    """A shim that fails, one that says nothing, one that is another program: none is believed."""
    broken = []
    for name, text in (("python3.12", "exit 1"), ("python3.13", "exit 0"), ("python3.14", "echo '[]'")):
        path = run_dir / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        broken.append(str(path))
    settings = settings_for(run_dir, pythons=",".join([*broken, "/no/such/python3.14"]), node=broken[0])
    assert not set(broken) & {one.executable for one in find_pythons(settings, own_interpreter()).values()}
    assert find_nodes(settings) == {}
