"""The Lambda API from AWS's model: routes, parameters, bounds and results, without any socket."""

import json
from typing import Any
from urllib.parse import quote

import botocore.session
import pytest
from botocore import awsrequest
from botocore.serialize import create_serializer

from services.frontend.http_routes import FUNCTION_NAME_PATTERN, MAX_FUNCTION_NAME_CHARACTERS, Routes
from services.frontend.lambda_api import parsing, validation
from services.frontend.lambda_api.api import HANDLERS
from services.frontend.lambda_api.routing import Found, Router
from services.frontend.lambda_api.serializing import serialize
from services.frontend.lambda_api.shapes import Shape, service_model

MODEL = service_model()
ROUTER = Router(MODEL)
_session: Any = botocore.session.Session
BOTO_MODEL: Any = _session().get_service_model("lambda")
_serializer: Any = create_serializer
_prepare: Any = awsrequest.prepare_request_dict


def route(method: str, url: str) -> Found:
    found = ROUTER.find(method, url)
    assert found is not None, f"{method} {url}"
    return found


def sample(shape: Any, depth: int = 0) -> Any:
    """A value of a botocore shape, every member given."""
    match shape.type_name:
        case "structure":
            return {name: sample(member, depth + 1) for name, member in shape.members.items()} if depth < 6 else {}
        case "list":
            return [sample(shape.member, depth + 1)]
        case "map":
            return {"k": sample(shape.value, depth + 1)}
        case "string":
            text = shape.enum[0] if shape.enum else "a text/with:marks"
            return text.ljust(shape.metadata.get("min", 0), "x")
        case "boolean":
            return True
        case "blob":
            return b"\0\1"
        case "timestamp":
            return 1_700_000_000.0
        case "float" | "double":
            return 0.5 + shape.metadata.get("min", 0)
        case _:
            return max(7, shape.metadata.get("min", 0))


@pytest.mark.parametrize("name", sorted(MODEL.operations))
def test_what_botocore_sends_is_read_back(name: str) -> None:
    """Each operation of the model: botocore's own request leads to it, and every parameter arrives as it was given."""
    operation = BOTO_MODEL.operation_model(name)
    given = sample(operation.input_shape) if operation.input_shape is not None else {}
    request = _serializer("rest-json").serialize_to_request(given, operation)
    _prepare(request, "http://127.0.0.1:1")
    found = route(request["method"], request["url"].removeprefix("http://127.0.0.1:1"))
    assert found.operation.name == name
    body = request["body"] if isinstance(request["body"], bytes) else request["body"].encode()
    headers = {key.lower().encode(): str(value).encode() for key, value in request["headers"].items()}
    assert parsing.parse(found, headers, body) == given


def test_paths_that_no_operation_has_are_not_found() -> None:
    """Wrong methods and paths, and a trailing slash that is let pass."""
    assert ROUTER.find("PATCH", "/2015-03-31/functions") is None
    assert ROUTER.find("GET", "/2015-03-31/functions/f/nothing") is None
    assert ROUTER.find("GET", "/") is None
    assert route("GET", "/2015-03-31/functions/").operation.name == "ListFunctions"
    assert route("GET", "/2018-10-31/layers?find=LayerVersion&Arn=x").operation.name == "GetLayerVersionByArn"
    assert route("GET", "/2018-10-31/layers?Marker=x").operation.name == "ListLayers"


def test_every_pattern_of_the_model_is_one_of_pythons() -> None:
    """AWS writes them for Java."""
    seen: set[str] = set()
    for operation in MODEL.operations.values():
        todo = [shape for shape in (operation.input, operation.output) if shape is not None]
        while todo:
            shape = todo.pop()
            if shape.name in seen:
                continue
            seen.add(shape.name)
            if shape.pattern:
                validation.pattern(shape.pattern)
            todo += [member.shape for member in shape.members.values()]
            todo += [inner for inner in (shape.member, shape.key) if inner is not None]
    assert len(seen) > 400


@pytest.mark.parametrize(
    ("operation", "params", "expected"),
    [
        (
            "CreateFunction",
            {"FunctionName": "f", "Role": "arn:aws:iam::123456789012:role/r", "Code": {}, "MemorySize": 127},
            "1 validation error detected: Value '127' at 'memorySize' failed to satisfy constraint: "
            "Member must have value greater than or equal to 128",
        ),
        (
            "PutFunctionEventInvokeConfig",
            {"FunctionName": "f", "MaximumRetryAttempts": 3},
            "1 validation error detected: Value '3' at 'maximumRetryAttempts' failed to satisfy constraint: "
            "Member must have value less than or equal to 2",
        ),
        (
            "GetAlias",
            {"FunctionName": "f", "Name": "123"},
            r"1 validation error detected: Value '123' at 'name' failed to satisfy constraint: "
            r"Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)",
        ),
        (
            "PutFunctionRecursionConfig",
            {"FunctionName": "f", "RecursiveLoop": "Never"},
            "1 validation error detected: Value 'Never' at 'recursiveLoop' failed to satisfy constraint: "
            "Member must satisfy enum value set: [Allow, Terminate]",
        ),
        (
            "CreateAlias",
            {"FunctionName": "x" * 141, "Name": "a"},
            f"2 validation errors detected: Value null at 'functionVersion' failed to satisfy constraint: "
            f"Member must not be null; Value '{'x' * 141}' at 'functionName' failed to satisfy constraint: "
            f"Member must have length less than or equal to 140",
        ),
    ],
)
def test_bounds_are_told_in_aws_words(operation: str, params: dict[str, Any], expected: str) -> None:
    """Value, pattern, enumeration, presence and length; several at once."""
    assert validation.check(MODEL.operations[operation].input, params) == expected


def test_a_secret_is_not_told_back() -> None:
    """A sensitive shape's value stays out of the error."""
    params = {
        "FunctionName": "f",
        "Role": "arn:aws:iam::123456789012:role/r",
        "Code": {},
        "Environment": {"Variables": {"1bad": "hunter2"}},
    }
    text = validation.check(MODEL.operations["CreateFunction"].input, params)
    assert "1 validation error" in text and "hunter2" not in text and "1bad" not in text


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "InvalidRequestContentException"),
        (b"\xff", "InvalidRequestContentException"),
        (b"[]", "SerializationException"),
        (b'{"MemorySize":"128"}', "SerializationException"),
        (b'{"MemorySize":true}', "SerializationException"),
        (b'{"MemorySize":4294967296}', "SerializationException"),
        (b'{"Layers":{}}', "SerializationException"),
        (b'{"Code":{"ZipFile":"%%%"}}', "SerializationException"),
        (b'{"Tags":{"a":1}}', "SerializationException"),
        (b'{"Tags":{"\\ud800":"a"}}', "SerializationException"),
        (b'{"Description":"\\udfff"}', "SerializationException"),
        (b'{"MemorySize":NaN}', "InvalidRequestContentException"),
        (b"[" * 100_000, "InvalidRequestContentException"),
    ],
)
def test_bodies_that_cannot_be_read_are_refused(body: bytes, code: str) -> None:
    """Bad JSON, and members of another type."""
    with pytest.raises(parsing.BadRequest) as caught:
        parsing.parse(route("POST", "/2015-03-31/functions"), {}, body)
    assert caught.value.code == code


def test_results_are_written_by_their_shapes() -> None:
    """Times as seconds, None left out, an unknown member is a fault of ours."""
    operation = MODEL.operations["GetFunctionEventInvokeConfig"]
    status, more, body = serialize(operation, {"LastModified": 1.5, "FunctionArn": None})
    assert (status, more, json.loads(body)) == (200, [], {"LastModified": 1.5})
    with pytest.raises(KeyError):
        serialize(operation, {"Nonsense": 1})


def test_what_is_handled_is_in_the_model() -> None:
    """Every handler has an operation."""
    assert set(HANDLERS) <= set(MODEL.operations)
    assert isinstance(MODEL.operations["CreateFunction"].input, Shape)


def test_the_door_checks_names_of_functions_as_the_model_does() -> None:
    """Invocations do not wait for the model to be loaded."""
    given = MODEL.operations["Invoke"].input
    assert given is not None
    name = given.members["FunctionName"].shape
    assert (name.pattern, name.max) == (FUNCTION_NAME_PATTERN, MAX_FUNCTION_NAME_CHARACTERS)
    for text in ("no name", "x" * 257, "ä", "a/b"):
        url = f"/2015-03-31/functions/{quote(text, safe='')}/invocations".encode()
        assert Routes().find(b"POST", url).wrong == validation.check(given, {"FunctionName": text})
