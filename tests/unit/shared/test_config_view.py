"""The view of the fleet: whose key and account it is, and the snapshot on disk, which holds secrets."""

import os
from pathlib import Path

from evenflow.control.v1 import resources_pb2

from services.policy.accounts import account_of
from services.shared.config_view import ConfigView
from services.shared.follower import _read_snapshot, _write_snapshot


def tenant(tenant_id: str, *keys: str) -> resources_pb2.Resource:
    access_keys = [resources_pb2.AccessKey(access_key_id=key, secret=f"secret of {key}") for key in keys]
    return resources_pb2.Resource(
        key=f"tenant/{tenant_id}", tenant=resources_pb2.Tenant(tenant_id=tenant_id, access_keys=access_keys)
    )


def test_keys_follow_their_tenant() -> None:
    """A key that is revoked, moved or whose tenant is gone is known no more, nor is its secret."""
    view = ConfigView()
    view.upsert(tenant("a", "K1", "K2"))
    view.upsert(tenant("b", "K3"))
    assert (view.tenant_of_key["K1"], view.secret_of_key["K3"]) == ("a", "secret of K3")
    # K2 goes over to b, whose change is told first.
    view.upsert(tenant("b", "K2", "K3"))
    view.upsert(tenant("a", "K1"))
    assert (view.tenant_of_key["K2"], view.secret_of_key["K2"]) == ("b", "secret of K2")
    view.delete("tenant/b")
    assert view.tenant_of_key == {"K1": "a"} and list(view.secret_of_key) == ["K1"]
    assert "b" not in view.tenants and view.tenant_of_account(account_of("b", "")) is None


def test_accounts_lead_to_their_tenants() -> None:
    """The fleet's own account is the default tenant's; nobody's account is nobody's."""
    view = ConfigView()
    view.upsert(resources_pb2.Resource(key="fleet", fleet=resources_pb2.Fleet(account_id="123456789012")))
    view.upsert(tenant("a"))
    assert view.tenant_of_account("123456789012") == "default"
    assert view.tenant_of_account(view.account_of("a")) == "a"
    assert view.tenant_of_account("999999999999") is None


def test_a_snapshot_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Whatever the umask is, and when an older version left folder and files open to all."""
    view = ConfigView()
    view.upsert(tenant("a", "K1"))
    path = tmp_path / "snapshots" / "frontend-0.bin"
    path.parent.mkdir()
    for stale in (path, path.with_suffix(".new")):
        stale.write_bytes(b"old")
    before = os.umask(0)
    try:
        _write_snapshot(path, view)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    stored = _read_snapshot(path)
    assert stored is not None and stored.secret_of_key == {"K1": "secret of K1"}


def test_only_who_verifies_signatures_keeps_secrets(tmp_path: Path) -> None:
    """Neither in memory nor on disk; whose key it is, everybody knows."""
    view = ConfigView(keeps_secrets=False)
    view.upsert(tenant("a", "K1"))
    assert view.tenant_of_key == {"K1": "a"} and view.secret_of_key == {"K1": ""}
    _write_snapshot(tmp_path / "runtime-0.bin", view)
    assert b"secret of" not in (tmp_path / "runtime-0.bin").read_bytes()
    # What an older version left on disk goes with the next snapshot.
    full = ConfigView()
    full.upsert(tenant("a", "K1"))
    _write_snapshot(tmp_path / "runtime-0.bin", full)
    stored = _read_snapshot(tmp_path / "runtime-0.bin", keeps_secrets=False)
    assert stored is not None and not any(stored.secret_of_key.values())


def function(name: str, *url_ids: str) -> resources_pb2.Resource:
    urls = [resources_pb2.FunctionUrl(url_id=url_id) for url_id in url_ids]
    made = resources_pb2.Function(tenant_id="a", function_name=name, urls=urls)
    return resources_pb2.Resource(key=f"function/a/{name}", function=made)


def test_what_is_worked_out_of_a_function_stands_until_it_changes() -> None:
    """Its versions and aliases, and which URLs are its own; changes of anything else cost nothing."""
    view = ConfigView()
    view.upsert(function("f", "u1", "u2"))
    known = view.function_view("a", "f")
    assert known is not None and known.function is view.functions["a", "f"]
    assert view.function_of_url == {"u1": ("a", "f"), "u2": ("a", "f")}
    view.upsert(function("g", "u3"))
    view.upsert(tenant("a"))
    assert view.function_view("a", "f") is known
    view.upsert(function("f", "u2"))
    fresh = view.function_view("a", "f")
    assert fresh is not None and fresh is not known and fresh.function is view.functions["a", "f"]
    assert view.function_of_url == {"u2": ("a", "f"), "u3": ("a", "g")}
    view.delete("function/a/f")
    assert view.function_view("a", "f") is None and view.function_of_url == {"u3": ("a", "g")}
