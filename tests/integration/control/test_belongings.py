"""Permissions, tags, URLs, recursion and layers over a real control; what is refused; all of it after a restart."""

from pathlib import Path
from typing import Any

import pytest
from evenflow.control.v1 import control_pb2

from services.control.state import layer_resource_key
from services.shared.errors import EvenflowError, Reason
from services.shared.function_view import policy_revision_id
from tests.integration.control.kit import TENANT, Client, client, function_of, package, running

R = Reason
# The stubs know no message from a dict.
pb: Any = control_pb2
NAME: dict[str, Any] = {"tenant_id": TENANT, "function_name": "f"}
STATEMENT = {"statement_id": "s3", "action": "lambda:InvokeFunction", "principal": "s3.amazonaws.com"}


async def create(c: Client) -> Any:
    """`f` with version 1 and the alias `live` of it."""
    code = await c.upload(package())
    made = await c.call("CreateFunction", pb.CreateFunctionRequest(function=function_of("f", code), publishes=True))
    await c.call("PutAlias", pb.PutAliasRequest(**NAME, alias={"name": "live", "function_version": "1"}))
    return made.function


async def read(c: Client) -> Any:
    return (await c.call("GetFunction", pb.GetFunctionRequest(**NAME))).function


def permit(expected: str = "", **more: Any) -> Any:
    return pb.AddPermissionRequest(**NAME, statement=STATEMENT | more, expected_revision_id=expected)


def url(mode: int = 0, paths: tuple[str, ...] = (), **fields: Any) -> Any:
    return pb.PutUrlRequest(**NAME, url=fields, mode=mode, update_mask={"paths": paths})


async def test_statements_are_added_and_removed_by_qualifier(run_dir: Path) -> None:
    """The policy's revision id changes with each; that of the code does not, so that no sandbox ends."""
    async with running(run_dir), client(run_dir) as c:
        made = await create(c)
        added = await c.call("AddPermission", permit(made.latest.revision_id, source_arn="arn:aws:s3:::in"))
        assert added.statement.source_arn == "arn:aws:s3:::in"
        await c.call("AddPermission", permit(qualifier="live"))
        function = await read(c)
        assert [(s.statement_id, s.qualifier) for s in function.permissions] == [("s3", ""), ("s3", "live")]
        assert function.latest == made.latest
        first = policy_revision_id(function, "")
        assert first not in (made.latest.revision_id, policy_revision_id(function, "live"))
        await c.call("AddPermission", permit(first, statement_id="other"))
        with pytest.raises(EvenflowError, match="GetPolicy API") as refused:
            await c.call("AddPermission", permit(first, statement_id="third"))
        assert refused.value.reason == R.ERROR_REASON_REVISION_MISMATCH
        remove = pb.RemovePermissionRequest(**NAME, statement_id="s3", qualifier="live")
        await c.call("RemovePermission", remove)
        with pytest.raises(EvenflowError, match="Statement s3 is not found in resource policy") as refused:
            await c.call("RemovePermission", remove)
        assert refused.value.reason == R.ERROR_REASON_RESOURCE_NOT_FOUND
        stored = await read(c)
    async with running(run_dir), client(run_dir) as c:
        assert await read(c) == stored
        assert [s.statement_id for s in stored.permissions] == ["s3", "other"]


async def test_a_policy_has_at_most_20_kib(run_dir: Path) -> None:
    """As JSON; then POLICY_TOO_LONG, and a removal makes room."""
    async with running(run_dir), client(run_dir) as c:
        await create(c)
        with pytest.raises(EvenflowError, match="at most 20,480 are kept") as refused:
            for n in range(30):
                await c.call("AddPermission", permit(statement_id=f"s{n}", source_arn="arn:aws:s3:::" + "x" * 1_000))
        assert refused.value.reason == R.ERROR_REASON_POLICY_TOO_LONG
        assert 15 < len((await read(c)).permissions) < 20
        await c.call("RemovePermission", pb.RemovePermissionRequest(**NAME, statement_id="s0"))
        await c.call("AddPermission", permit(statement_id="short"))


async def test_tags_are_set_and_removed(run_dir: Path) -> None:
    """Of functions and of sources; what is not there is passed over."""
    async with running(run_dir), client(run_dir) as c:
        await create(c)
        change = pb.ChangeTagsRequest(**NAME, tags={"team": "audio", "env": "prod"})
        assert dict((await c.call("ChangeTags", change)).tags) == {"team": "audio", "env": "prod"}
        change = pb.ChangeTagsRequest(**NAME, tags={"team": "video"}, removed_keys=["env", "none"])
        assert dict((await c.call("ChangeTags", change)).tags) == {"team": "video"}
        assert dict((await read(c)).tags) == {"team": "video"}
        source = {**NAME, "schedule": {"expression": "rate(1 hour)", "name": "hourly"}}
        made = (await c.call("PutSource", pb.PutSourceRequest(source=source, mode=pb.PUT_MODE_CREATE))).source
        of_source = {"tenant_id": TENANT, "source_id": made.source_id}
        await c.call("ChangeTags", pb.ChangeTagsRequest(**of_source, tags={"a": "b"}))
        assert dict((await c.call("GetSource", pb.GetSourceRequest(**of_source))).source.tags) == {"a": "b"}


async def test_urls_are_one_for_the_function_and_one_an_alias(run_dir: Path) -> None:
    """An id that stays over changes; what belongs to an alias goes with it."""
    async with running(run_dir), client(run_dir) as c:
        await create(c)
        plain = (await c.call("PutUrl", url(pb.PUT_MODE_CREATE, auth_type="NONE"))).url
        assert len(plain.url_id) == 32 and plain.url_id.isalnum() and plain.url_id == plain.url_id.lower()
        assert plain.invoke_mode == "BUFFERED" and plain.created_at_ms == plain.modified_at_ms > 0
        cors = {"allow_origins": ["https://a.example"], "allow_methods": ["*"], "max_age_seconds": 86_400}
        asked = url(pb.PUT_MODE_CREATE, qualifier="live", auth_type="AWS_IAM", invoke_mode="RESPONSE_STREAM", cors=cors)
        live = (await c.call("PutUrl", asked)).url
        assert live.url_id != plain.url_id
        changed = (
            await c.call("PutUrl", url(pb.PUT_MODE_CHANGE, ("auth_type",), qualifier="live", auth_type="NONE"))
        ).url
        assert (changed.url_id, changed.auth_type, changed.cors) == (live.url_id, "NONE", live.cors)
        stored = await read(c)
        assert [u.qualifier for u in stored.urls] == ["", "live"]
    async with running(run_dir), client(run_dir) as c:
        assert await read(c) == stored
        await c.call("DeleteAlias", pb.DeleteAliasRequest(**NAME, name="live"))
        assert [u.qualifier for u in (await read(c)).urls] == [""]
        await c.call("DeleteUrl", pb.DeleteUrlRequest(**NAME))
        with pytest.raises(EvenflowError, match="does not exist"):
            await c.call("DeleteUrl", pb.DeleteUrlRequest(**NAME))


async def test_recursion_is_allowed_and_stopped_again(run_dir: Path) -> None:
    """By default chains are stopped."""
    async with running(run_dir), client(run_dir) as c:
        assert not (await create(c)).allows_recursion
        for allows in (True, False):
            await c.call("PutRecursion", pb.PutRecursionRequest(**NAME, allows_recursion=allows))
            assert (await read(c)).allows_recursion is allows


async def test_layer_numbers_are_never_given_again(run_dir: Path) -> None:
    """Not even that of the last version, deleted and over a restart; functions keep the package."""
    layer: dict[str, Any] = {"tenant_id": TENANT, "layer_name": "shared"}
    listing = pb.ListLayersRequest(**layer)

    async def numbers(c: Client, request: Any = listing) -> list[int]:
        return [one.version for one in (await c.call("ListLayers", request)).layers]

    async with running(run_dir) as control, client(run_dir) as c:
        code = await c.upload(package())
        wanted = pb.PublishLayerRequest(layer={**layer, "code_sha256": code, "compatible_runtimes": ["python3.12"]})
        for number in (1, 2, 3):
            made = (await c.call("PublishLayer", wanted)).layer
            assert (made.version, made.code_size_bytes) == (number, len(package())) and made.created_at_ms
        other = pb.PublishLayerRequest(layer={**layer, "layer_name": "a", "code_sha256": code})
        await c.call("PublishLayer", other)
        assert await numbers(c) == [3, 2, 1]
        page = await c.call("ListLayers", pb.ListLayersRequest(**layer, page_size=2))
        assert [one.version for one in page.layers] == [3, 2]
        assert await numbers(c, pb.ListLayersRequest(**layer, page_token=page.next_page_token)) == [1]
        latest = await c.call("ListLayers", pb.ListLayersRequest(tenant_id=TENANT, page_size=1))
        assert [(one.layer_name, one.version) for one in latest.layers] == [("a", 1)]
        rest = pb.ListLayersRequest(tenant_id=TENANT, page_token=latest.next_page_token)
        assert await numbers(c, rest) == [3]
        account = await c.call("GetAccount", pb.GetAccountRequest(tenant_id=TENANT))
        assert (account.function_count, account.code_size_bytes) == (0, 4 * len(package()))
        for number in (1, 3, 3, 9):
            await c.call("DeleteLayer", pb.DeleteLayerRequest(**layer, version=number))
        assert await numbers(c) == [2]
        with pytest.raises(EvenflowError, match="no version 3 of a layer 'shared'") as refused:
            await c.call("GetLayer", pb.GetLayerRequest(**layer, version=3))
        assert refused.value.reason == R.ERROR_REASON_RESOURCE_NOT_FOUND
    async with running(run_dir) as control, client(run_dir) as c:
        assert (await c.call("GetLayer", pb.GetLayerRequest(**layer, version=2))).layer.version == 2
        made = (await c.call("PublishLayer", wanted)).layer
        assert made.version == 4 and await numbers(c) == [4, 2]
        # The number of the deleted one need not be remembered any more.
        kept = [key for key in control.state.resources if key.startswith("layer/")]
        assert layer_resource_key(made) in kept and len(kept) == 3


X = "x" * 257
REFUSED: list[tuple[str, Any, int, str]] = [
    ("AddPermission", permit(qualifier="$LATEST"), R.ERROR_REASON_INVALID_PARAMETER, "do not support adding policies"),
    ("AddPermission", permit(qualifier="9"), R.ERROR_REASON_RESOURCE_NOT_FOUND, "f:9"),
    ("AddPermission", permit("x"), R.ERROR_REASON_REVISION_MISMATCH, "GetPolicy API"),
    ("AddPermission", permit(statement_id="a b"), R.ERROR_REASON_INVALID_PARAMETER, "statement_id"),
    ("AddPermission", permit(statement_id="x" * 101), R.ERROR_REASON_INVALID_PARAMETER, "statement_id"),
    ("AddPermission", permit(action="s3:GetObject"), R.ERROR_REASON_INVALID_PARAMETER, "action"),
    ("AddPermission", permit(principal=""), R.ERROR_REASON_INVALID_PARAMETER, "principal"),
    ("AddPermission", permit(principal="two words"), R.ERROR_REASON_INVALID_PARAMETER, "principal"),
    ("AddPermission", permit(source_arn="bucket"), R.ERROR_REASON_INVALID_PARAMETER, "source_arn"),
    ("AddPermission", permit(source_account="1"), R.ERROR_REASON_INVALID_PARAMETER, "source_account"),
    ("AddPermission", permit(event_source_token=X), R.ERROR_REASON_INVALID_PARAMETER, "event_source_token"),
    ("AddPermission", permit(principal_org_id="o-1"), R.ERROR_REASON_INVALID_PARAMETER, "principal_org_id"),
    ("AddPermission", permit(function_url_auth_type="ANY"), R.ERROR_REASON_INVALID_PARAMETER, "url_auth_type"),
    ("ChangeTags", pb.ChangeTagsRequest(tenant_id=TENANT), R.ERROR_REASON_INVALID_PARAMETER, "target"),
    ("ChangeTags", pb.ChangeTagsRequest(**NAME, tags={"": "x"}), R.ERROR_REASON_INVALID_PARAMETER, "tags"),
    ("ChangeTags", pb.ChangeTagsRequest(**NAME, tags={"aws:x": "x"}), R.ERROR_REASON_INVALID_PARAMETER, "aws:"),
    ("ChangeTags", pb.ChangeTagsRequest(**NAME, tags={"k": X}), R.ERROR_REASON_INVALID_PARAMETER, "256 characters"),
    ("ChangeTags", pb.ChangeTagsRequest(**NAME, tags={X: "v"}), R.ERROR_REASON_INVALID_PARAMETER, "128 characters"),
    (
        "ChangeTags",
        pb.ChangeTagsRequest(**NAME, tags={f"k{n}": "" for n in range(51)}),
        R.ERROR_REASON_INVALID_PARAMETER,
        "at most 50, not 51",
    ),
    (
        "ChangeTags",
        pb.ChangeTagsRequest(tenant_id=TENANT, source_id="none"),
        R.ERROR_REASON_RESOURCE_NOT_FOUND,
        "does not exist",
    ),
    ("PutUrl", url(auth_type="ANY"), R.ERROR_REASON_INVALID_PARAMETER, "auth_type"),
    ("PutUrl", url(auth_type="NONE", invoke_mode="x"), R.ERROR_REASON_INVALID_PARAMETER, "invoke_mode"),
    ("PutUrl", url(auth_type="NONE", qualifier="1"), R.ERROR_REASON_INVALID_PARAMETER, "make an alias of version 1"),
    ("PutUrl", url(auth_type="NONE", qualifier="none"), R.ERROR_REASON_RESOURCE_NOT_FOUND, "f:none"),
    ("PutUrl", url(pb.PUT_MODE_CHANGE, auth_type="NONE"), R.ERROR_REASON_RESOURCE_NOT_FOUND, "does not exist"),
    (
        "PutUrl",
        url(pb.PUT_MODE_CREATE, auth_type="NONE", qualifier="live"),
        R.ERROR_REASON_RESOURCE_CONFLICT,
        "FunctionUrlConfig exists",
    ),
    (
        "PutUrl",
        url(pb.PUT_MODE_CHANGE, ("url_id",), qualifier="live"),
        R.ERROR_REASON_INVALID_PARAMETER,
        "cannot be changed",
    ),
    *(
        ("PutUrl", url(auth_type="NONE", cors=cors), R.ERROR_REASON_INVALID_PARAMETER, f"cors.{next(iter(cors))}")
        for cors in (
            {"allow_methods": ["FETCH"]},
            {"allow_methods": ["GET"] * 7},
            {"allow_origins": ["x"] * 101},
            {"allow_origins": ["x" * 254]},
            {"allow_origins": ["https://a\r\nSet-Cookie: x"]},
            {"allow_headers": ["x" * 1_025]},
            {"expose_headers": [""]},
            {"max_age_seconds": 86_401},
        )
    ),
    (
        "PublishLayer",
        pb.PublishLayerRequest(layer={"tenant_id": TENANT, "layer_name": "a:b"}),
        R.ERROR_REASON_INVALID_PARAMETER,
        "layer_name",
    ),
    (
        "PublishLayer",
        pb.PublishLayerRequest(layer={"tenant_id": TENANT, "layer_name": "a", "compatible_architectures": ["vax"]}),
        R.ERROR_REASON_INVALID_PARAMETER,
        "compatible_architectures",
    ),
    (
        "PublishLayer",
        pb.PublishLayerRequest(layer={"tenant_id": TENANT, "layer_name": "a", "compatible_runtimes": ["x"] * 16}),
        R.ERROR_REASON_INVALID_PARAMETER,
        "at most 15",
    ),
    (
        "PublishLayer",
        pb.PublishLayerRequest(layer={"tenant_id": TENANT, "layer_name": "a", "code_sha256": b"x" * 32}),
        R.ERROR_REASON_INVALID_PACKAGE,
        "upload it",
    ),
    (
        "PublishLayer",
        pb.PublishLayerRequest(layer={"tenant_id": "nobody", "layer_name": "a"}),
        R.ERROR_REASON_INVALID_PARAMETER,
        "does not exist",
    ),
    (
        "ListLayers",
        pb.ListLayersRequest(tenant_id=TENANT, layer_name="a", page_token="x"),
        R.ERROR_REASON_INVALID_PARAMETER,
        "page_token",
    ),
    ("ListLayers", pb.ListLayersRequest(page_size=1_001), R.ERROR_REASON_INVALID_PARAMETER, "page_size"),
    *(
        (method, request(tenant_id=TENANT, function_name="none"), R.ERROR_REASON_FUNCTION_NOT_FOUND, "deploy it first")
        for method, request in (
            ("AddPermission", pb.AddPermissionRequest),
            ("RemovePermission", pb.RemovePermissionRequest),
            ("ChangeTags", pb.ChangeTagsRequest),
            ("PutUrl", pb.PutUrlRequest),
            ("DeleteUrl", pb.DeleteUrlRequest),
            ("PutRecursion", pb.PutRecursionRequest),
            ("PutAlias", pb.PutAliasRequest),
            ("DeleteAlias", pb.DeleteAliasRequest),
            ("PublishVersion", pb.PublishVersionRequest),
            ("PutAsyncConfig", pb.PutAsyncConfigRequest),
            ("DeleteAsyncConfig", pb.DeleteAsyncConfigRequest),
            ("PutProvisioned", pb.PutProvisionedRequest),
            ("ReadProvisioned", pb.ReadProvisionedRequest),
            ("PutConcurrency", pb.PutConcurrencyRequest),
        )
    ),
]


async def test_what_breaks_a_rule_is_refused_and_nothing_changes(run_dir: Path) -> None:
    """Every row has its typed reason and a text that says what to do."""
    async with running(run_dir) as control, client(run_dir) as c:
        await create(c)
        await c.call("PutUrl", url(qualifier="live", auth_type="NONE"))
        before = control.state.revision
        for method, request, reason, text in REFUSED:
            with pytest.raises(EvenflowError, match=text) as refused:
                await c.call(method, request)
            assert refused.value.reason == reason, (method, request)
        assert control.state.revision == before
