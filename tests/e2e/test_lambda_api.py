"""The Lambda API as its users reach it: the AWS CLI's own commands, and boto3 for what runs."""

import http.client
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.frontend.lambda_api.conftest import ROLE, make_zip
from tests.kit import shape_check
from tests.kit.fleet import Fleet
from tests.kit.waiting import wait_until

pytestmark = pytest.mark.fleet
CLI_SECONDS = 30.0
CODE = """
import os

def handler(event, context):
    return {
        "event": event,
        "version": context.function_version,
        "arn": context.invoked_function_arn,
        "setting": os.environ.get("SETTING"),
    }
"""


class AwsCli:
    """`aws --endpoint-url ... lambda`, in a process of its own, with a region and keys from the environment."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self._fleet = fleet
        self._folder = folder

    def __call__(self, operation: str, *arguments: str) -> Any:
        """What the command prints; AssertionError: it failed."""
        done = self.run(operation, *arguments)
        assert done.returncode == 0, f"aws lambda {operation}: {done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    def run(self, operation: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """The command, ended."""
        command = [
            str(Path(sys.executable).parent / "aws"),
            "--endpoint-url",
            self._fleet.http_url,
            "lambda",
            operation,
        ]
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_PAGER": "",
            "AWS_CONFIG_FILE": os.devnull,
        }
        return subprocess.run(
            [*command, *arguments],
            check=False,
            cwd=self._folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=CLI_SECONDS,
        )


def test_the_aws_cli_speaks_to_the_door(fleet: Fleet, tmp_path: Path) -> None:
    """Create, invoke, publish, alias, provisioned concurrency, async configuration, lists, an error, deletion."""
    aws = AwsCli(fleet, tmp_path)
    (tmp_path / "function.zip").write_bytes(make_zip(CODE))
    name = ["--function-name", "by-cli"]
    role = ["--runtime", "python3.11", "--role", ROLE, "--handler", "app.handler"]
    created = aws("create-function", *name, *role, "--zip-file", "fileb://function.zip")
    assert created["State"] == "Pending" and created["FunctionArn"].endswith(":123456789012:function:by-cli")
    aws("wait", "function-active-v2", *name)
    invoked = aws("invoke", *name, "--payload", '{"a": 1}', "out.json")
    assert invoked == {"StatusCode": 200, "ExecutedVersion": "$LATEST"}
    assert json.loads((tmp_path / "out.json").read_text())["event"] == {"a": 1}
    assert aws("publish-version", *name)["Version"] == "1"
    alias = aws("create-alias", *name, "--name", "live", "--function-version", "1")
    assert alias["AliasArn"].endswith(":by-cli:live")
    provisioned = ["put-provisioned-concurrency-config", *name, "--qualifier", "1"]
    put = aws(*provisioned, "--provisioned-concurrent-executions", "5")
    assert put["RequestedProvisionedConcurrentExecutions"] == 5 and put["Status"] in ("IN_PROGRESS", "READY")
    read = aws("get-provisioned-concurrency-config", *name, "--qualifier", "1")
    assert read["RequestedProvisionedConcurrentExecutions"] == 5
    config = aws("put-function-event-invoke-config", *name, "--maximum-retry-attempts", "0")
    assert config["MaximumRetryAttempts"] == 0
    assert "by-cli" in [one["FunctionName"] for one in aws("list-functions")["Functions"]]
    versions = aws("list-versions-by-function", *name)["Versions"]
    assert [one["Version"] for one in versions] == ["$LATEST", "1"]
    failed = aws.run("get-function", "--function-name", "nobody")
    assert failed.returncode != 0 and "(ResourceNotFoundException)" in failed.stderr
    aws("delete-function", *name)


@pytest.fixture(scope="module")
def client(fleet: Fleet) -> Any:
    """boto3 on the door, its responses held against their shapes."""
    client = fleet.lambda_client()
    shape_check.watch(client, set())
    return client


def result_of(answer: Any) -> Any:
    """What a synchronous invocation returned."""
    assert "FunctionError" not in answer, answer["Payload"].read()
    return json.load(answer["Payload"])


def test_versions_run_as_they_were_published(fleet: Fleet, client: Any) -> None:
    """Code and configuration of a version stay; an alias leads to it; what was changed runs at once as $LATEST."""
    name = "versioned"
    client.create_function(
        FunctionName=name,
        Runtime="python3.11",
        Role=ROLE,
        Handler="app.handler",
        Code={"ZipFile": make_zip(CODE)},
        Environment={"Variables": {"SETTING": "one"}},
        Publish=True,
    )
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    client.update_function_configuration(FunctionName=name, Environment={"Variables": {"SETTING": "two"}})
    latest = result_of(client.invoke(FunctionName=name))
    assert (latest["version"], latest["setting"]) == ("$LATEST", "two") and latest["arn"].endswith(f":{name}")
    answer = client.invoke(FunctionName=name, Qualifier="live")
    live = result_of(answer)
    assert answer["ExecutedVersion"] == "1"
    assert (live["version"], live["setting"]) == ("1", "one") and live["arn"].endswith(f":{name}:live")
    client.update_function_code(FunctionName=name, ZipFile=make_zip("def handler(e, c):\n    return 'new'\n"))
    assert result_of(client.invoke(FunctionName=name)) == "new"
    assert result_of(client.invoke(FunctionName=f"{name}:1"))["setting"] == "one"
    events = list(client.invoke_with_response_stream(FunctionName=name, Qualifier="1", Payload=b'"x"')["EventStream"])
    payload = json.loads(b"".join(one["PayloadChunk"]["Payload"] for one in events[:-1]))
    assert payload["event"] == "x" and "ErrorCode" not in events[-1]["InvokeComplete"]
    client.delete_function(FunctionName=name)


def test_a_function_answers_at_its_url(fleet: Fleet, client: Any) -> None:
    """From its creation on, by name and by path; 404 when it is gone."""
    name = "with-url"
    client.create_function(
        FunctionName=name,
        Runtime="python3.11",
        Role=ROLE,
        Handler="app.handler",
        Code={
            "ZipFile": make_zip(
                "def handler(event, context):\n"
                "    text = event['rawPath'] + event['body']\n"
                "    return {'statusCode': 201, 'headers': {'x-said': 'yes'}, 'body': text}\n"
            )
        },
    )
    url = client.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"]
    client.add_permission(
        FunctionName=name,
        StatementId="everybody",
        Action="lambda:InvokeFunctionUrl",
        Principal="*",
        FunctionUrlAuthType="NONE",
    )
    host = url.removeprefix("http://").rstrip("/")

    def ask(path: str, **headers: str) -> tuple[int, str | None, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", fleet.http_port, timeout=30)
        connection.request("POST", path, b"!", {"Content-Type": "text/plain", **headers})
        answer = connection.getresponse()
        found = answer.status, answer.getheader("x-said"), answer.read()
        connection.close()
        return found

    assert ask("/some/where", Host=host) == (201, "yes", b"/some/where!")
    assert ask(f"/_evenflow/url/{host.partition('.')[0]}/there") == (201, "yes", b"/there!")
    client.delete_function(FunctionName=name)
    wait_until(lambda: ask("/", Host=host)[0] == 404, 5.0, "the URL to be gone")
