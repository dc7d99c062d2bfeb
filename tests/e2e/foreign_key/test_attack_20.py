"""Attack 20: every operation of the Lambda API and every RPC, with another tenant's valid key.

Generated from what the doors offer: an operation that is new is attacked without a word here. Nothing is obtained (no
canary in any answer), nothing is changed (what control has of the victim is the same, and its function did not run).
The control run does the same with the victim's own key, and succeeds.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
import pytest
from botocore.exceptions import ClientError
from evenflow.control.v1 import control_pb2
from evenflow.frontend.v1 import frontend_pb2
from evenflow.runtime.v1 import runtime_pb2

from services.frontend.lambda_api.api import HANDLERS
from services.shared import ids
from services.shared.channels import read_token
from services.shared.credentials import fleet_secret, function_credentials
from tests.e2e.foreign_key import grpc_calls
from tests.e2e.foreign_key.parameters import Belongings, in_order, is_about_something, parameters
from tests.kit.fleet import Fleet
from tests.kit.waiting import wait_until

pytestmark = pytest.mark.fleet
CANARY = "canary-5f1c9ad0"
NAME, LAYER, OWN = "treasure", "treasure-layer", "own"
ROLE = "arn:aws:iam::123456789012:role/r"
QUEUE = "arn:aws:sqs:us-east-1:123456789012:"
SOURCE = f"def handler(event, context):\n    return {{'secret': '{CANARY}', 'event': event}}\n"
INVOCATIONS = ["Invoke", "InvokeAsync", "InvokeWithResponseStream"]
OPERATIONS = in_order([*HANDLERS, *INVOCATIONS])


def package(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr("app.py", text)
        zipped.writestr("python/treasure.py", text)
    return buffer.getvalue()


@dataclass
class Heard:
    """A client and all that it was answered, as bytes."""

    client: Any
    answers: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client.meta.events.register("response-received.lambda", self._note)

    def _note(self, response_dict: Any, **_: Any) -> None:
        body = response_dict.get("body")
        self.answers.append(repr(dict(response_dict["headers"])).encode() + (body if isinstance(body, bytes) else b""))

    def call(self, operation: str, params: dict[str, Any]) -> int:
        """The status; streams are read to their end."""
        method = getattr(self.client, _snake(operation))
        try:
            answer = method(**params)
        except ClientError as e:
            return int(e.response["ResponseMetadata"]["HTTPStatusCode"])
        for name in ("Payload", "EventStream"):
            stream = answer.get(name)
            if stream is not None:
                content = stream.read() if hasattr(stream, "read") else repr(list(stream)).encode()
                self.answers.append(content)
        return int(answer["ResponseMetadata"]["HTTPStatusCode"])


def _snake(operation: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in operation).lstrip("_")


def _is_known(caller: Heard) -> bool:
    return caller.call("ListFunctions", {}) == 200


@dataclass
class Scene:
    """A victim with one of everything, and who attacks it."""

    fleet: Fleet
    victim: Heard
    attacker: Heard
    attacker_key: tuple[str, str]
    account: str
    belongings: Belongings
    event_id: bytes

    def state(self) -> list[Any]:
        """All that control has of the victim, and how often its function ran."""
        with self.fleet.connect() as fleet:
            request = control_pb2.GetFunctionRequest(tenant_id="victim", function_name=NAME)
            found = fleet.ask(fleet.control.GetFunction, request)
            names = fleet.ask(fleet.control.ListFunctions, control_pb2.ListFunctionsRequest(tenant_id="victim"))
            layers = fleet.ask(
                fleet.control.ListLayers, control_pb2.ListLayersRequest(tenant_id="victim", layer_name=LAYER)
            )
            sources = fleet.ask(fleet.control.ListSources, control_pb2.ListSourcesRequest(tenant_id="victim"))
            usage = [
                row
                for host in fleet.hosts().values()
                for part in fleet.ask(host.ReadUsage, runtime_pb2.ReadUsageRequest(days=1))
                for row in part.rows
            ]
        runs = sum(row.invocations for row in usage if (row.tenant_id, row.function_name) == ("victim", NAME))
        return [
            found.function,
            list(found.sources),
            list(names.functions),
            list(layers.layers),
            list(sources.sources),
            runs,
        ]


@pytest.fixture(scope="module")
def scene(strict_fleet: Fleet) -> Iterator[Scene]:
    """One function with version, alias, policy, URL, source, async config; one layer; one event with a secret."""
    fleet = strict_fleet
    victim_key, attacker_key = fleet.new_key("victim", [f"{QUEUE}*"]), fleet.new_key("attacker")
    victim, attacker = (Heard(fleet.lambda_client(key=key)) for key in (victim_key, attacker_key))
    for one in (victim, attacker):
        wait_until(partial(_is_known, one), 10, "the key to reach the door")
    code = {"ZipFile": package(SOURCE)}
    layer = victim.client.publish_layer_version(LayerName=LAYER, Content=code, Description=CANARY)
    made = victim.client.create_function(
        FunctionName=NAME, Role=ROLE, Code=code, Handler="app.handler", Runtime="python3.11", Description=CANARY,
        Environment={"Variables": {"SECRET": CANARY}}, Tags={"secret": CANARY}, Layers=[layer["LayerVersionArn"]],
        Publish=True,
    )  # fmt: skip
    arn = made["FunctionArn"].removesuffix(":1")
    victim.client.get_waiter("function_active_v2").wait(FunctionName=NAME)
    victim.client.create_alias(FunctionName=NAME, Name="live", FunctionVersion="1", Description=CANARY)
    victim.client.add_permission(
        FunctionName=NAME,
        StatementId="given",
        Action="lambda:InvokeFunction",
        Principal="friend",
        SourceArn=QUEUE + CANARY,
    )
    victim.client.put_function_event_invoke_config(FunctionName=NAME, MaximumRetryAttempts=1)
    victim.client.put_function_concurrency(FunctionName=NAME, ReservedConcurrentExecutions=7)
    victim.client.create_function_url_config(FunctionName=NAME, AuthType="AWS_IAM")
    source = victim.client.create_event_source_mapping(FunctionName=NAME, EventSourceArn=QUEUE + CANARY, Enabled=False)
    sent = victim.client.invoke(FunctionName=NAME, InvocationType="Event", Payload=json.dumps(CANARY))
    fleet.wait_drained()
    attacker.client.create_function(
        FunctionName=OWN, Role=ROLE, Code={"ZipFile": package("def handler(e, c):\n    return 1\n")},
        Handler="app.handler", Runtime="python3.11",
    )  # fmt: skip
    values = {
        "FunctionName": NAME, "Name": "live", "Qualifier": "1", "UUID": source["UUID"], "LayerName": LAYER,
        "VersionNumber": 1, "Arn": layer["LayerVersionArn"], "Resource": arn, "Layers": [layer["LayerVersionArn"]],
        "Tags": {"k": "v"}, "TagKeys": ["k"], "StatementId": "given", "Action": "lambda:InvokeFunction",
        "Principal": "attacker", "FunctionVersion": "1", "AuthType": "NONE", "Role": ROLE, "Code": code,
        "Content": code, "ZipFile": code["ZipFile"], "ReservedConcurrentExecutions": 3, "RecursiveLoop": "Allow",
        "ProvisionedConcurrentExecutions": 1, "EventSourceArn": QUEUE + CANARY, "MaximumRetryAttempts": 0,
        "Handler": "app.handler", "Runtime": "python3.11", "Description": "taken", "Enabled": False,
        "InvokeArgs": b"{}", "Payload": b"{}",
    }  # fmt: skip
    spare: dict[str, dict[str, Any]] = {
        "CreateFunction": {"FunctionName": "fresh", "Handler": "app.handler", "Runtime": "python3.11"},
        "CreateAlias": {"Name": "fresh"},
        "AddPermission": {"StatementId": "fresh"},
        "CreateFunctionUrlConfig": {"Qualifier": "live"},
        "CreateEventSourceMapping": {"EventSourceArn": QUEUE + "fresh", "Enabled": False},
        "PutFunctionEventInvokeConfig": {"MaximumRetryAttempts": 0},
        "UpdateFunctionEventInvokeConfig": {"MaximumRetryAttempts": 2},
        "UpdateFunctionCode": {"ZipFile": code["ZipFile"]},
        "UpdateFunctionConfiguration": {"Description": "mine"},
        "UpdateEventSourceMapping": {"Enabled": False},
    }
    event_id = ids.from_text(sent["ResponseMetadata"]["RequestId"])
    account = arn.split(":")[4]
    yield Scene(fleet, victim, attacker, attacker_key, account, Belongings(values, spare), event_id)


def test_no_operation_gives_or_changes_what_is_another_tenants(scene: Scene) -> None:
    """By name, ARN, partial ARN, with version and alias, and from a function of the attacker's own."""
    before = scene.state()
    # What the attacker brings itself holds no canary: an echo would look like a find.
    harmless = package("def handler(event, context):\n    return 1\n")
    values = {
        **scene.belongings.values,
        "Code": {"ZipFile": harmless},
        "Content": {"ZipFile": harmless},
        "ZipFile": harmless,
        "EventSourceArn": QUEUE + "attack",
    }
    layer_arn = f"arn:aws:lambda:us-east-1:{scene.account}:layer:{LAYER}"
    foreign = [
        {"FunctionName": f"arn:aws:lambda:us-east-1:{scene.account}:function:{NAME}", "LayerName": layer_arn},
        {"FunctionName": f"{scene.account}:function:{NAME}", "LayerName": layer_arn},
        {"FunctionName": f"arn:aws:lambda:eu-west-1:{scene.account}:function:{NAME}:live", "LayerName": layer_arn},
    ]
    granted = []
    for operation in OPERATIONS:
        for names in foreign:
            params = parameters(operation, {**values, **names}, wants_optional=names is foreign[0])
            status = scene.attacker.call(operation, params)
            assert status < 500, (operation, params, status)
            if is_about_something(operation, values) and status < 400:
                granted.append((operation, params, status))
    assert not granted
    # Bare names are the attacker's own, and may succeed there: with what is the victim's, they must not help.
    for operation in OPERATIONS:
        for name in (NAME, OWN):
            for wants_optional in (True, False):
                made = parameters(operation, {**values, "FunctionName": name}, wants_optional=wants_optional)
                if (operation, name) != ("DeleteFunction", OWN):
                    assert scene.attacker.call(operation, made) < 500, (operation, made)
    assert not [answer for answer in scene.attacker.answers if CANARY.encode() in answer]
    assert scene.state() == before
    assert len(scene.attacker.answers) > 6 * len(OPERATIONS)


def test_what_the_victim_has_at_aws_is_not_named_by_the_attackers_function(scene: Scene) -> None:
    """The fleet's own credentials would open it: as a source, destination or dead-letter queue, and code in S3."""
    queue, client = QUEUE + CANARY, scene.attacker.client
    for operation, params in (
        ("create_event_source_mapping", {"EventSourceArn": queue, "Enabled": False}),
        ("put_function_event_invoke_config", {"DestinationConfig": {"OnFailure": {"Destination": queue}}}),
        ("update_function_configuration", {"DeadLetterConfig": {"TargetArn": queue}}),
        ("update_function_code", {"S3Bucket": "victims-code", "S3Key": "app.zip"}),
    ):
        with pytest.raises(ClientError) as caught:
            getattr(client, operation)(FunctionName=OWN, **params)
        assert caught.value.response["Error"]["Code"] == "AccessDeniedException", operation
        assert "evenflow tenants neighbours attacker" in str(caught.value)


def test_no_rpc_of_any_door_gives_or_changes_what_is_another_tenants(scene: Scene) -> None:
    """The public door with the attacker's key, and the inner ones, which no key opens."""
    before = scene.state()
    key_id, secret = scene.attacker_key
    metadata = (("authorization", f"Bearer {key_id}:{secret}"),)
    arn = f"arn:aws:lambda:us-east-1:{scene.account}:function:{NAME}"
    doors = {"public": scene.fleet.grpc_address} | {n: node.target for n, node in scene.fleet.file.nodes.items()}
    answers: list[grpc_calls.Answer] = []
    for door, target in doors.items():
        with grpc.insecure_channel(target) as channel:
            for method in grpc_calls.methods():
                for tenant_id, name in (("victim", NAME), ("", arn)):
                    values = {
                        "tenant_id": tenant_id, "function_name": name, "request_id": scene.event_id, "batch_id": 1,
                        "layer_name": LAYER, "access_key_id": key_id,
                    }  # fmt: skip
                    answer = grpc_calls.call(channel, method, values, metadata)
                    answers.append(answer)
                    is_frontend = method.containing_service.full_name == "evenflow.frontend.v1.FrontendService"
                    if door == "public" and not is_frontend:
                        assert answer.code is grpc.StatusCode.UNIMPLEMENTED, answer
                    elif not (door.startswith("frontend") or is_frontend):
                        refused = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED)
                        assert answer.code in refused, answer
    assert {a.method for a in answers} >= {"/evenflow.control.v1.ControlService/ListTenants"}
    assert not [a for a in answers if CANARY.encode() in b"".join(a.parts) or CANARY in a.details]
    assert scene.state() == before


def test_a_function_without_a_list_may_do_nothing_with_its_own_credentials(scene: Scene) -> None:
    """Every operation on its own tenant's things: 403, before anything is done."""
    before = scene.state()
    token = read_token(scene.fleet.file.token_file)
    own = function_credentials(fleet_secret(token), "victim", NAME)
    key = (own.access_key_id, own.secret_access_key)
    caller = Heard(scene.fleet.lambda_client(key=key, session_token=own.session_token))
    statuses = {op: caller.call(op, parameters(op, scene.belongings.values)) for op in OPERATIONS}
    assert {op: status for op, status in statuses.items() if status != 403} == {}
    assert scene.state() == before


def test_the_victim_itself_may_do_all_of_it(scene: Scene) -> None:
    """The control run: the same operations and calls with the victim's own key succeed, and tell the canary."""
    with grpc.insecure_channel(scene.fleet.grpc_address) as channel:
        key = scene.fleet.new_key("victim")
        metadata = (("authorization", f"Bearer {key[0]}:{key[1]}"),)
        [method] = [m for m in grpc_calls.methods() if m.name == "GetEvent" and "frontend" in m.full_name]
        values = {"request_id": scene.event_id}
        wait_until(lambda: grpc_calls.call(channel, method, values, metadata).code is None, 10, "the key")
        [raw] = grpc_calls.call(channel, method, values, metadata).parts
        assert frontend_pb2.GetEventResponse.FromString(raw).function_name == NAME
    refused = {}
    for operation in OPERATIONS:
        spare = scene.belongings.spare.get(operation, {})
        params = {**parameters(operation, {**scene.belongings.values, **spare}), **spare}
        status = scene.victim.call(operation, params)
        if status >= 300:
            refused[operation] = (status, params)
    assert not refused
    assert sum(CANARY.encode() in answer for answer in scene.victim.answers) > 10
