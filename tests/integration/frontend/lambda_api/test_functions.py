"""Functions by unmodified boto3: create, read, change, delete, list; what is refused and how."""

import base64
import hashlib
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.frontend.lambda_api.conftest import ACCOUNT, ROLE, Door, make_zip, refusal

PACKAGE = make_zip()


@pytest.fixture
def client(door: Door) -> Any:
    return door.client()


def test_a_function_from_creation_to_deletion(door: Door, client: Any) -> None:
    """Every member that was given is told back; states go from Pending to Active; the waiters end."""
    name = door.name()
    given = {
        "Runtime": "python3.11",
        "Role": ROLE,
        "Handler": "app.handler",
        "Description": "what it is",
        "Timeout": 7,
        "MemorySize": 256,
        "Environment": {"Variables": {"KEY": "value"}},
        "TracingConfig": {"Mode": "Active"},
        "EphemeralStorage": {"Size": 1024},
        "DeadLetterConfig": {"TargetArn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:dead"},
        "VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
        "LoggingConfig": {"LogFormat": "JSON"},
    }
    created = client.create_function(
        FunctionName=name, Code={"ZipFile": PACKAGE}, Tags={"team": "a"}, Architectures=["arm64"], **given
    )
    assert created["ResponseMetadata"]["HTTPStatusCode"] == 201
    for member, value in given.items():
        if member == "VpcConfig":
            assert created[member]["SubnetIds"] == ["subnet-1"] and created[member]["VpcId"] == ""
        elif member == "LoggingConfig":
            assert created[member] == {"LogFormat": "JSON", "LogGroup": f"/aws/lambda/{name}"}
        else:
            assert created[member] == value, member
    arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}"
    assert (created["FunctionArn"], created["Version"], created["Architectures"]) == (arn, "$LATEST", ["arm64"])
    assert (created["State"], created["StateReasonCode"]) == ("Pending", "Creating")
    assert created["CodeSize"] == len(PACKAGE) and created["PackageType"] == "Zip"
    assert created["CodeSha256"] == base64.b64encode(hashlib.sha256(PACKAGE).digest()).decode()
    for waiter in ("function_exists", "function_active", "function_active_v2", "function_updated_v2"):
        client.get_waiter(waiter).wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 1})

    read = client.get_function(FunctionName=name)
    assert read["Configuration"]["State"] == "Active" and read["Tags"] == {"team": "a"} and "Concurrency" not in read
    assert read["Configuration"]["RevisionId"] == created["RevisionId"]
    assert read["Code"]["RepositoryType"] == "S3"
    assert client.get_function_configuration(FunctionName=arn)["LastUpdateStatus"] == "Successful"
    assert client.delete_function(FunctionName=name)["StatusCode"] == 204
    error = refusal("ResourceNotFoundException", client.get_function, FunctionName=name)
    assert error.response["Error"]["Message"] == f"Function not found: {arn}"
    assert isinstance(error, client.exceptions.ResourceNotFoundException)
    refusal("ResourceNotFoundException", client.delete_function, FunctionName=name)


def test_the_package_is_handed_out_at_its_link(door: Door, client: Any) -> None:
    """The link has the package as it came, for who has the link; another one is refused."""
    name = door.create(client)
    location = client.get_function(FunctionName=name)["Code"]["Location"]
    begin = f"http://127.0.0.1:{door.http_port}"
    assert location.startswith(f"{begin}/_evenflow/package/")
    path = location.removeprefix(begin)
    status, headers, body = door.request("GET", path)
    assert (status, headers["content-type"], body) == (200, "application/zip", PACKAGE)
    # Not by one letter of the alphabet: the last one's lowest two bits say nothing.
    for changed in (path[:-1] + ("A" if path[-1] != "A" else "E"), path[:-30], "/_evenflow/package/", path + "%41"):
        assert door.request("GET", changed)[0] == 403


def test_code_and_configuration_are_changed_apart(door: Door, client: Any) -> None:
    """What is given changes, all else stays; the direct answer is InProgress, the next read Successful."""
    name = door.create(client, Description="first", Environment={"Variables": {"AA": "1"}})
    before = client.get_function_configuration(FunctionName=name)
    after = client.update_function_configuration(FunctionName=name, Timeout=9, KMSKeyArn="arn:aws:kms:a:1:key/k")
    assert (after["Timeout"], after["Description"], after["LastUpdateStatus"]) == (9, "first", "InProgress")
    assert after["RevisionId"] != before["RevisionId"] and after["CodeSha256"] == before["CodeSha256"]
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 1})
    other = make_zip("def handler(event, context):\n    return 2\n")
    dry = client.update_function_code(FunctionName=name, ZipFile=other, DryRun=True)
    assert dry["CodeSha256"] == base64.b64encode(hashlib.sha256(other).digest()).decode()
    assert client.get_function_configuration(FunctionName=name)["CodeSha256"] == before["CodeSha256"]
    changed = client.update_function_code(
        FunctionName=name, ZipFile=other, Architectures=["arm64"], RevisionId=after["RevisionId"]
    )
    assert changed["CodeSize"] == len(other) and changed["Architectures"] == ["arm64"]
    assert changed["KMSKeyArn"] == "arn:aws:kms:a:1:key/k" and changed["Environment"] == {"Variables": {"AA": "1"}}
    cleared = client.update_function_configuration(FunctionName=name, Environment={"Variables": {}}, Description="")
    assert "Environment" not in cleared and cleared["Description"] == ""
    published = client.update_function_code(FunctionName=name, ZipFile=PACKAGE, Publish=True)
    assert published["Version"] == "1" and published["FunctionArn"].endswith(f":{name}:1")


def test_a_stale_revision_is_refused(door: Door, client: Any) -> None:
    """412 with AWS's sentence, and nothing changes."""
    name = door.create(client)
    for call, more in (
        (client.update_function_configuration, {"Timeout": 5}),
        (client.update_function_code, {"ZipFile": PACKAGE}),
        (client.publish_version, {}),
    ):
        error = refusal("PreconditionFailedException", call, FunctionName=name, RevisionId="old", **more)
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 412
        assert error.response["Error"]["Message"].startswith("The Revision Id provided does not match the latest")
    assert client.get_function_configuration(FunctionName=name)["Timeout"] == 3


def test_a_function_exists_once(door: Door, client: Any) -> None:
    """409 with AWS's sentence."""
    name = door.create(client)
    error = refusal("ResourceConflictException", door.create, client=client, name=name)
    assert error.response["Error"]["Message"] == f"Function already exist: {name}"
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 409


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"MemorySize": 127}, "ValidationException", "Value '127' at 'memorySize' failed to satisfy constraint"),
        ({"MemorySize": 32_769}, "ValidationException", "Member must have value less than or equal to 32768"),
        ({"Timeout": 0}, "ValidationException", "Member must have value greater than or equal to 1"),
        ({"Timeout": 901}, "ValidationException", "less than or equal to 900"),
        ({"MemorySize": 10_241}, "InvalidParameterValueException", "memory"),
        ({"Role": "nobody"}, "ValidationException", "Value 'nobody' at 'role' failed to satisfy constraint"),
        ({"Handler": "a b"}, "ValidationException", "Member must satisfy regular expression pattern: [^\\s]+"),
        ({"Handler": "x" * 129}, "ValidationException", "Member must have length less than or equal to 128"),
        ({"Runtime": "cobol"}, "ValidationException", "Member must satisfy enum value set: [nodejs"),
        ({"Runtime": "java21"}, "InvalidParameterValueException", "java21"),
        ({"Code": {"ZipFile": b"no zip"}}, "InvalidParameterValueException", "zip"),
        ({"Code": {}}, "InvalidParameterValueException", "Please provide a source for function code."),
        ({"Code": {"ImageUri": "x"}}, "InvalidParameterValueException", "ImageUri is not offered"),
        ({"PackageType": "Image"}, "InvalidParameterValueException", "PackageType Image is not offered"),
        ({"DurableConfig": {"RetentionPeriodInDays": 1}}, "InvalidParameterValueException", "DurableConfig is not"),
        ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "InvalidParameterValueException", "AWS_REGION"),
        ({"Environment": {"Variables": {"A1": "x" * 4_096}}}, "InvalidParameterValueException", "4,096"),
        ({"Layers": [f"arn:aws:lambda:us-east-1:{ACCOUNT}:layer:none:1"]}, "InvalidParameterValueException", "exist"),
        ({"Tags": {"": "x"}}, "ValidationException", "Member must have length greater than or equal to 1"),
    ],
)
def test_bad_values_are_refused(door: Door, client: Any, change: dict[str, Any], code: str, words: str) -> None:
    """The model's bounds in AWS's words, and rules beyond them; nothing is created."""
    name = door.name()
    # botocore would hold back some of them itself.
    loose = door.client(parameter_validation=False)
    error = refusal(code, door.create, client=loose, name=name, **change)
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert words.lower() in error.response["Error"]["Message"].lower()
    refusal("ResourceNotFoundException", client.get_function, FunctionName=name)


def test_several_violations_are_told_together(door: Door) -> None:
    """AWS counts them."""
    loose = door.client(parameter_validation=False)
    with pytest.raises(ClientError, match=r"2 validation errors detected: Value null at 'role' .*; Value '5' at"):
        loose.create_function(FunctionName=door.name(), Code={"ZipFile": PACKAGE}, MemorySize=5)


def test_lists_come_in_pages(door: Door) -> None:
    """By marker, by boto3's paginator, with all versions; a marker that is none is refused."""
    client = door.client()
    names = sorted(door.create(client, door.name("page")) for _ in range(5))
    client.publish_version(FunctionName=names[2])
    pages = list(client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2}))
    assert len(pages) >= 3 and all(len(page["Functions"]) <= 2 for page in pages)
    listed = [function["FunctionName"] for page in pages for function in page["Functions"]]
    assert [name for name in listed if name in names] == names and len(set(listed)) == len(listed)
    assert all("State" not in function for page in pages for function in page["Functions"])
    every = client.get_paginator("list_functions").paginate(FunctionVersion="ALL", PaginationConfig={"PageSize": 3})
    arns = [
        function["FunctionArn"]
        for page in every
        for function in page["Functions"]
        if names[2] in function["FunctionArn"]
    ]
    assert [arn.rpartition(":")[2] for arn in arns] == ["$LATEST", "1"]
    refusal("InvalidParameterValueException", client.list_functions, Marker="nonsense")


def test_arns_carry_the_region_of_the_request(door: Door) -> None:
    """Of the signature; the function is the same one from every region."""
    here, there = door.client(), door.client(region="eu-west-1")
    name = door.create(there)
    arn = f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:{name}"
    assert there.get_function_configuration(FunctionName=name)["FunctionArn"] == arn
    assert here.get_function_configuration(FunctionName=arn)["FunctionArn"] == arn.replace("eu-west-1", "us-east-1")


@pytest.mark.parametrize(
    "form", ["{0}", "function:{0}", "123456789012:function:{0}", "{1}", "{0}:$LATEST", "{1}:$LATEST"]
)
def test_every_form_of_a_name(door: Door, client: Any, form: str) -> None:
    """Names, partial ARNs and ARNs, with and without a qualifier."""
    name = door.create(client)
    given = form.format(name, f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}")
    found = client.get_function_configuration(FunctionName=given)
    assert found["FunctionName"] == name and found["FunctionArn"].endswith("$LATEST") == given.endswith("$LATEST")


def test_names_that_are_not_here(door: Door, client: Any) -> None:
    """Another account, an unknown version, two qualifiers, a bad form."""
    name = door.create(client)
    foreign = f"arn:aws:lambda:us-east-1:999999999999:function:{name}"
    error = refusal("ResourceNotFoundException", client.get_function, FunctionName=foreign)
    assert error.response["Error"]["Message"] == f"Function not found: {foreign}"
    error = refusal("ResourceNotFoundException", client.get_function, FunctionName=name, Qualifier="7")
    assert error.response["Error"]["Message"].endswith(f":function:{name}:7")
    refusal("InvalidParameterValueException", client.get_function, FunctionName=f"{name}:1", Qualifier="2")
    refusal("ValidationException", client.get_function, FunctionName="no name")
    refusal("ValidationException", client.get_function, FunctionName="x" * 257)


def test_what_is_not_offered_names_itself(door: Door, client: Any) -> None:
    """501, NotImplementedException."""
    error = refusal("NotImplementedException", client.list_code_signing_configs)
    assert error.response["Error"]["Message"] == "ListCodeSigningConfigs is not offered by Evenflow."
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 501


def test_bodies_that_cannot_be_read(door: Door) -> None:
    """Typed errors for bad JSON, other types and too many bytes."""
    path = "/2015-03-31/functions/f/aliases"
    for body, status, code in (
        (b"{", 400, "InvalidRequestContentException"),
        (b'{"Name": 5}', 400, "SerializationException"),
        (b'{"Name": "' + b"x" * 1_048_576 + b'"}', 413, "RequestTooLargeException"),
    ):
        answer = door.request("POST", path, body)
        assert (answer[0], answer[1]["x-amzn-errortype"]) == (status, code)
        assert json.loads(answer[2])["Type"] == "User"


def test_tenants_see_their_own(door: Door, client: Any) -> None:
    """Without strict auth an unknown key is the default tenant, so what it made is seen by any other unknown key."""
    name = door.create(client)
    assert door.client(access_key="another").get_function(FunctionName=name)["Configuration"]["FunctionName"] == name
