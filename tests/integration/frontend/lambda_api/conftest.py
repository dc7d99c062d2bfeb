"""Control and a frontend as processes of their own, for a whole test session; boto3 and plain HTTP as callers."""

import contextlib
import dataclasses
import http.client
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from cli.supervisor.ports import free_port
from tests.kit import shape_check
from tests.kit.aws_neighbour import CREDENTIALS, AwsNeighbour
from tests.kit.waiting import wait_until

ROOT = Path(__file__).parents[4]
ROLE = "arn:aws:iam::123456789012:role/lambda-role"
ACCOUNT = "123456789012"
START_SECONDS = 30.0
_config: Any = Config
_client: Any = boto3.client


def make_zip(text: str = "def handler(event, context):\n    return event\n", name: str = "app.py") -> bytes:
    """A package of one module; the same text gives the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), text)
    return buffer.getvalue()


@dataclasses.dataclass
class Door:
    """The HTTP door of a control and a frontend."""

    http_port: int
    run_dir: Path
    neighbour: AwsNeighbour
    seen: set[str] = dataclasses.field(default_factory=set)
    _numbers: Iterator[int] = dataclasses.field(default_factory=itertools.count)

    def client(self, region: str = "us-east-1", access_key: str = "any", **more: Any) -> Any:
        """boto3, with every response checked against its shape."""
        client = _client(
            "lambda",
            endpoint_url=f"http://127.0.0.1:{self.http_port}",
            region_name=region,
            aws_access_key_id=access_key,
            aws_secret_access_key="any",
            config=_config(retries={"total_max_attempts": 1}, read_timeout=30, **more),
        )
        shape_check.watch(client, self.seen)
        return client

    def name(self, begin: str = "f") -> str:
        """A function's name that no other test has."""
        return f"{begin}-{os.getpid()}-{next(self._numbers)}"

    def create(self, client: Any, name: str = "", **more: Any) -> str:
        """A small function; its name."""
        name = name or self.name()
        arguments = {
            "Runtime": "python3.11",
            "Role": ROLE,
            "Handler": "app.handler",
            "Code": {"ZipFile": make_zip()},
            **more,
        }
        client.create_function(FunctionName=name, **arguments)
        return name

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """A plain HTTP request, of no AWS client."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()


def refusal(code: str, call: Any, **arguments: Any) -> ClientError:
    """The error that a call ends with, which must have this code."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error: ClientError = caught.value
    assert error.response["Error"]["Code"] == code, error
    return error


def launch(service: str, run_dir: Path, **more: str) -> "subprocess.Popen[bytes]":
    """A service as a process of its own."""
    values = {
        "DATA_DIR": str(run_dir),
        "RUN_DIR": str(run_dir),
        "TOKEN_FILE": str(run_dir / "token"),
        **more,
    }
    env = {
        **os.environ,
        **CREDENTIALS,
        **{f"EVENFLOW_{k}": v for k, v in values.items()},
        "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
    }
    log = open(run_dir / f"{service}.log", "wb")  # noqa: SIM115  # the process has it, until the folder goes
    with contextlib.closing(log):
        return subprocess.Popen([sys.executable, "-m", f"services.{service}"], cwd=ROOT, env=env, stderr=log)


@pytest.fixture(scope="session")
def door() -> Iterator[Door]:
    """Control and a frontend that serve; the S3 that they know is started by the test that wants it."""
    run_dir = Path(tempfile.mkdtemp(prefix="ef-", dir="/tmp"))
    token = run_dir / "token"
    token.write_text("t" * 40)
    token.chmod(0o600)
    port, neighbour = free_port(), AwsNeighbour(run_dir / "moto.log")
    processes = [
        launch("control", run_dir, NODE_ID="control"),
        launch(
            "frontend",
            run_dir,
            NODE_ID="frontend-0",
            HTTP_LISTEN=f"127.0.0.1:{port}",
            GRPC_LISTEN=f"127.0.0.1:{free_port()}",
            AWS_ENDPOINT_URL=neighbour.endpoint_url,
        ),
    ]
    made = Door(port, run_dir, neighbour)

    def serves() -> bool:
        try:
            return made.request("GET", "/_evenflow/health")[0] == 200
        except OSError:
            return False

    try:
        wait_until(serves, START_SECONDS, "the door")
        yield made
    finally:
        neighbour.stop()
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(15)
        shutil.rmtree(run_dir, ignore_errors=True)


def body_of(answer: bytes) -> Any:
    """JSON of a plain answer."""
    return json.loads(answer)
