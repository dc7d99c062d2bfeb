"""Functions, packages and reservations over a real control, and what it refuses."""

import os
from pathlib import Path
from typing import Any

import pytest
from evenflow.control.v1 import control_pb2, resources_pb2

from services.shared.errors import EvenflowError, Reason
from tests.integration.control.kit import TENANT, bucket_source, client, package, running

ARN = "arn:aws:lambda:us-east-1:123456789012:function:"


async def test_a_function_is_put_read_replaced_and_deleted(run_dir: Path) -> None:
    """Times, revision and source ids change only with what they stand for."""
    async with running(run_dir), client(run_dir) as c:
        code = await c.upload(package())
        sources = [bucket_source("in"), bucket_source("in", key_suffix=".wav")]
        with pytest.raises(EvenflowError, match="no bucket name"):
            await c.put("clean", code, sources)
        sources = [bucket_source("podcast-in"), bucket_source("podcast-in", key_suffix=".wav")]
        first = await c.put("clean", code, sources)
        assert first.created and first.function.latest.timeout_ms == 3_000 and first.function.latest.memory_mb == 128
        assert first.function.latest.code_size_bytes == len(package()) and first.function.created_at_ms > 0

        name = control_pb2.GetFunctionRequest(tenant_id=TENANT, function_name="clean")
        read = await c.call("GetFunction", name)
        assert read.function == first.function and read.revision == first.function.revision
        ids = {s.bucket.key_suffix: s.source_id for s in read.sources}

        again = await c.put("clean", code, sources)
        assert not again.created and again.function == first.function

        other = await c.put("clean", code, [sources[1], bucket_source("podcast-other")], timeout_ms=5_000)
        assert other.function.created_at_ms == first.function.created_at_ms
        assert other.function.revision > first.function.revision and other.function.latest.timeout_ms == 5_000
        read = await c.call("GetFunction", name)
        kept = {s.bucket.bucket + s.bucket.key_suffix: s.source_id for s in read.sources}
        assert len(kept) == 2 and kept["podcast-in.wav"] == ids[".wav"]
        assert kept["podcast-other"] not in ids.values()

        await c.call("DeleteFunction", control_pb2.DeleteFunctionRequest(tenant_id=TENANT, function_name="clean"))
        for method, request in (
            ("GetFunction", name),
            ("DeleteFunction", control_pb2.DeleteFunctionRequest(tenant_id=TENANT, function_name="clean")),
            ("PutConcurrency", control_pb2.PutConcurrencyRequest(tenant_id=TENANT, function_name="clean")),
        ):
            with pytest.raises(EvenflowError) as refused:
                await c.call(method, request)
            assert refused.value.reason == Reason.ERROR_REASON_FUNCTION_NOT_FOUND


async def test_reservations_stay_over_a_deploy_and_leave_100(run_dir: Path) -> None:
    """Kept unless given; lifted by unset; the last 100 cannot be had."""
    async with running(run_dir), client(run_dir) as c:
        code = await c.upload(package())
        await c.put("a", code)
        await c.put("b", code, reserved_concurrency=0)

        async def reserve(name: str, **value: int) -> resources_pb2.Function:
            request = control_pb2.PutConcurrencyRequest(tenant_id=TENANT, function_name=name, **value)
            return (await c.call("PutConcurrency", request)).function  # type: ignore[no-any-return]

        assert (await reserve("a", reserved_concurrency=800)).reserved_concurrency == 800
        assert (await c.put("a", code, description="new")).function.reserved_concurrency == 800
        with pytest.raises(EvenflowError, match=r"minimum value of \[100\]; at most 100"):
            await reserve("b", reserved_concurrency=101)
        with pytest.raises(EvenflowError, match=r"minimum value of \[100\]"):
            await c.put("c", code, reserved_concurrency=101)
        assert (await reserve("b", reserved_concurrency=100)).reserved_concurrency == 100
        assert not (await reserve("a")).HasField("reserved_concurrency")
        assert (await reserve("b", reserved_concurrency=900)).reserved_concurrency == 900


async def test_functions_are_listed_in_pages(run_dir: Path) -> None:
    """By name, each once, to the last page."""
    async with running(run_dir), client(run_dir) as c:
        code = await c.upload(package())
        names = [f"f{i:02d}" for i in range(7)]
        for name in reversed(names):
            await c.put(name, code)
        found: list[list[str]] = []
        token = ""
        while not found or token:
            page = await c.call(
                "ListFunctions", control_pb2.ListFunctionsRequest(tenant_id=TENANT, page_size=3, page_token=token)
            )
            found.append([f.function_name for f in page.functions])
            token = page.next_page_token
        assert found == [names[:3], names[3:6], names[6:]]
        with pytest.raises(EvenflowError, match="page_size"):
            await c.call("ListFunctions", control_pb2.ListFunctionsRequest(tenant_id=TENANT, page_size=1_001))
        empty = await c.call("ListFunctions", control_pb2.ListFunctionsRequest(tenant_id="nobody"))
        assert not empty.functions


BAD_FUNCTIONS: list[tuple[dict[str, Any], int, str]] = [
    ({"name": "a b"}, Reason.ERROR_REASON_INVALID_PARAMETER, "function_name"),
    ({"tenant_id": "nobody"}, Reason.ERROR_REASON_INVALID_PARAMETER, "use 'default'"),
    ({"runtime": "ruby"}, Reason.ERROR_REASON_RUNTIME_UNSUPPORTED, "choose one of python3"),
    ({"handler": "nodot"}, Reason.ERROR_REASON_INVALID_PARAMETER, "module.function"),
    ({"timeout_ms": 900_001}, Reason.ERROR_REASON_INVALID_PARAMETER, "1 to 900,000"),
    ({"code_sha256": b"x" * 32}, Reason.ERROR_REASON_INVALID_PACKAGE, "upload it"),
    ({"code_sha256": b"../../etc"}, Reason.ERROR_REASON_INVALID_PARAMETER, "32 bytes"),
    ({"runtime": "provided.al2023", "handler": ""}, Reason.ERROR_REASON_INVALID_PARAMETER, "a text, not empty"),
    (
        {"layers": [resources_pb2.Layer(name="l", code_sha256=b"x" * 32)]},
        Reason.ERROR_REASON_INVALID_PACKAGE,
        "upload it",
    ),
    (
        {"layers": [resources_pb2.Layer(name="l", code_sha256=b"x")]},
        Reason.ERROR_REASON_INVALID_PARAMETER,
        r"layers\.code_sha256 must be the 32 bytes",
    ),
    ({"layers": [resources_pb2.Layer()]}, Reason.ERROR_REASON_INVALID_PARAMETER, "layers.name"),
    (
        {"layers": [resources_pb2.Layer(name="l")] * 6},
        Reason.ERROR_REASON_INVALID_PARAMETER,
        "at most 5 for a function, not 6",
    ),
    ({"environment": {"AWS_REGION": "x"}}, Reason.ERROR_REASON_INVALID_PARAMETER, "AWS_REGION"),
    (
        {"async_config": resources_pb2.AsyncConfig(on_success_arn=ARN + "f")},
        Reason.ERROR_REASON_INVALID_PARAMETER,
        "its own destination",
    ),
    ({"sources": [resources_pb2.EventSource()]}, Reason.ERROR_REASON_INVALID_PARAMETER, "listens to"),
    (
        {"sources": [resources_pb2.EventSource(function_name="g")]},
        Reason.ERROR_REASON_INVALID_PARAMETER,
        "leave tenant_id",
    ),
]


async def test_a_bad_function_is_refused_and_nothing_changes(run_dir: Path) -> None:
    """A typed error that says what to do; the revision stays."""
    async with running(run_dir) as control, client(run_dir) as c:
        good = await c.upload(package())
        before = control.state.revision
        for case, reason, text in BAD_FUNCTIONS:
            changes = dict(case)
            code = changes.pop("code_sha256", good)
            name, sources = changes.pop("name", "f"), changes.pop("sources", None)
            with pytest.raises(EvenflowError, match=text) as refused:
                await c.put(name, code, sources, **changes)
            assert refused.value.reason == reason, case
        assert control.state.revision == before and not control.state.functions


async def test_packages_are_checked_kept_once_and_read_back(run_dir: Path) -> None:
    """What is no zip, too large a chunk, an unknown hash: typed refusals."""
    async with running(run_dir, packages_max_bytes=1 << 20), client(run_dir) as c:
        data = package("x = 1\n" * 1_000)
        code = await c.upload(data, chunk_bytes=100)
        assert await c.upload(data) == code
        stored = list((run_dir / "control" / "packages").glob("**/*.zip"))
        assert [path.read_bytes() for path in stored] == [data] and stored[0].name == f"{code.hex()}.zip"
        call = c.stub.DownloadPackage(control_pb2.DownloadPackageRequest(code_sha256=code), metadata=c.peer.metadata)
        assert b"".join([part.chunk async for part in call]) == data

        for bad, text in (
            ([b"no zip"], "no zip file"),
            ([], "no zip file"),
            ([b"x" * ((1 << 20) + 1)], "a chunk has"),
            ([b"x" * (1 << 20)] * 51, "larger than"),
        ):
            requests = iter([control_pb2.UploadPackageRequest(chunk=chunk) for chunk in bad])
            with pytest.raises(EvenflowError, match=text):
                await c.call("UploadPackage", requests)
        with pytest.raises(EvenflowError, match="upload it"):
            await c.put("f", b"y" * 32)
        assert not list((run_dir / "control" / "packages").glob("*.new"))


async def test_a_full_store_makes_room_only_from_what_nobody_uses(run_dir: Path) -> None:
    """An old package without a function goes; one in use stays and the next upload is refused."""

    async with running(run_dir, packages_max_bytes=1 << 20), client(run_dir) as c:
        noise = [os.urandom(300_000).hex() for _ in range(3)]
        unused = await c.upload(package(noise[0]))
        paths = list((run_dir / "control" / "packages").glob("**/*.zip"))
        with pytest.raises(EvenflowError) as refused:
            await c.upload(package(noise[1]))
        assert refused.value.reason == Reason.ERROR_REASON_DISK_FULL
        os.utime(paths[0], (1, 1))
        used = await c.upload(package(noise[1]))
        await c.put("f", used)
        assert unused.hex() not in {p.stem for p in (run_dir / "control" / "packages").glob("**/*.zip")}
        os.utime(next((run_dir / "control" / "packages").glob("**/*.zip")), (1, 1))
        with pytest.raises(EvenflowError):
            await c.upload(package(noise[2]))
        await c.put("g", used)


async def test_a_layer_in_use_is_kept_and_its_size_is_controls_word(run_dir: Path) -> None:
    """As a package is, although no function has it as its code."""
    async with running(run_dir, packages_max_bytes=1 << 20), client(run_dir) as c:
        noise = [os.urandom(300_000).hex() for _ in range(2)]
        layer, code = await c.upload(package(noise[0])), await c.upload(package())
        layers = [resources_pb2.Layer(name="shared", code_sha256=layer, code_size_bytes=1)]
        put = await c.put("f", code, layers=layers)
        assert put.function.latest.layers[0].code_size_bytes == len(package(noise[0]))
        for path in (run_dir / "control" / "packages").glob("**/*.zip"):
            os.utime(path, (1, 1))
        with pytest.raises(EvenflowError) as refused:
            await c.upload(package(noise[1]))
        assert refused.value.reason == Reason.ERROR_REASON_DISK_FULL
        assert layer.hex() in {p.stem for p in (run_dir / "control" / "packages").glob("**/*.zip")}
