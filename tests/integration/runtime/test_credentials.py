"""Credentials of a function's own: in its environment, where its calls find them, and nowhere else."""

import os
from pathlib import Path
from typing import Any

import pytest

from services.shared.credentials import function_credentials
from tests.integration.runtime.kit import SECRET, TENANT, HostKit

ENDPOINT = "http://127.0.0.1:9"
LOOK = """
import os
NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_LAMBDA", "AWS_REGION")
def handler(event, context):
    if event == "boto3":
        import boto3
        client = boto3.client("lambda")
        return [client.meta.endpoint_url, boto3.Session().get_credentials().access_key]
    if isinstance(event, list):
        found = []
        for pid in event:
            for name in ("environ", "cmdline"):
                try:
                    with open(f"/proc/{pid}/{name}", "rb") as file:
                        found.append(file.read().decode(errors="replace"))
                except OSError:
                    pass
        return "".join(found)
    return [os.environ.get(name) for name in NAMES]
"""


def cmdlines() -> str:
    """Of every process that can be seen."""
    texts = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            texts.append(path.read_text(errors="replace"))
        except OSError:
            continue
    return "".join(texts)


async def test_a_handler_finds_credentials_and_the_fleets_door(run_dir: Path) -> None:
    """By version; boto3 takes both by itself."""
    async with HostKit(run_dir, endpoint_url=ENDPOINT) as kit:
        kit.deploy("f", LOOK)
        kit.publish("f")
        for version in ("$LATEST", "1"):
            own = function_credentials(SECRET, TENANT, "f", version)
            expected: list[Any] = [own.access_key_id, own.secret_access_key, own.session_token]
            assert await kit.call("f", version=version) == [*expected, ENDPOINT, "eu-central-1"]
            assert await kit.call("f", "boto3", version=version) == [ENDPOINT, own.access_key_id]


async def test_a_function_may_name_another_endpoint_but_no_other_credentials(run_dir: Path) -> None:
    """As on AWS, where only the names of the runtime's own variables are reserved."""
    async with HostKit(run_dir, endpoint_url=ENDPOINT) as kit:
        own = {"AWS_ENDPOINT_URL_LAMBDA": "http://127.0.0.1:8", "AWS_ACCESS_KEY_ID": "AKIDFORGED"}
        kit.deploy("f", LOOK, environment=own)
        found = await kit.call("f")
        assert found[0].startswith("EVFN") and found[3] == "http://127.0.0.1:8"


@pytest.mark.parametrize("isolation", ["auto", "0"])
async def test_nobody_else_sees_them(run_dir: Path, isolation: str) -> None:
    """Not another function, no command line, no log of the function's; on the weakest tier, too."""
    async with HostKit(run_dir, isolation=isolation) as kit:
        kit.deploy("f", LOOK)
        kit.deploy("other", LOOK)
        _, secret, token, endpoint, _ = await kit.call("f")
        assert endpoint is None
        mine = await kit.call("other")
        seen = await kit.call("other", [*kit.pids(), *kit.host.parent_pids(), os.getpid()])
        assert mine[1] != secret and mine[2] != token
        for text in (seen, cmdlines(), kit.log("f"), kit.log("other")):
            assert secret not in text and token not in text
