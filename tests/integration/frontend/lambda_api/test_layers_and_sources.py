"""Layers, event source mappings and function URL configurations by unmodified boto3."""

import base64
import hashlib
from typing import Any

import pytest

from tests.integration.frontend.lambda_api.conftest import ACCOUNT, Door, make_zip, refusal


@pytest.fixture
def client(door: Door) -> Any:
    return door.client()


def test_a_layer_from_publication_to_deletion(door: Door, client: Any) -> None:
    """Versions count up; read by number and ARN; the package is at its link; listed newest first; functions take it."""
    layer = door.name("layer")
    package = make_zip("VALUE = 1\n", "python/shared.py")
    arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:layer:{layer}"
    first = client.publish_layer_version(
        LayerName=layer,
        Description="shared",
        Content={"ZipFile": package},
        CompatibleRuntimes=["python3.11"],
        CompatibleArchitectures=["x86_64"],
        LicenseInfo="MIT",
    )
    assert (first["LayerArn"], first["LayerVersionArn"], first["Version"]) == (arn, f"{arn}:1", 1)
    assert first["Content"]["CodeSha256"] == base64.b64encode(hashlib.sha256(package).digest()).decode()
    assert (first["Description"], first["LicenseInfo"]) == ("shared", "MIT")
    second = client.publish_layer_version(LayerName=arn, Content={"ZipFile": make_zip("VALUE = 2\n", "python/s.py")})
    assert second["Version"] == 2
    read = client.get_layer_version(LayerName=layer, VersionNumber=1)
    assert read["CompatibleRuntimes"] == ["python3.11"]
    path = read["Content"]["Location"].removeprefix(f"http://127.0.0.1:{door.http_port}")
    assert door.request("GET", path)[2] == package
    assert client.get_layer_version_by_arn(Arn=f"{arn}:2")["Version"] == 2
    pages = client.get_paginator("list_layer_versions").paginate(LayerName=layer, PaginationConfig={"PageSize": 1})
    assert [one["Version"] for page in pages for one in page["LayerVersions"]] == [2, 1]
    of_runtime = client.list_layer_versions(LayerName=layer, CompatibleRuntime="python3.11")
    assert [one["Version"] for one in of_runtime["LayerVersions"]] == [1]
    layers = client.get_paginator("list_layers").paginate()
    mine = [one for page in layers for one in page["Layers"] if one["LayerName"] == layer]
    assert len(mine) == 1 and mine[0]["LatestMatchingVersion"]["Version"] == 2

    name = door.create(client, Layers=[f"{arn}:1"])
    described = client.get_function_configuration(FunctionName=name)["Layers"]
    assert described == [{"Arn": f"{arn}:1", "CodeSize": len(package)}]
    client.delete_layer_version(LayerName=layer, VersionNumber=1)
    client.delete_layer_version(LayerName=layer, VersionNumber=1)
    refusal("ResourceNotFoundException", client.get_layer_version, LayerName=layer, VersionNumber=1)
    assert client.get_function_configuration(FunctionName=name)["Layers"] == described
    assert client.publish_layer_version(LayerName=layer, Content={"ZipFile": package})["Version"] == 3
    refusal("ValidationException", client.get_layer_version_by_arn, Arn=arn)
    refusal("InvalidParameterValueException", client.get_layer_version, LayerName=layer, VersionNumber=0)
    refusal("InvalidParameterValueException", client.publish_layer_version, LayerName=layer, Content={"ZipFile": b"x"})


def test_an_sqs_mapping_from_creation_to_deletion(door: Door, client: Any) -> None:
    """Creating, Enabled, Updating, Disabled, Deleting; every setting told; tags; listed by function and queue."""
    name = door.create(client)
    queue = f"arn:aws:sqs:us-east-1:{ACCOUNT}:{door.name('q')}"
    given = {
        "BatchSize": 20,
        "MaximumBatchingWindowInSeconds": 5,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "ScalingConfig": {"MaximumConcurrency": 4},
        "FilterCriteria": {"Filters": [{"Pattern": '{"body":{"a":[1]}}'}]},
    }
    created = client.create_event_source_mapping(FunctionName=name, EventSourceArn=queue, Tags={"a": "b"}, **given)
    for member, value in given.items():
        assert created[member] == value, member
    function_arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}"
    assert (created["State"], created["EventSourceArn"], created["FunctionArn"]) == ("Creating", queue, function_arn)
    uuid, arn = created["UUID"], created["EventSourceMappingArn"]
    assert client.get_event_source_mapping(UUID=uuid)["State"] == "Enabled"
    assert client.list_tags(Resource=arn)["Tags"] == {"a": "b"}
    client.tag_resource(Resource=arn, Tags={"c": "d"})
    client.untag_resource(Resource=arn, TagKeys=["a"])
    assert client.list_tags(Resource=arn)["Tags"] == {"c": "d"}
    changed = client.update_event_source_mapping(UUID=uuid, Enabled=False, BatchSize=10)
    assert (changed["State"], changed["BatchSize"], changed["MaximumBatchingWindowInSeconds"]) == ("Updating", 10, 5)
    assert client.get_event_source_mapping(UUID=uuid)["State"] == "Disabled"
    again = {"FunctionName": name, "EventSourceArn": queue}
    refusal("ResourceConflictException", client.create_event_source_mapping, **again)
    other = client.create_event_source_mapping(FunctionName=name, EventSourceArn=f"{queue}2")
    assert (other["BatchSize"], other["MaximumBatchingWindowInSeconds"]) == (10, 0)
    pages = client.get_paginator("list_event_source_mappings").paginate(
        FunctionName=name, PaginationConfig={"PageSize": 1}
    )
    assert {one["UUID"] for page in pages for one in page["EventSourceMappings"]} == {uuid, other["UUID"]}
    of_queue = client.list_event_source_mappings(EventSourceArn=queue)["EventSourceMappings"]
    assert [one["UUID"] for one in of_queue] == [uuid]
    assert client.delete_event_source_mapping(UUID=uuid)["State"] == "Deleting"
    refusal("ResourceNotFoundException", client.get_event_source_mapping, UUID=uuid)
    refusal("ResourceNotFoundException", client.update_event_source_mapping, UUID=uuid, BatchSize=1)
    refusal("ResourceNotFoundException", client.delete_event_source_mapping, UUID=uuid)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"EventSourceArn": f"arn:aws:kinesis:us-east-1:{ACCOUNT}:stream/s"}, "InvalidParameterValueException"),
        ({"BatchSize": 10_001}, "ValidationException"),
        ({"BatchSize": 11}, "InvalidParameterValueException"),
        ({"ScalingConfig": {"MaximumConcurrency": 1}}, "ValidationException"),
        ({"FilterCriteria": {"Filters": [{"Pattern": "no json"}]}}, "InvalidParameterValueException"),
        ({"FunctionName": "nobody"}, "ResourceNotFoundException"),
        ({"StartingPosition": "LATEST"}, "InvalidParameterValueException"),
    ],
)
def test_bad_mappings_are_refused(door: Door, change: dict[str, Any], code: str) -> None:
    """What is no queue, bounds, patterns."""
    client = door.client(parameter_validation=False)
    arguments = {"EventSourceArn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:q", "FunctionName": door.create(client), **change}
    refusal(code, client.create_event_source_mapping, **arguments)


def test_a_url_configuration_from_creation_to_deletion(door: Door, client: Any) -> None:
    """One without qualifier, one an alias; CORS told back; changed; listed."""
    name = door.create(client)
    client.publish_version(FunctionName=name)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    cors = {
        "AllowCredentials": True,
        "AllowHeaders": ["x-a"],
        "AllowMethods": ["GET", "POST"],
        "AllowOrigins": ["https://example.com"],
        "ExposeHeaders": ["x-b"],
        "MaxAge": 60,
    }
    created = client.create_function_url_config(FunctionName=name, AuthType="NONE", Cors=cors)
    assert created["Cors"] == cors and created["InvokeMode"] == "BUFFERED"
    host = created["FunctionUrl"].removeprefix("http://").rstrip("/")
    url_id, _, rest = host.partition(".")
    assert len(url_id) == 32 and rest == f"lambda-url.us-east-1.localhost:{door.http_port}"
    refusal("ResourceConflictException", client.create_function_url_config, FunctionName=name, AuthType="NONE")
    of_alias = client.create_function_url_config(
        FunctionName=name, Qualifier="live", AuthType="AWS_IAM", InvokeMode="RESPONSE_STREAM"
    )
    assert of_alias["FunctionArn"].endswith(f":{name}:live") and of_alias["InvokeMode"] == "RESPONSE_STREAM"
    changed = client.update_function_url_config(FunctionName=name, AuthType="AWS_IAM")
    assert (changed["AuthType"], changed["Cors"], changed["FunctionUrl"]) == ("AWS_IAM", cors, created["FunctionUrl"])
    assert client.get_function_url_config(FunctionName=name)["AuthType"] == "AWS_IAM"
    listed = client.list_function_url_configs(FunctionName=name)["FunctionUrlConfigs"]
    assert [one["FunctionUrl"] for one in listed] == [created["FunctionUrl"], of_alias["FunctionUrl"]]
    client.delete_function_url_config(FunctionName=name)
    refusal("ResourceNotFoundException", client.get_function_url_config, FunctionName=name)
    refusal("ResourceNotFoundException", client.delete_function_url_config, FunctionName=name)
    refusal("ResourceNotFoundException", client.update_function_url_config, FunctionName=name, AuthType="NONE")
    versioned = {"FunctionName": name, "Qualifier": "1", "AuthType": "NONE"}
    loose = door.client(parameter_validation=False)
    refusal("ValidationException", loose.create_function_url_config, **versioned)
