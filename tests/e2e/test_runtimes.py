"""Runtimes and layers as a user deploys them: evenflow.toml, `evenflow deploy`, an invoke from outside."""

import json
import textwrap
from pathlib import Path

import pytest

from tests.integration.runtime.programs import SHELL_BOOTSTRAP
from tests.kit.fleet import Fleet, run_cli

pytestmark = pytest.mark.fleet


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """A file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    path.chmod(mode)


def test_a_shell_bootstrap_and_a_layer_from_a_manifest(fleet: Fleet, tmp_path: Path) -> None:
    """The program is in the package, what it shares in a layer that lies at /opt."""
    write(
        tmp_path / "evenflow.toml",
        """
        [[functions]]
        name = "greeter"
        code = "code"
        handler = "anything at all"
        runtime = "provided.al2023"
        layers = ["words"]
        environment = { COLOUR = "blue" }

        [[functions]]
        name = "greeter-python"
        code = "python-code"
        handler = "app.handler"
        layers = ["words"]
        """,
    )
    words = '    words) ask POST "invocation/$id/response" /opt/words.json; continue ;;\n'
    write(tmp_path / "code/bootstrap", SHELL_BOOTSTRAP.replace("    look)", words + "    look)"), 0o755)
    write(tmp_path / "words/words.json", '{"hello": "from /opt"}')
    write(tmp_path / "words/python/words.py", "HELLO = 'from a layer'\n")
    write(tmp_path / "python-code/app.py", "import words\ndef handler(event, context):\n    return words.HELLO\n")
    done = run_cli("deploy", str(tmp_path), data=fleet.data)
    assert done.returncode == 0, done.stderr
    client = fleet.lambda_client()
    answer = client.invoke(FunctionName="greeter", Payload=b'{"do": "words"}')
    assert "FunctionError" not in answer and json.load(answer["Payload"]) == {"hello": "from /opt"}
    failed = client.invoke(FunctionName="greeter", Payload=b'{"do": "raise"}')
    assert failed["FunctionError"] == "Unhandled" and json.load(failed["Payload"])["errorType"] == "ShellError"
    assert json.load(client.invoke(FunctionName="greeter-python", Payload=b"{}")["Payload"]) == "from a layer"


def test_a_runtime_that_no_host_has_is_refused_before_anything_changes(fleet: Fleet, tmp_path: Path) -> None:
    """With what is offered; --force deploys it, and an invoke says the same."""
    write(tmp_path / "index.mjs", "export const handler = async () => 1;\n")
    arguments = ["deploy", str(tmp_path), "--name", "future", "--handler", "index.handler", "--runtime", "nodejs24.x"]
    done = run_cli(*arguments, data=fleet.data)
    if done.returncode == 0:
        pytest.skip("this machine has Node.js 24")
    assert done.returncode == 1 and "nodejs24.x is not offered by runtime-0: python3, " in done.stderr
    assert "future" not in run_cli("functions", data=fleet.data).stdout
    assert run_cli(*arguments, "--force", data=fleet.data).returncode == 0
    answer = run_cli("invoke", "future", data=fleet.data)
    assert answer.returncode != 0 and "nodejs24.x" in answer.stderr and "not offered by this host" in answer.stderr


def test_snap_start_from_a_manifest(fleet: Fleet, tmp_path: Path) -> None:
    """Asked for in the manifest, listed, and used where the host can; the handler's results are the same either way."""
    manifest = """
        [[functions]]
        name = "slow-import"
        handler = "app.handler"
        snap_start = true
        """
    write(tmp_path / "evenflow.toml", manifest)
    source = "import os, snapshot_restore_py\nKIND = os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']\n"
    write(tmp_path / "app.py", source + "def handler(event, context):\n    return [event, KIND]\n")
    done = run_cli("deploy", str(tmp_path), data=fleet.data)
    assert done.returncode == 0, done.stderr
    listed = json.loads(run_cli("functions", "--json", data=fleet.data).stdout)
    assert {one["function_name"] for one in listed if one["snap_start"]} == {"slow-import"}
    answer = fleet.lambda_client().invoke(FunctionName="slow-import", Payload=b'"hello"')
    event, kind = json.load(answer["Payload"])
    assert event == "hello" and kind in ("snap-start", "on-demand")
    log = run_cli("logs", "slow-import", data=fleet.data).stdout
    assert ("RESTORE_REPORT Restore Duration: " in log) == (kind == "snap-start")
    write(
        tmp_path / "evenflow.toml",
        manifest.replace("app.handler", "any").replace("snap_start", 'runtime = "provided"\n        snap_start'),
    )
    write(tmp_path / "bootstrap", SHELL_BOOTSTRAP, 0o755)
    refused = run_cli("deploy", str(tmp_path), data=fleet.data)
    assert refused.returncode != 0 and "Python runtimes have it" in refused.stderr
