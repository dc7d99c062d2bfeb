"""Event sources that stand by themselves beside those of deploys, over a real control."""

from pathlib import Path
from typing import Any

import pytest
from evenflow.control.v1 import control_pb2, resources_pb2

from services.shared.errors import EvenflowError, Reason
from tests.integration.control.kit import TENANT, Client, bucket_source, client, package, running

R = Reason
# The stubs know no message from a dict.
pb: Any = control_pb2
resources: Any = resources_pb2
NAME: dict[str, Any] = {"tenant_id": TENANT, "function_name": "f"}
QUEUE = "arn:aws:sqs:us-east-1:123456789012:orders"
HOURLY = {"expression": "rate(1 hour)", "name": "hourly"}


def create_of(**fields: Any) -> Any:
    return pb.PutSourceRequest(source=NAME | fields, mode=pb.PUT_MODE_CREATE)


def change_of(source_id: str, *paths: str, **fields: Any) -> Any:
    source = {"tenant_id": TENANT, "source_id": source_id, **fields}
    return pb.PutSourceRequest(source=source, mode=pb.PUT_MODE_CHANGE, update_mask={"paths": paths})


async def put(c: Client, request: Any) -> Any:
    return (await c.call("PutSource", request)).source


async def listed(c: Client, **more: Any) -> list[str]:
    answer = await c.call("ListSources", pb.ListSourcesRequest(tenant_id=TENANT, **more))
    return [source.source_id for source in answer.sources]


async def test_a_source_is_made_changed_listed_and_deleted(run_dir: Path) -> None:
    """Its id stays, its time of change does not; a path of another kind is no path."""
    async with running(run_dir), client(run_dir) as c:
        code = await c.upload(package())
        await c.put("f", code)
        await c.put("g", code)
        queue = await put(c, create_of(sqs={"queue_arn": QUEUE}, tags={"a": "b"}, is_disabled=True))
        assert queue.source_id and queue.created_at_ms and not queue.is_of_deploy
        hourly = await put(c, create_of(schedule=HOURLY, qualifier="$LATEST"))
        assert hourly.qualifier == ""
        changed = await put(
            c,
            change_of(
                queue.source_id,
                *("sqs.batch_size", "sqs.maximum_batching_window_seconds", "filter_patterns", "is_disabled"),
                sqs={"batch_size": 50, "maximum_batching_window_seconds": 1},
                filter_patterns=['{"body":{"kind":["order"]}}'],
            ),
        )
        assert changed.sqs.queue_arn == QUEUE and changed.sqs.batch_size == 50 and not changed.is_disabled
        assert dict(changed.tags) == {"a": "b"} and changed.created_at_ms == queue.created_at_ms
        moved = await put(c, change_of(queue.source_id, "function_name", function_name="g"))
        assert moved.function_name == "g"
        ids = sorted((queue.source_id, hourly.source_id))
        assert await listed(c) == ids
        first = await c.call("ListSources", pb.ListSourcesRequest(tenant_id=TENANT, page_size=1))
        assert await listed(c, page_token=first.next_page_token) == ids[1:]
        assert await listed(c, function_name="g") == await listed(c, queue_arn=QUEUE) == [queue.source_id]
        assert await listed(c, queue_arn=QUEUE + "2") == []
    async with running(run_dir), client(run_dir) as c:
        named = {"tenant_id": TENANT, "source_id": queue.source_id}
        assert (await c.call("GetSource", pb.GetSourceRequest(**named))).source == moved
        assert (await c.call("DeleteSource", pb.DeleteSourceRequest(**named))).source == moved
        for method in ("GetSource", "DeleteSource"):
            with pytest.raises(EvenflowError, match="does not exist") as refused:
                await c.call(method, getattr(pb, f"{method}Request")(**named))
            assert refused.value.reason == R.ERROR_REASON_RESOURCE_NOT_FOUND


async def test_a_deploy_replaces_its_own_sources_and_no_others(run_dir: Path) -> None:
    """One that is named again keeps its id although its settings are new; one made by itself cannot be named."""
    async with running(run_dir), client(run_dir) as c:
        code = await c.upload(package())
        sources = [
            bucket_source("podcast-in"),
            resources.EventSource(sqs={"queue_arn": QUEUE}),
            resources.EventSource(schedule=HOURLY),
        ]
        await c.put("f", code, sources)
        own = await put(c, create_of(sqs={"queue_arn": QUEUE + "2"}))
        before = {s.WhichOneof("kind"): s for s in await _all(c) if s.is_of_deploy}
        await c.call(
            "ChangeTags", pb.ChangeTagsRequest(tenant_id=TENANT, source_id=before["sqs"].source_id, tags={"a": "b"})
        )
        later = [resources.EventSource(sqs={"queue_arn": QUEUE, "batch_size": 5}), sources[2]]
        await c.put("f", code, later)
        after = {s.WhichOneof("kind"): s for s in await _all(c) if s.is_of_deploy}
        assert set(after) == {"sqs", "schedule"} and after["schedule"] == before["schedule"]
        assert after["sqs"].source_id == before["sqs"].source_id and after["sqs"].sqs.batch_size == 5
        assert dict(after["sqs"].tags) == {"a": "b"}
        assert own in await _all(c)
        with pytest.raises(EvenflowError, match="made by itself") as refused:
            await c.put("f", code, [resources.EventSource(sqs={"queue_arn": QUEUE + "2"})])
        assert refused.value.reason == R.ERROR_REASON_RESOURCE_CONFLICT
        with pytest.raises(EvenflowError, match="two of them are the same"):
            await c.put("f", code, [later[0], sources[1]])
        await c.call("DeleteFunction", pb.DeleteFunctionRequest(**NAME))
        assert await listed(c) == []


async def _all(c: Client) -> list[Any]:
    return list((await c.call("GetFunction", pb.GetFunctionRequest(**NAME))).sources)


async def test_what_breaks_a_rule_is_refused_and_nothing_changes(run_dir: Path) -> None:
    """Every row has its typed reason and a text that says what to do."""
    async with running(run_dir) as control, client(run_dir) as c:
        await c.put("f", await c.upload(package()))
        queue = await put(c, create_of(sqs={"queue_arn": QUEUE}))
        hourly = await put(c, create_of(schedule=HOURLY))
        before = control.state.revision
        sqs = {"queue_arn": QUEUE + "2"}
        cases: list[tuple[Any, int, str]] = [
            (create_of(), R.ERROR_REASON_INVALID_PARAMETER, "listens to"),
            (create_of(sqs={"queue_arn": QUEUE}), R.ERROR_REASON_RESOURCE_CONFLICT, f"UUID {queue.source_id}"),
            (create_of(schedule=HOURLY), R.ERROR_REASON_RESOURCE_CONFLICT, "already exists"),
            (create_of(sqs=sqs, function_name="none"), R.ERROR_REASON_FUNCTION_NOT_FOUND, "deploy it first"),
            (create_of(sqs=sqs, tenant_id="none"), R.ERROR_REASON_FUNCTION_NOT_FOUND, "deploy it first"),
            (create_of(sqs=sqs, qualifier="live"), R.ERROR_REASON_RESOURCE_NOT_FOUND, "f:live"),
            (create_of(sqs=sqs, tags={"aws:x": ""}), R.ERROR_REASON_INVALID_PARAMETER, "tags"),
            (create_of(sqs=sqs | {"batch_size": 11}), R.ERROR_REASON_INVALID_PARAMETER, "^Maximum batch window"),
            (create_of(sqs=sqs, filter_patterns=["x"]), R.ERROR_REASON_INVALID_PARAMETER, "^Invalid filter pattern"),
            (
                create_of(schedule=HOURLY | {"name": "b", "expression": "rate(0 hours)"}),
                R.ERROR_REASON_INVALID_PARAMETER,
                "sources.expression",
            ),
            (
                create_of(sqs=sqs, filter_patterns=['{"body":["' + "é" * 4_000 + '"]}'] * 5),
                R.ERROR_REASON_INVALID_PARAMETER,
                "at most 32,768 are kept",
            ),
            (create_of(bucket={"bucket": "in", "events": []}), R.ERROR_REASON_INVALID_PARAMETER, "bucket"),
            (pb.PutSourceRequest(source=NAME | {"sqs": sqs}), R.ERROR_REASON_INVALID_PARAMETER, "mode must be"),
            (change_of("none", "is_disabled"), R.ERROR_REASON_RESOURCE_NOT_FOUND, "does not exist"),
            (change_of(queue.source_id, "sqs.queue_arn"), R.ERROR_REASON_INVALID_PARAMETER, "cannot be changed"),
            (change_of(hourly.source_id, "sqs.batch_size"), R.ERROR_REASON_INVALID_PARAMETER, "cannot be changed"),
            (
                change_of(queue.source_id, "sqs.batch_size", sqs={"batch_size": 11}),
                R.ERROR_REASON_INVALID_PARAMETER,
                "^Maximum batch window",
            ),
        ]
        for request, reason, text in cases:
            with pytest.raises(EvenflowError, match=text) as refused:
                await c.call("PutSource", request)
            assert refused.value.reason == reason, request
        # Of another tenant it is not told that it is there.
        other = pb.GetSourceRequest(tenant_id="other", source_id=queue.source_id)
        with pytest.raises(EvenflowError, match="does not exist"):
            await c.call("GetSource", other)
        assert control.state.revision == before
