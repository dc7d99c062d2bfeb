"""Async configurations, concurrency, recursion, tags, policies and the account by unmodified boto3."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.integration.frontend.lambda_api.conftest import ACCOUNT, Door, refusal


@pytest.fixture
def client(door: Door) -> Any:
    return door.client()


def test_event_invoke_configs(door: Door, client: Any) -> None:
    """Put replaces, update merges, by qualifier; defaults are told; nothing at all is refused."""
    name, other = door.create(client), door.create(client)
    client.publish_version(FunctionName=name)
    arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}"
    to = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{other}"
    put = client.put_function_event_invoke_config(
        FunctionName=name,
        MaximumRetryAttempts=1,
        MaximumEventAgeInSeconds=60,
        DestinationConfig={"OnFailure": {"Destination": to}},
    )
    assert put["FunctionArn"] == f"{arn}:$LATEST" and (
        put["MaximumRetryAttempts"],
        put["MaximumEventAgeInSeconds"],
    ) == (1, 60)
    assert put["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {"Destination": to}}
    assert abs((datetime.now(UTC) - put["LastModified"]).total_seconds()) < 60
    merged = client.update_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    assert (merged["MaximumRetryAttempts"], merged["MaximumEventAgeInSeconds"]) == (0, 60)
    assert merged["DestinationConfig"]["OnFailure"] == {"Destination": to}
    replaced = client.put_function_event_invoke_config(FunctionName=name, MaximumEventAgeInSeconds=100)
    assert (replaced["MaximumRetryAttempts"], replaced["DestinationConfig"]["OnFailure"]) == (2, {})
    of_one = client.put_function_event_invoke_config(FunctionName=name, Qualifier="1", MaximumRetryAttempts=1)
    assert of_one["FunctionArn"] == f"{arn}:1"
    assert client.get_function_event_invoke_config(FunctionName=f"{name}:1")["MaximumRetryAttempts"] == 1
    pages = client.get_paginator("list_function_event_invoke_configs").paginate(
        FunctionName=name, PaginationConfig={"PageSize": 1}
    )
    listed = [config["FunctionArn"] for page in pages for config in page["FunctionEventInvokeConfigs"]]
    assert listed == [f"{arn}:$LATEST", f"{arn}:1"]
    client.delete_function_event_invoke_config(FunctionName=name)
    error = refusal("ResourceNotFoundException", client.get_function_event_invoke_config, FunctionName=name)
    assert error.response["Error"]["Message"] == f"The function {arn}:$LATEST doesn't have an EventInvokeConfig"
    refusal("ResourceNotFoundException", client.delete_function_event_invoke_config, FunctionName=name)
    refusal(
        "ResourceNotFoundException",
        client.update_function_event_invoke_config,
        FunctionName=name,
        MaximumRetryAttempts=1,
    )
    error = refusal("InvalidParameterValueException", client.put_function_event_invoke_config, FunctionName=name)
    wanted = "You must specify at least one of error handling or destination setting."
    assert error.response["Error"]["Message"] == wanted
    refusal(
        "InvalidParameterValueException",
        client.put_function_event_invoke_config,
        FunctionName=name,
        DestinationConfig={"OnSuccess": {"Destination": arn}},
    )
    refusal(
        "ValidationException",
        client.put_function_event_invoke_config,
        FunctionName=name,
        MaximumEventAgeInSeconds=21_601,
    )
    refusal("ResourceNotFoundException", client.get_function_event_invoke_config, FunctionName=name, Qualifier="9")


def test_reserved_concurrency_and_the_account(door: Door, client: Any) -> None:
    """Reserved, told by GetFunction and the account, at least 100 kept unreserved, lifted."""
    name = door.create(client)
    assert "ReservedConcurrentExecutions" not in client.get_function_concurrency(FunctionName=name)
    before = client.get_account_settings()
    assert before["AccountLimit"]["ConcurrentExecutions"] == 1_000
    put = client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=7)
    assert put["ReservedConcurrentExecutions"] == 7
    assert client.get_function_concurrency(FunctionName=name)["ReservedConcurrentExecutions"] == 7
    assert client.get_function(FunctionName=name)["Concurrency"] == {"ReservedConcurrentExecutions": 7}
    after = client.get_account_settings()
    assert (
        after["AccountLimit"]["UnreservedConcurrentExecutions"]
        == before["AccountLimit"]["UnreservedConcurrentExecutions"] - 7
    )
    assert after["AccountUsage"]["FunctionCount"] >= 1 and after["AccountUsage"]["TotalCodeSize"] > 0
    refusal(
        "InvalidParameterValueException",
        client.put_function_concurrency,
        FunctionName=name,
        ReservedConcurrentExecutions=901,
    )
    assert (
        client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)[
            "ReservedConcurrentExecutions"
        ]
        == 0
    )
    client.delete_function_concurrency(FunctionName=name)
    assert "ReservedConcurrentExecutions" not in client.get_function_concurrency(FunctionName=name)


def test_recursion(door: Door, client: Any) -> None:
    """Terminate until allowed."""
    name = door.create(client)
    assert client.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Terminate"
    assert client.put_function_recursion_config(FunctionName=name, RecursiveLoop="Allow")["RecursiveLoop"] == "Allow"
    assert client.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Allow"


def test_tags(door: Door, client: Any) -> None:
    """Set, listed, removed; on functions by their unqualified ARN."""
    name = door.create(client, Tags={"a": "1"})
    arn = client.get_function_configuration(FunctionName=name)["FunctionArn"]
    client.tag_resource(Resource=arn, Tags={"b": "2", "ä": "ö"})
    assert client.list_tags(Resource=arn)["Tags"] == {"a": "1", "b": "2", "ä": "ö"}
    client.untag_resource(Resource=arn, TagKeys=["a", "ä", "none"])
    assert client.list_tags(Resource=arn)["Tags"] == {"b": "2"}
    refusal("InvalidParameterValueException", client.list_tags, Resource=f"{arn}:1")
    refusal("ResourceNotFoundException", client.list_tags, Resource=f"{arn}x")
    refusal("ResourceNotFoundException", client.tag_resource, Resource=f"{arn}x", Tags={"a": "b"})
    many = {f"k{number}": "v" for number in range(51)}
    refusal("InvalidParameterValueException", client.tag_resource, Resource=arn, Tags=many)


def test_policies(door: Door, client: Any) -> None:
    """Statements are added and removed by id and qualifier; the policy is AWS's document."""
    name = door.create(client)
    client.publish_version(FunctionName=name)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}"
    refusal("ResourceNotFoundException", client.get_policy, FunctionName=name)
    source = "arn:aws:s3:::bucket"
    given = {"StatementId": "s3", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
    added = client.add_permission(FunctionName=name, SourceArn=source, SourceAccount=ACCOUNT, **given)
    statement = {
        "Sid": "s3",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "lambda:InvokeFunction",
        "Resource": arn,
        "Condition": {"ArnLike": {"AWS:SourceArn": source}, "StringEquals": {"AWS:SourceAccount": ACCOUNT}},
    }
    assert json.loads(added["Statement"]) == statement
    refusal("ResourceConflictException", client.add_permission, FunctionName=name, **given)
    client.add_permission(
        FunctionName=name, Qualifier="live", **{**given, "Principal": "999999999999", "StatementId": "other"}
    )
    policy = client.get_policy(FunctionName=name)
    assert json.loads(policy["Policy"]) == {"Version": "2012-10-17", "Id": "default", "Statement": [statement]}
    of_alias = json.loads(client.get_policy(FunctionName=name, Qualifier="live")["Policy"])["Statement"]
    assert [(one["Resource"], one["Principal"]) for one in of_alias] == [
        (f"{arn}:live", {"AWS": "arn:aws:iam::999999999999:root"})
    ]
    refusal(
        "PreconditionFailedException", client.remove_permission, FunctionName=name, StatementId="s3", RevisionId="old"
    )
    client.remove_permission(FunctionName=name, StatementId="s3", RevisionId=policy["RevisionId"])
    refusal("ResourceNotFoundException", client.get_policy, FunctionName=name)
    refusal("ResourceNotFoundException", client.remove_permission, FunctionName=name, StatementId="s3")


def test_provisioned_concurrency(door: Door, client: Any) -> None:
    """In progress while no host has it ready; by version and alias, never $LATEST; listed, lifted."""
    name = door.create(client)
    client.publish_version(FunctionName=name)
    arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}"
    put = client.put_provisioned_concurrency_config(FunctionName=name, Qualifier="1", ProvisionedConcurrentExecutions=5)
    assert (put["RequestedProvisionedConcurrentExecutions"], put["Status"]) == (5, "IN_PROGRESS")
    read = client.get_provisioned_concurrency_config(FunctionName=name, Qualifier="1")
    assert read["RequestedProvisionedConcurrentExecutions"] == 5
    listed = client.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"]
    assert [one["FunctionArn"] for one in listed] == [f"{arn}:1"]
    client.delete_provisioned_concurrency_config(FunctionName=name, Qualifier="1")
    error = refusal(
        "ProvisionedConcurrencyConfigNotFoundException",
        client.get_provisioned_concurrency_config,
        FunctionName=name,
        Qualifier="1",
    )
    assert error.response["Error"]["Message"] == "No Provisioned Concurrency Config found for this function"
    for qualifier, code in (("$LATEST", "InvalidParameterValueException"), ("9", "ResourceNotFoundException")):
        refusal(
            code,
            client.put_provisioned_concurrency_config,
            FunctionName=name,
            Qualifier=qualifier,
            ProvisionedConcurrentExecutions=1,
        )
