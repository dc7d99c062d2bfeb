"""Layers: laid at /opt in order, found by every runtime, refused when they are too much."""

import json
from pathlib import Path

import pytest
from evenflow.common.v1 import event_pb2

from services.policy import package_rules
from services.runtime import layers as layer_store
from services.runtime.discovery import own_interpreter
from tests.integration.runtime.kit import PatientHost, zipped
from tests.integration.runtime.programs import node, script

S = event_pb2.OutcomeStatus
LINE = own_interpreter().line
USES_LAYERS = """
import os, subprocess, sys
import shared, versioned
def handler(event, context):
    root = os.path.dirname(os.path.dirname(shared.__file__))
    out = subprocess.run(["tool"], capture_output=True, text=True).stdout
    child = subprocess.run([sys.executable, "-c", "import shared; print(shared.NAME)"], capture_output=True, text=True)
    files = sorted(os.listdir(root))
    try:
        open(os.path.join(root, "new"), "w")
        written = True
    except OSError as e:
        written = type(e).__name__
    return {"shared": shared.NAME, "versioned": versioned.NAME, "tool": out.strip(), "child": child.stdout.strip(),
            "root": root, "files": files, "written": written, "order": sys.path[:3]}
"""


@pytest.mark.parametrize("isolation", ["auto", "0"])
async def test_python_finds_layers_and_the_last_one_wins(run_dir: Path, isolation: str) -> None:
    """Modules, version folders, programs on PATH; the function's own code comes first; a file may replace a folder."""
    first = zipped(
        {
            "python/shared.py": "NAME = 'first'\n",
            f"python/lib/python{LINE}/site-packages/versioned.py": "NAME = 'in its version'\n",
            "python/versioned.py": "NAME = 'in none'\n",
            "bin/tool": "#!/bin/sh\necho first tool\n",
            "kept.txt": "first",
            "thing/inside.txt": "folder",
        },
        executable=("bin/tool",),
    )
    second = zipped({"python/shared.py": "NAME = 'second'\n", "thing": "file"})
    async with PatientHost(run_dir, isolation=isolation) as kit:
        kit.deploy("f", USES_LAYERS, layers=[first, second])
        got = await kit.call("f")
        assert (got["shared"], got["child"], got["versioned"]) == ("second", "second", "in its version")
        assert got["tool"] == "first tool"
        assert got["files"] == ["bin", "kept.txt", "python", "thing"] or isolation == "0"
        if kit.host.isolation.has_mounts:
            assert got["root"] == "/opt" and got["written"] == "OSError"
            assert got["order"] == ["/var/task", f"/opt/python/lib/python{LINE}/site-packages", "/opt/python"]
        kit.deploy("turned", USES_LAYERS, layers=[second, first])
        assert (await kit.call("turned"))["shared"] == "first"
        kit.deploy("own", {"app.py": USES_LAYERS, "shared.py": "NAME = 'own'\n__file__ = '/opt/x/y'\n"}, layers=[first])
        assert (await kit.call("own"))["shared"] == "own"


async def test_a_layer_may_replace_what_the_runtime_brings(run_dir: Path) -> None:
    """A boto3 in a layer is the one that is imported, although the prepared parent has another."""
    layer = zipped({"python/boto3/__init__.py": "__version__ = 'of the layer'\n"})
    source = "import boto3\ndef handler(event, context):\n    return boto3.__version__\n"
    async with PatientHost(run_dir) as kit:
        kit.deploy("plain", source)
        kit.deploy("layered", source, layers=[layer])
        assert await kit.call("plain") != "of the layer"
        assert await kit.call("layered") == "of the layer"


async def test_a_bootstrap_in_a_layer(run_dir: Path) -> None:
    """A provided runtime's program may come from /opt; the package's own wins."""
    layer = script("while True:\n    r, _ = take()\n    give(r, [__file__, os.environ['_HANDLER']])\n")
    async with PatientHost(run_dir) as kit:
        kit.deploy("f", {"any.txt": ""}, layers=[layer], runtime="provided.al2023", handler="what ever")
        program, handler = await kit.call("f")
        assert program.endswith("/bootstrap") and handler == "what ever"
        if kit.host.isolation.has_mounts:
            assert program == "/opt/bootstrap"
        kit.deploy("own", script("give(take()[0], 'own')\ntake()\n"), layers=[layer], runtime="provided.al2023")
        assert await kit.call("own") == "own"


async def test_node_finds_modules_of_a_layer(run_dir: Path) -> None:
    """In the folder of its version before the one of all."""
    program = node()
    major = program.runtime.removeprefix("nodejs").partition(".")[0]
    layer = zipped(
        {
            f"nodejs/node{major}/node_modules/versioned/index.js": "module.exports = 'in its version';\n",
            "nodejs/node_modules/versioned/index.js": "module.exports = 'in none';\n",
            "nodejs/node_modules/shared/index.js": "module.exports = 'shared';\n",
        }
    )
    source = "exports.handler = async () => [require('versioned'), require('shared')];\n"
    async with PatientHost(run_dir) as kit:
        kit.deploy("f", {"app.js": source}, runtime=program.runtime, layers=[layer])
        assert await kit.call("f") == ["in its version", "shared"]


async def test_new_layers_mean_new_sandboxes_and_are_kept_once(run_dir: Path) -> None:
    """The same layers in the same order are one folder, whoever uses them; its files are those of the packages."""
    layer = zipped({"python/shared.py": "NAME = 1\n"})
    other = zipped({"python/shared.py": "NAME = 2\n"})
    source = "import shared\ndef handler(event, context):\n    return shared.NAME\n"
    async with PatientHost(run_dir) as kit:
        kit.deploy("a", source, layers=[layer])
        kit.deploy("b", source, layers=[layer], description="other code key")
        assert [await kit.call("a"), await kit.call("b")] == [1, 1]
        kit.deploy("a", source, layers=[other])
        assert await kit.call("a") == 2
        merged = sorted((Path(kit.settings.data_dir) / "runtime/runtime-0/layers").iterdir())
        assert len(merged) == 2 and all((path / "python/shared.py").stat().st_nlink == 2 for path in merged)


async def test_code_and_layers_have_one_bound(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """250 MiB in all; the refusal says how much it is."""
    monkeypatch.setattr(layer_store, "MAX_TOTAL_BYTES", 1_000)
    assert package_rules.MAX_TOTAL_BYTES == 250 * 1024 * 1024
    async with PatientHost(run_dir) as kit:
        kit.deploy("f", "def handler(event, context):\n    return 1\n", layers=[zipped({"big": "x" * 1_000})])
        outcome = await kit.invoke("f")
        assert outcome.status == S.OUTCOME_STATUS_SYSTEM_ERROR
        assert "code and layers unpack to 1,042 bytes; at most 1,000 are possible" in outcome.error_message


async def test_a_layer_is_checked_like_a_package(run_dir: Path) -> None:
    """A path that would leave its folder is refused before anything is extracted."""
    async with PatientHost(run_dir) as kit:
        kit.deploy("f", "def handler(event, context):\n    return 1\n", layers=[zipped({"../out": "x"})])
        outcome = await kit.invoke("f")
        assert outcome.status == S.OUTCOME_STATUS_SYSTEM_ERROR and "would leave its folder" in outcome.error_message
        assert not list(Path(kit.settings.data_dir).rglob("out"))
        assert json.loads(outcome.response_payload or b"null") is None
