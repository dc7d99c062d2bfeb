"""All that is offered, in one go; and code that is fetched from S3."""

from typing import Any

import pytest

from services.frontend.lambda_api.api import HANDLERS
from tests.integration.frontend.lambda_api.conftest import ACCOUNT, ROLE, Door, make_zip, refusal

CODE = {"ZipFile": make_zip()}


def test_every_operation_that_is_offered(door: Door) -> None:
    """Each answers boto3 with its shape: none is left out, and none is a shape that botocore does not know."""
    door = Door(door.http_port, door.run_dir, door.neighbour)
    client, name, layer = door.client(), door.name("all"), door.name("all-layer")
    queue = f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}"
    arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}"
    function: dict[str, Any] = {"FunctionName": name}
    of_one = {**function, "Qualifier": "1"}
    new = {"Runtime": "python3.11", "Role": ROLE, "Handler": "app.handler"}
    client.publish_layer_version(LayerName=layer, Content=CODE)
    client.create_function(**function, **new, Code=CODE, Layers=[client.list_layers()["Layers"][0]["LayerArn"] + ":1"])
    client.publish_version(**function)
    client.create_alias(**function, Name="live", FunctionVersion="1")
    client.put_function_event_invoke_config(**function, MaximumRetryAttempts=1)
    client.put_function_concurrency(**function, ReservedConcurrentExecutions=3)
    client.put_provisioned_concurrency_config(**of_one, ProvisionedConcurrentExecutions=1)
    client.put_function_recursion_config(**function, RecursiveLoop="Allow")
    client.add_permission(**function, StatementId="s", Action="lambda:InvokeFunction", Principal="*")
    client.create_function_url_config(**function, AuthType="NONE")
    mapping = client.create_event_source_mapping(**function, EventSourceArn=queue)
    client.tag_resource(Resource=arn, Tags={"k": "v"})
    for read in (
        "get_function", "get_function_configuration", "list_versions_by_function", "list_aliases", "get_policy",
        "get_function_event_invoke_config", "list_function_event_invoke_configs", "get_function_concurrency",
        "list_provisioned_concurrency_configs", "get_function_recursion_config", "get_function_url_config",
        "list_function_url_configs", "list_event_source_mappings",
    ):  # fmt: skip
        getattr(client, read)(**function)
    for account_wide in ("list_functions", "list_layers", "get_account_settings"):
        getattr(client, account_wide)()
    client.get_alias(**function, Name="live")
    client.get_provisioned_concurrency_config(**of_one)
    client.list_tags(Resource=arn)
    client.list_layer_versions(LayerName=layer)
    client.get_layer_version(LayerName=layer, VersionNumber=1)
    client.get_layer_version_by_arn(Arn=f"arn:aws:lambda:us-east-1:{ACCOUNT}:layer:{layer}:1")
    client.get_event_source_mapping(UUID=mapping["UUID"])
    client.update_function_configuration(**function, Timeout=4)
    client.update_function_code(**function, ZipFile=CODE["ZipFile"])
    client.update_alias(**function, Name="live", Description="x")
    client.update_function_event_invoke_config(**function, MaximumRetryAttempts=0)
    client.update_function_url_config(**function, AuthType="AWS_IAM")
    client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    client.untag_resource(Resource=arn, TagKeys=["k"])
    client.remove_permission(**function, StatementId="s")
    client.delete_event_source_mapping(UUID=mapping["UUID"])
    client.delete_function_url_config(**function)
    client.delete_provisioned_concurrency_config(**of_one)
    client.delete_function_concurrency(**function)
    client.delete_function_event_invoke_config(**function)
    client.delete_alias(**function, Name="live")
    client.delete_layer_version(LayerName=layer, VersionNumber=1)
    client.delete_function(**function)
    assert door.seen == set(HANDLERS)


@pytest.fixture(scope="module")
def bucket(door: Door) -> str:
    """A bucket of moto's server with a package and with what is none."""
    door.neighbour.start()
    s3 = door.neighbour.client("s3")
    s3.create_bucket(Bucket="code")
    s3.put_object(Bucket="code", Key="app.zip", Body=CODE["ZipFile"])
    s3.put_object(Bucket="code", Key="text", Body=b"no zip")
    return "code"


def test_code_comes_from_s3(door: Door, bucket: str) -> None:
    """For functions, their updates and layers; what is not there, or is no package, is the caller's mistake."""
    client = door.client()
    where = {"S3Bucket": bucket, "S3Key": "app.zip"}
    name = door.create(client, Code=where)
    read = client.get_function(FunctionName=name)
    path = read["Code"]["Location"].removeprefix(f"http://127.0.0.1:{door.http_port}")
    assert door.request("GET", path)[2] == CODE["ZipFile"]
    assert client.update_function_code(FunctionName=name, **where)["CodeSha256"] == read["Configuration"]["CodeSha256"]
    assert client.publish_layer_version(LayerName=door.name("s3"), Content=where)["Version"] == 1
    for key, words in (("none.zip", "Error occurred while GetObject."), ("text", "zip")):
        error = refusal(
            "InvalidParameterValueException", client.update_function_code, FunctionName=name, S3Bucket=bucket, S3Key=key
        )
        assert words in error.response["Error"]["Message"]
    both = {"ZipFile": CODE["ZipFile"], **where}
    refusal("InvalidParameterValueException", client.update_function_code, FunctionName=name, **both)
