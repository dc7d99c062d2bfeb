"""A whole strict fleet: its own commands need no key, AWS's tools a real one, functions theirs."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.kit.fleet import Fleet
from tests.kit.waiting import wait_until

pytestmark = pytest.mark.fleet
HELLO = "def handler(event, context):\n    return {'hello': event}\n"
# Calls another function with nothing but what it finds in its environment.
CALLER = """
import json
import boto3
from botocore.exceptions import ClientError

def handler(event, context):
    client = boto3.client("lambda")
    found = {}
    for name in event["names"]:
        try:
            found[name] = json.load(client.invoke(FunctionName=name, Payload=json.dumps(name))["Payload"])
        except ClientError as e:
            found[name] = e.response["Error"]["Code"]
    return found
"""


def call(client: Any, name: str, payload: Any, **more: Any) -> Any:
    return json.load(client.invoke(FunctionName=name, Payload=json.dumps(payload), **more)["Payload"])


def test_the_fleets_own_commands_need_no_key(strict_fleet: Fleet) -> None:
    """They come over the private sockets with the fleet's token: deploy, invoke both ways, event, dlq, logs."""
    fleet = strict_fleet
    fleet.deploy("hello", HELLO)
    assert json.loads(fleet.cli("invoke", "hello", "--payload", "1")) == {"hello": 1}
    fleet.cli("invoke", "hello", "--payload", "2", "--async")
    fleet.wait_drained()
    assert fleet.cli("dlq", "list") == "no dead letters\n"
    assert fleet.cli("delete", "hello", "--yes") == "deleted hello\n"


def test_awss_tools_need_a_key_that_is_known_now(strict_fleet: Fleet) -> None:
    """boto3 and the AWS CLI with a key of `evenflow keys create`; not after its deletion, not unsigned."""
    fleet = strict_fleet
    fleet.deploy("signed", HELLO)
    made = fleet.cli_json("keys", "create")
    key = made["access_key_id"], made["secret_access_key"]
    client = fleet.lambda_client(key=key)
    wait_until(lambda: _status(client, "signed") == 200, 10, "the key to reach the door")
    environment = {"AWS_ACCESS_KEY_ID": key[0], "AWS_SECRET_ACCESS_KEY": key[1], "AWS_DEFAULT_REGION": "us-east-1"}
    aws = [str(Path(sys.executable).parent / "aws"), "--endpoint-url", fleet.http_url, "lambda"]
    done = subprocess.run(
        [*aws, "get-function-configuration", "--function-name", "signed"],
        env={"PATH": "/usr/bin:/bin", "AWS_CONFIG_FILE": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 0 and json.loads(done.stdout)["FunctionName"] == "signed", done.stderr
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{fleet.http_url}/2015-03-31/functions/signed", timeout=10)
    assert caught.value.code == 403
    assert key[0] in fleet.cli("keys", "list")
    fleet.cli("keys", "delete", key[0])
    assert wait_until(lambda: _status(client, "signed") == 403, 10, "the key to be refused")


def _status(client: Any, name: str) -> int:
    try:
        return int(client.invoke(FunctionName=name)["StatusCode"])
    except ClientError as e:
        return int(e.response["ResponseMetadata"]["HTTPStatusCode"])


def test_a_function_calls_what_its_deploy_file_allows(strict_fleet: Fleet) -> None:
    """With unmodified boto3, which finds credentials, region and endpoint in the environment."""
    fleet = strict_fleet
    fleet.deploy("allowed", HELLO)
    fleet.deploy("forbidden", HELLO)
    allows = [{"action": "lambda:InvokeFunction", "resource": "allowed"}]
    fleet.deploy("calling", CALLER, timeout_seconds=20, memory_mb=256, allows=allows)
    payload = json.dumps({"names": ["allowed", "forbidden"]})
    found = json.loads(fleet.cli("invoke", "calling", "--payload", payload))
    assert found == {"allowed": {"hello": "allowed"}, "forbidden": "AccessDeniedException"}


def test_another_tenant_calls_what_a_policy_opens(strict_fleet: Fleet) -> None:
    """By ARN with the owner's account, after AddPermission; sync and async; handlers see their own account."""
    fleet = strict_fleet
    account = {row["tenant"]: row["account"] for row in fleet.cli_json("tenants", "list")}["default"]
    fleet.deploy("shared", "def handler(event, context):\n    return context.invoked_function_arn\n")
    arn = f"arn:aws:lambda:us-east-1:{account}:function:shared"
    ours, theirs = fleet.lambda_client(key=fleet.new_key()), fleet.lambda_client(key=fleet.new_key("guest"))
    wait_until(lambda: _status(ours, "shared") == 200, 10, "our key to reach the door")
    assert wait_until(lambda: _status(theirs, "shared") == 404, 10, "their key to reach the door")
    assert _status(theirs, arn) == 403
    ours.add_permission(FunctionName="shared", StatementId="guest", Action="lambda:InvokeFunction", Principal="guest")
    wait_until(lambda: _status(theirs, arn) == 200, 10, "the statement to reach the door")
    assert call(theirs, arn, {}) == arn
    assert theirs.invoke(FunctionName=arn, InvocationType="Event")["StatusCode"] == 202
    fleet.wait_drained()
    with pytest.raises(ClientError):
        theirs.get_function(FunctionName=arn)
