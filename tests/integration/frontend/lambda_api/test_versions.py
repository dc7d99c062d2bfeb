"""Published versions and aliases by unmodified boto3."""

from typing import Any

import pytest

from tests.integration.frontend.lambda_api.conftest import ACCOUNT, Door, make_zip, refusal


@pytest.fixture
def client(door: Door) -> Any:
    return door.client()


def change(client: Any, name: str, number: int) -> None:
    """Other code, so that a version can be published of it."""
    client.update_function_code(FunctionName=name, ZipFile=make_zip(f"def handler(e, c):\n    return {number}\n"))


def test_versions_are_numbered_and_stay(door: Door, client: Any) -> None:
    """Pending, then Active; the same again where nothing changed; what it was stays; its number never comes again."""
    name = door.create(client, Description="one")
    arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}"
    first = client.publish_version(FunctionName=name)
    assert (first["Version"], first["FunctionArn"], first["State"]) == ("1", f"{arn}:1", "Pending")
    assert first["MasterArn"] == f"{arn}:$LATEST"
    client.get_waiter("published_version_active").wait(
        FunctionName=name, Qualifier="1", WaiterConfig={"Delay": 1, "MaxAttempts": 1}
    )
    assert client.publish_version(FunctionName=name)["Version"] == "1"
    change(client, name, 2)
    latest = client.get_function_configuration(FunctionName=name)
    second = client.publish_version(FunctionName=name, Description="two", CodeSha256=latest["CodeSha256"])
    assert (second["Version"], second["Description"]) == ("2", "two")
    refusal("InvalidParameterValueException", client.publish_version, FunctionName=name, CodeSha256="short")
    refusal("InvalidParameterValueException", client.publish_version, FunctionName=name, CodeSha256=first["CodeSha256"])
    read = client.get_function(FunctionName=f"{name}:1")["Configuration"]
    assert (read["Version"], read["Description"], read["CodeSha256"]) == ("1", "one", first["CodeSha256"])
    assert client.delete_function(FunctionName=name, Qualifier="2")["StatusCode"] == 204
    refusal("ResourceNotFoundException", client.get_function_configuration, FunctionName=name, Qualifier="2")
    change(client, name, 3)
    assert client.publish_version(FunctionName=name)["Version"] == "3"
    refusal("InvalidParameterValueException", client.delete_function, FunctionName=name, Qualifier="$LATEST")


def test_versions_are_listed_in_order(door: Door, client: Any) -> None:
    """$LATEST first, then by number, in pages."""
    name = door.create(client)
    for number in range(11):
        change(client, name, number)
        client.publish_version(FunctionName=name)
    pages = client.get_paginator("list_versions_by_function").paginate(
        FunctionName=name, PaginationConfig={"PageSize": 5}
    )
    listed = [version["Version"] for page in pages for version in page["Versions"]]
    assert listed == ["$LATEST", *(str(number) for number in range(1, 12))]
    one = client.list_versions_by_function(FunctionName=name, MaxItems=1)
    assert one["Versions"][0]["FunctionArn"].endswith(":$LATEST")


def test_an_alias_from_creation_to_deletion(door: Door, client: Any) -> None:
    """Points, is moved, splits its traffic, is read by name; revisions guard it."""
    name = door.create(client)
    client.publish_version(FunctionName=name)
    change(client, name, 2)
    client.publish_version(FunctionName=name)
    created = client.create_alias(FunctionName=name, Name="live", FunctionVersion="1", Description="what runs")
    arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}:live"
    assert (created["AliasArn"], created["FunctionVersion"], created["Description"]) == (arn, "1", "what runs")
    refusal("ResourceConflictException", client.create_alias, FunctionName=name, Name="live", FunctionVersion="1")
    split = client.update_alias(
        FunctionName=name,
        Name="live",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.25}},
        RevisionId=created["RevisionId"],
    )
    assert split["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.25}} and split["FunctionVersion"] == "1"
    error = refusal(
        "PreconditionFailedException",
        client.update_alias,
        FunctionName=name,
        Name="live",
        FunctionVersion="2",
        RevisionId=created["RevisionId"],
    )
    assert isinstance(error, client.exceptions.PreconditionFailedException)
    whole = client.update_alias(FunctionName=name, Name="live", FunctionVersion="2", RoutingConfig={})
    assert "RoutingConfig" not in whole and whole["FunctionVersion"] == "2"
    read = client.get_alias(FunctionName=name, Name="live")
    assert read["RevisionId"] == whole["RevisionId"] and read["Description"] == "what runs"
    for wrong in ({"FunctionVersion": "77"}, {"RoutingConfig": {"AdditionalVersionWeights": {"77": 0.5}}}):
        error = refusal("ResourceNotFoundException", client.update_alias, FunctionName=name, Name="live", **wrong)
        assert error.response["Error"]["Message"] == f"Function not found: {arn.removesuffix('live')}77"
    by_alias = client.get_function(FunctionName=name, Qualifier="live")["Configuration"]
    assert (by_alias["Version"], by_alias["FunctionArn"]) == ("2", arn)
    refusal("ResourceConflictException", client.delete_function, FunctionName=name, Qualifier="2")
    client.delete_alias(FunctionName=name, Name="live")
    client.delete_alias(FunctionName=name, Name="live")
    error = refusal("ResourceNotFoundException", client.get_alias, FunctionName=name, Name="live")
    assert error.response["Error"]["Message"] == f"Cannot find alias arn: {arn}"
    refusal("ResourceNotFoundException", client.update_alias, FunctionName=name, Name="live", Description="x")


def test_aliases_are_listed_by_name_and_by_version(door: Door, client: Any) -> None:
    """In pages; of one version those that send it traffic."""
    name = door.create(client)
    client.publish_version(FunctionName=name)
    change(client, name, 2)
    client.publish_version(FunctionName=name)
    for alias in ("c", "a", "b"):
        client.create_alias(FunctionName=name, Name=alias, FunctionVersion="1")
    client.create_alias(
        FunctionName=name, Name="d", FunctionVersion="2", RoutingConfig={"AdditionalVersionWeights": {"1": 0.5}}
    )
    pages = list(client.get_paginator("list_aliases").paginate(FunctionName=name, PaginationConfig={"PageSize": 3}))
    assert [alias["Name"] for page in pages for alias in page["Aliases"]] == ["a", "b", "c", "d"] and len(pages) == 2
    of_two = client.list_aliases(FunctionName=name, FunctionVersion="2")
    assert [alias["Name"] for alias in of_two["Aliases"]] == ["d"]
    assert len(client.list_aliases(FunctionName=name, FunctionVersion="1")["Aliases"]) == 4


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"Name": "1", "FunctionVersion": "1"}, "ValidationException"),
        ({"Name": "a b", "FunctionVersion": "1"}, "ValidationException"),
        ({"Name": "x" * 129, "FunctionVersion": "1"}, "ValidationException"),
        ({"Name": "a", "FunctionVersion": "live"}, "ValidationException"),
        ({"Name": "a", "FunctionVersion": "9"}, "ResourceNotFoundException"),
        (
            {"Name": "a", "FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {"1": 1.5}}},
            "ValidationException",
        ),
        (
            {"Name": "a", "FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {"1": 0.5}}},
            "InvalidParameterValueException",
        ),
    ],
)
def test_bad_aliases_are_refused(door: Door, client: Any, given: dict[str, Any], code: str) -> None:
    """Names, versions and weights."""
    name = door.create(client)
    client.publish_version(FunctionName=name)
    refusal(code, client.create_alias, FunctionName=name, **given)
