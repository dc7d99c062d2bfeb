"""`evenflow keys`, `tenants` and `delete`: what they ask control and what they print."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from evenflow.control.v1 import control_pb2, resources_pb2

from services.policy.accounts import account_of
from tests.kit.scripted_control import ScriptedControl, scripted_control

Evenflow = Callable[..., Any]
ACME = account_of("acme", "123456789012")
QUEUES, TOPIC = "arn:aws:sqs:*:*:acme-*", "arn:aws:sns:us-east-1:123456789012:failed"


@pytest.fixture
def control(tmp_path: Path) -> Iterator[ScriptedControl]:
    """Two tenants on two pages; acme has a key."""
    key = resources_pb2.AccessKey(access_key_id="AKIAACME000000000001", created_at_ms=1_750_000_000_000)
    pages = {
        "": control_pb2.ListTenantsResponse(
            tenants=[resources_pb2.Tenant(tenant_id="acme", access_keys=[key])], next_page_token="2"
        ),
        "2": control_pb2.ListTenantsResponse(
            tenants=[resources_pb2.Tenant(tenant_id="default", quota_millionths=1_000_000)]
        ),
    }
    with scripted_control(tmp_path) as made:
        made.answers["ListTenants"] = lambda request: pages[request.page_token]
        yield made


def test_a_new_key_is_printed_once_for_a_shell_to_take(
    evenflow: Evenflow, control: ScriptedControl, tmp_path: Path
) -> None:
    """Every line but the first is an assignment; --json has the account, too."""
    key = resources_pb2.AccessKey(access_key_id="AKIANEW0000000000001", secret="s/" * 20, created_at_ms=5)
    control.answers["CreateAccessKey"] = control_pb2.CreateAccessKeyResponse(access_key=key)
    out = evenflow("keys", "create", "--tenant", "acme", "--data", str(tmp_path)).out.splitlines()
    assert control.asked[0].tenant_id == "acme"
    assert out[0].startswith("#") and "acme" in out[0]
    assert out[1:] == [
        "export AWS_ACCESS_KEY_ID=AKIANEW0000000000001",
        f"export AWS_SECRET_ACCESS_KEY={'s/' * 20}",
        "export AWS_DEFAULT_REGION=us-east-1",
    ]
    found = json.loads(evenflow("keys", "create", "--json", "--data", str(tmp_path)).out)
    assert control.asked[-1].tenant_id == "default"
    assert (found["account"], found["secret_access_key"]) == ("123456789012", "s/" * 20)


def test_keys_are_listed_with_whose_they_are(evenflow: Evenflow, control: ScriptedControl, tmp_path: Path) -> None:
    """Over all pages; the account that stands for the tenant in ARNs."""
    data = ("--data", str(tmp_path))
    assert json.loads(evenflow("keys", "list", "--json", *data).out) == [
        {
            "access_key_id": "AKIAACME000000000001",
            "tenant": "acme",
            "account": ACME,
            "created_at_ms": 1_750_000_000_000,
        }
    ]
    assert ACME in evenflow("keys", "list", *data).out
    assert "keys create" in evenflow("keys", "list", "--tenant", "default", *data).out
    assert "there is no tenant 'nobody'" in evenflow("keys", "list", "--tenant", "nobody", *data).err


def test_a_key_is_deleted_by_its_id_alone(evenflow: Evenflow, control: ScriptedControl, tmp_path: Path) -> None:
    """Its tenant is looked up."""
    control.answers["DeleteAccessKey"] = control_pb2.DeleteAccessKeyResponse()
    done = evenflow("keys", "delete", "AKIAACME000000000001", "--data", str(tmp_path))
    assert done.out == "deleted key AKIAACME000000000001 of tenant acme\n"
    assert (control.asked[-1].tenant_id, control.asked[-1].access_key_id) == ("acme", "AKIAACME000000000001")
    assert "there is no access key" in evenflow("keys", "delete", "AKIANONE", "--data", str(tmp_path)).err


def test_tenants_are_made_listed_and_deleted(evenflow: Evenflow, control: ScriptedControl, tmp_path: Path) -> None:
    """One that is there is not made anew: that would take its keys."""
    data = ("--data", str(tmp_path))
    control.answers["PutTenant"] = control_pb2.PutTenantResponse(created=True)
    control.answers["DeleteTenant"] = control_pb2.DeleteTenantResponse()
    assert account_of("fresh", "") in evenflow("tenants", "create", "fresh", *data).out
    assert control.asked[-1].tenant == resources_pb2.Tenant(tenant_id="fresh")
    evenflow("tenants", "create", "fresh", "--neighbour", QUEUES, "--neighbour", TOPIC, *data)
    assert control.asked[-1].tenant == resources_pb2.Tenant(tenant_id="fresh", neighbours=[QUEUES, TOPIC])
    assert QUEUES in evenflow("tenants", "neighbours", "acme", QUEUES, *data).out
    put = control.asked[-1].tenant
    assert (list(put.neighbours), len(put.access_keys)) == ([QUEUES], 1)
    assert "no AWS resources" in evenflow("tenants", "neighbours", "acme", *data).out
    assert "there is no tenant 'gone'" in evenflow("tenants", "neighbours", "gone", *data).err
    assert evenflow("tenants", "create", "acme", *data).err == "error: tenant 'acme' is there already\n"
    rows = json.loads(evenflow("tenants", "list", "--json", *data).out)
    assert [(row["tenant"], row["account"], row["keys"]) for row in rows] == [
        ("acme", ACME, 1),
        ("default", "123456789012", 0),
    ]
    assert "100 %" in evenflow("tenants", "list", *data).out
    assert evenflow("tenants", "delete", "acme", *data).out == "deleted tenant acme\n"


def test_a_function_is_deleted_after_a_question(
    evenflow: Evenflow, control: ScriptedControl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer leaves it; --yes asks nothing; one version alone."""
    control.answers["DeleteFunction"] = control_pb2.DeleteFunctionResponse()
    data = ("--data", str(tmp_path))
    monkeypatch.setattr("typer.confirm", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert evenflow("delete", "hello", *data).code != 0
    assert not control.asked
    assert evenflow("delete", "hello", "--yes", *data).out == "deleted hello\n"
    assert evenflow("delete", "hello", "--version", "3", "-y", *data).out == "deleted version 3 of hello\n"
    assert control.asked[-1] == control_pb2.DeleteFunctionRequest(
        tenant_id="default", function_name="hello", version="3"
    )
