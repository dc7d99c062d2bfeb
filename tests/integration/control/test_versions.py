"""Create, update, publish, versions and aliases over a real control; what is refused; all of it after a restart."""

import json
from pathlib import Path
from typing import Any

import pytest
from evenflow.control.v1 import control_pb2, resources_pb2

from services.shared.errors import EvenflowError, Reason
from tests.integration.control.kit import TENANT, Client, client, function_of, package, running

R = Reason
# The stubs know no message from a dict.
pb: Any = control_pb2
resources: Any = resources_pb2
NAME: dict[str, Any] = {"tenant_id": TENANT, "function_name": "f"}


async def create(c: Client, code: bytes, publishes: bool = False, name: str = "f", **more: Any) -> Any:
    request = pb.CreateFunctionRequest(function=function_of(name, code, **more), publishes=publishes)
    return await c.call("CreateFunction", request)


async def update(c: Client, expected: str = "", publishes: bool = False, dry_run: bool = False, **fields: Any) -> Any:
    request = pb.UpdateFunctionRequest(
        **NAME,
        latest=resources.FunctionVersion(**fields),
        update_mask={"paths": list(fields)},
        expected_revision_id=expected,
        publishes=publishes,
        dry_run=dry_run,
    )
    return await c.call("UpdateFunction", request)


async def publish(c: Client, **more: Any) -> Any:
    return await c.call("PublishVersion", pb.PublishVersionRequest(**NAME, **more))


async def put_alias(c: Client, name: str, version: str, mode: int = 0, expected: str = "", **more: Any) -> Any:
    alias = resources.Alias(name=name, function_version=version, **more)
    paths = ["function_version", *more] if version else list(more)
    request = pb.PutAliasRequest(
        **NAME, alias=alias, mode=mode, update_mask={"paths": paths}, expected_revision_id=expected
    )
    return (await c.call("PutAlias", request)).alias


async def read(c: Client) -> Any:
    return (await c.call("GetFunction", pb.GetFunctionRequest(**NAME))).function


async def delete_version(c: Client, version: str) -> None:
    await c.call("DeleteFunction", pb.DeleteFunctionRequest(**NAME, version=version))


async def test_a_version_is_made_of_latest_and_only_when_something_changed(run_dir: Path) -> None:
    """Numbers are never given again; a change and its way back are changes; a version never changes."""
    async with running(run_dir), client(run_dir) as c:
        code, other = await c.upload(package()), await c.upload(package("def handler(e, c):\n    return 1\n"))
        made = await create(c, code, publishes=True, description="first", tags={"team": "audio"})
        assert made.published.version == "1" and made.function.latest.version == "$LATEST"
        assert made.function.tags["team"] == "audio" and made.function.latest.revision_id
        again = await publish(c, description="other words")
        assert again.published == made.published and again.function.last_version == 1

        changed = await update(c, memory_mb=256)
        assert changed.function.latest.revision_id != made.function.latest.revision_id
        assert changed.function.latest.handler == "app.handler" and not changed.HasField("published")
        second = await publish(c, description="more memory", expected_revision_id=changed.function.latest.revision_id)
        assert (second.published.version, second.published.description) == ("2", "more memory")
        assert second.published.memory_mb == 256 and second.function.versions[0] == made.published

        same = await update(c, memory_mb=256, publishes=True)
        assert same.published == second.published and same.function == second.function
        tried = await update(c, code_sha256=other, dry_run=True, publishes=True)
        assert tried.published.version == "3" and (await read(c)) == second.function

        await delete_version(c, "2")
        third = await update(c, code_sha256=other, publishes=True)
        assert [v.version for v in third.function.versions] == ["1", "3"]
        assert third.published.code_sha256 == other and third.published.code_size_bytes > 0
        await delete_version(c, "2")
        stored = await read(c)
    async with running(run_dir), client(run_dir) as c:
        assert await read(c) == stored
        assert (await publish(c)).published == third.published


async def test_kept_fields_are_merged_and_maps_are_replaced(run_dir: Path) -> None:
    """A member that is null goes; what the mask does not name stays."""
    async with running(run_dir), client(run_dir) as c:
        code = await c.upload(package())
        kept = {"TracingConfig": {"Mode": "Active"}, "VpcConfig": {"SubnetIds": []}}
        await create(c, code, kept_fields=json.dumps(kept).encode(), environment={"AB": "1", "CD": "2"})
        changes = json.dumps({"VpcConfig": None, "KMSKeyArn": "k"}).encode()
        latest = (await update(c, kept_fields=changes, environment={"EF": "3"})).function.latest
        assert json.loads(latest.kept_fields) == {"TracingConfig": {"Mode": "Active"}, "KMSKeyArn": "k"}
        assert dict(latest.environment) == {"EF": "3"}
        latest = (await update(c, role="arn:aws:iam::123456789012:role/r")).function.latest
        assert dict(latest.environment) == {"EF": "3"} and latest.role.endswith("role/r")
        cleared = {"KMSKeyArn": None, "TracingConfig": None}
        latest = (await update(c, kept_fields=json.dumps(cleared).encode(), environment={})).function.latest
        assert not latest.kept_fields and not latest.environment


async def test_a_deploy_keeps_versions_and_aliases(run_dir: Path) -> None:
    """It replaces the code and configuration of $LATEST, and how its async events are treated."""
    async with running(run_dir), client(run_dir) as c:
        code = await c.upload(package())
        await create(c, code, publishes=True, tags={"a": "b"}, reserved_concurrency=7)
        await put_alias(c, "live", "1")
        before = await read(c)
        after = (await c.put("f", code, memory_mb=512)).function
        assert after.latest.memory_mb == 512 and after.reserved_concurrency == 7
        assert (after.versions, after.aliases, after.tags) == (before.versions, before.aliases, before.tags)
        assert after.latest.revision_id != before.latest.revision_id


async def test_aliases_point_move_split_and_go(run_dir: Path) -> None:
    """Each change has a new revision id; no change has the old one; what an alias needs cannot be deleted."""
    async with running(run_dir), client(run_dir) as c:
        await create(c, await c.upload(package()), publishes=True)
        await update(c, memory_mb=256, publishes=True)
        live = await put_alias(c, "live", "1", pb.PUT_MODE_CREATE, description="what callers use")
        assert live.revision_id
        assert await put_alias(c, "live", "1", pb.PUT_MODE_CHANGE) == live
        split = await put_alias(
            c,
            "live",
            "",
            pb.PUT_MODE_CHANGE,
            expected=live.revision_id,
            additional_version_weights={"2": 0.25},
        )
        assert dict(split.additional_version_weights) == {"2": 0.25} and split.description == "what callers use"
        assert split.revision_id != live.revision_id
        for version in ("1", "2"):
            with pytest.raises(EvenflowError, match=f"version {version} is needed by alias live") as refused:
                await delete_version(c, version)
            assert refused.value.reason == R.ERROR_REASON_RESOURCE_CONFLICT
        whole = await put_alias(c, "live", "2", pb.PUT_MODE_CHANGE, additional_version_weights={})
        assert whole.function_version == "2" and not whole.additional_version_weights
        await delete_version(c, "1")
        await put_alias(c, "beta", "$LATEST")
        assert [a.name for a in (await read(c)).aliases] == ["beta", "live"]
        stored = await read(c)
    async with running(run_dir), client(run_dir) as c:
        assert await read(c) == stored
        for _ in range(2):
            await c.call("DeleteAlias", pb.DeleteAliasRequest(**NAME, name="live"))
        assert [a.name for a in (await read(c)).aliases] == ["beta"]


def _async(qualifier: str = "", mode: int = 0, paths: tuple[str, ...] = (), **config: Any) -> Any:
    return pb.PutAsyncConfigRequest(
        **NAME, qualifier=qualifier, config=resources.AsyncConfig(**config), mode=mode, update_mask={"paths": paths}
    )


async def test_async_configs_are_replaced_by_put_and_merged_by_update(run_dir: Path) -> None:
    """Per qualifier, each with its own time; back to the defaults by delete."""
    queue = "arn:aws:sqs:us-east-1:123456789012:q"
    async with running(run_dir), client(run_dir) as c:
        await create(c, await c.upload(package()), publishes=True)
        await put_alias(c, "live", "1")
        for qualifier in ("", "1", "live"):
            put = await c.call("PutAsyncConfig", _async(qualifier, maximum_retry_attempts=0, on_failure_arn=queue))
            assert put.config.modified_at_ms and put.config.maximum_retry_attempts == 0
            changed = await c.call(
                "PutAsyncConfig",
                _async(
                    qualifier,
                    pb.PUT_MODE_CHANGE,
                    ("maximum_event_age_seconds", "on_failure_arn"),
                    maximum_event_age_seconds=60,
                ),
            )
            assert changed.config.maximum_retry_attempts == 0 and not changed.config.on_failure_arn
            assert changed.config.maximum_event_age_seconds == 60
        replaced = await c.call("PutAsyncConfig", _async("$LATEST", on_success_arn=queue))
        assert not replaced.config.HasField("maximum_retry_attempts")
        function = await read(c)
        assert function.async_config == replaced.config and set(function.qualified_async_configs) == {"1", "live"}
    async with running(run_dir), client(run_dir) as c:
        assert await read(c) == function
        for qualifier in ("$LATEST", "1"):
            request = pb.DeleteAsyncConfigRequest(**NAME, qualifier=qualifier)
            await c.call("DeleteAsyncConfig", request)
            with pytest.raises(EvenflowError, match="doesn't have an EventInvokeConfig") as refused:
                await c.call("DeleteAsyncConfig", request)
            assert refused.value.reason == R.ERROR_REASON_RESOURCE_NOT_FOUND
        # What belongs to an alias goes with it.
        await c.call("DeleteAlias", pb.DeleteAliasRequest(**NAME, name="live"))
        assert not (await read(c)).qualified_async_configs


def _alias(name: str, version: str = "1", mode: int = 0, expected: str = "", **more: Any) -> Any:
    alias = resources.Alias(name=name, function_version=version, **more)
    return pb.PutAliasRequest(
        **NAME, alias=alias, mode=mode, expected_revision_id=expected, update_mask={"paths": ["function_version"]}
    )


def _update(paths: tuple[str, ...] = (), expected: str = "", **fields: Any) -> Any:
    return pb.UpdateFunctionRequest(
        **NAME,
        latest=resources.FunctionVersion(**fields),
        update_mask={"paths": paths or list(fields)},
        expected_revision_id=expected,
    )


REFUSED: list[tuple[str, Any, int, str]] = [
    (
        "CreateFunction",
        pb.CreateFunctionRequest(function={**NAME, "latest": {"handler": "a.b", "runtime": "python3"}}),
        R.ERROR_REASON_RESOURCE_CONFLICT,
        "Function already exist: f",
    ),
    ("UpdateFunction", _update(expected="x", memory_mb=128), R.ERROR_REASON_REVISION_MISMATCH, "does not match"),
    ("UpdateFunction", _update(("version",)), R.ERROR_REASON_INVALID_PARAMETER, "cannot be changed"),
    ("UpdateFunction", _update(("revision_id",)), R.ERROR_REASON_INVALID_PARAMETER, "cannot be changed"),
    ("UpdateFunction", _update(("environment.AB",)), R.ERROR_REASON_INVALID_PARAMETER, "cannot be changed"),
    ("UpdateFunction", _update(memory_mb=1), R.ERROR_REASON_INVALID_PARAMETER, "memory_mb"),
    ("UpdateFunction", _update(runtime="ruby"), R.ERROR_REASON_RUNTIME_UNSUPPORTED, "choose one of"),
    ("UpdateFunction", _update(code_sha256=b"x" * 32), R.ERROR_REASON_INVALID_PACKAGE, "upload it"),
    ("UpdateFunction", _update(kept_fields=b"[1]"), R.ERROR_REASON_INVALID_PARAMETER, "JSON object"),
    (
        "UpdateFunction",
        pb.UpdateFunctionRequest(tenant_id=TENANT, function_name="g"),
        R.ERROR_REASON_FUNCTION_NOT_FOUND,
        "deploy it first",
    ),
    (
        "PublishVersion",
        pb.PublishVersionRequest(**NAME, expected_code_sha256=b"x" * 32),
        R.ERROR_REASON_INVALID_PARAMETER,
        r"CodeSHA256 \(.*\) is different from current CodeSHA256 in \$LATEST",
    ),
    (
        "PublishVersion",
        pb.PublishVersionRequest(**NAME, expected_revision_id="x"),
        R.ERROR_REASON_REVISION_MISMATCH,
        "does not match",
    ),
    (
        "PublishVersion",
        pb.PublishVersionRequest(**NAME, description="x" * 257),
        R.ERROR_REASON_INVALID_PARAMETER,
        "description",
    ),
    (
        "DeleteFunction",
        pb.DeleteFunctionRequest(**NAME, version="$LATEST"),
        R.ERROR_REASON_INVALID_PARAMETER,
        "cannot be deleted without deleting the function",
    ),
    (
        "DeleteFunction",
        pb.DeleteFunctionRequest(**NAME, version="live"),
        R.ERROR_REASON_INVALID_PARAMETER,
        "by Alias is not",
    ),
    ("PutAlias", _alias("1"), R.ERROR_REASON_INVALID_PARAMETER, "not all digits"),
    ("PutAlias", _alias("a b"), R.ERROR_REASON_INVALID_PARAMETER, "1 to 128 characters"),
    ("PutAlias", _alias("new", "9"), R.ERROR_REASON_RESOURCE_NOT_FOUND, "Function not found: f:9"),
    ("PutAlias", _alias("new", "live"), R.ERROR_REASON_RESOURCE_NOT_FOUND, "Function not found: f:live"),
    ("PutAlias", _alias("new", ""), R.ERROR_REASON_RESOURCE_NOT_FOUND, "Function not found"),
    ("PutAlias", _alias("live", mode=pb.PUT_MODE_CREATE), R.ERROR_REASON_RESOURCE_CONFLICT, "already exists"),
    ("PutAlias", _alias("new", mode=pb.PUT_MODE_CHANGE), R.ERROR_REASON_RESOURCE_NOT_FOUND, "Cannot find"),
    ("PutAlias", _alias("live", expected="x"), R.ERROR_REASON_REVISION_MISMATCH, "GetAlias"),
    ("PutAlias", _alias("new", description="x" * 257), R.ERROR_REASON_INVALID_PARAMETER, "description"),
    (
        "PutAlias",
        _alias("new", "1", additional_version_weights={"1": 0.5}),
        R.ERROR_REASON_INVALID_PARAMETER,
        "already included in routing configuration",
    ),
    (
        "PutAlias",
        _alias("new", "$LATEST", additional_version_weights={"1": 0.5}),
        R.ERROR_REASON_INVALID_PARAMETER,
        r"\$LATEST is not supported for an alias pointing to more than 1 version",
    ),
    (
        "PutAlias",
        _alias("new", "1", additional_version_weights={"$LATEST": 0.5}),
        R.ERROR_REASON_INVALID_PARAMETER,
        r"\$LATEST is not supported",
    ),
    (
        "PutAlias",
        _alias("new", "1", additional_version_weights={"2": 0.5, "3": 0.1}),
        R.ERROR_REASON_INVALID_PARAMETER,
        "at most 1 version",
    ),
    (
        "PutAlias",
        _alias("new", "1", additional_version_weights={"2": float("nan")}),
        R.ERROR_REASON_INVALID_PARAMETER,
        r"within 0\.0 to 1\.0",
    ),
    (
        "PutAlias",
        _alias("new", "1", additional_version_weights={"2": 0.5}),
        R.ERROR_REASON_RESOURCE_NOT_FOUND,
        "Function not found: f:2",
    ),
    ("PutAsyncConfig", _async(), R.ERROR_REASON_INVALID_PARAMETER, "You must specify at least one of error handling"),
    (
        "PutAsyncConfig",
        _async(mode=pb.PUT_MODE_CHANGE),
        R.ERROR_REASON_INVALID_PARAMETER,
        "You must specify at least one of error handling",
    ),
    (
        "PutAsyncConfig",
        _async("live", pb.PUT_MODE_CHANGE, ("maximum_retry_attempts",), maximum_retry_attempts=1),
        R.ERROR_REASON_RESOURCE_NOT_FOUND,
        "doesn't have an EventInvokeConfig",
    ),
    ("PutAsyncConfig", _async("9", maximum_retry_attempts=1), R.ERROR_REASON_RESOURCE_NOT_FOUND, "f:9"),
    ("PutAsyncConfig", _async(maximum_retry_attempts=3), R.ERROR_REASON_INVALID_PARAMETER, "maximum_retry_attempts"),
    (
        "PutAsyncConfig",
        _async(on_success_arn="arn:aws:s3:::bucket"),
        R.ERROR_REASON_INVALID_PARAMETER,
        "on failure only",
    ),
    (
        "PutAsyncConfig",
        _async("live", on_success_arn="arn:aws:lambda:eu-west-1:123456789012:function:f:live"),
        R.ERROR_REASON_INVALID_PARAMETER,
        "its own destination",
    ),
]


async def test_what_breaks_a_rule_is_refused_and_nothing_changes(run_dir: Path) -> None:
    """Every row has its typed reason and a text that says what to do."""
    async with running(run_dir) as control, client(run_dir) as c:
        await create(c, await c.upload(package()), publishes=True)
        await put_alias(c, "live", "1")
        before = control.state.revision
        for method, request, reason, text in REFUSED:
            with pytest.raises(EvenflowError, match=text) as refused:
                await c.call(method, request)
            assert refused.value.reason == reason, (method, request)
        assert control.state.revision == before
