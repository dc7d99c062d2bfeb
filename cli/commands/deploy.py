"""`evenflow deploy`: functions of a folder or a zip onto the running fleet."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import grpc
import typer
from evenflow.control.v1 import control_pb2, resources_pb2
from evenflow.runtime.v1 import runtime_pb2

from cli.commands.options import DataOption, JsonOption
from cli.connection import TENANT, FleetConnection
from cli.failures import EXIT_USAGE, CliError
from cli.manifest import (
    DEFAULT_MEMORY_MB,
    DEFAULT_RUNTIME,
    DEFAULT_TIMEOUT_SECONDS,
    MANIFEST_NAME,
    FunctionSpec,
    read_manifest,
)
from cli.manifest_sources import Source
from cli.output import print_json, print_line, size_of
from cli.package import check_handler, check_size, read_package
from services.policy.function_rules import NODE_RUNTIMES, PYTHON_RUNTIMES

UPLOAD_CHUNK_BYTES = 1_048_576
UPLOAD_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Deployed:
    """What became of one function."""

    name: str
    created: bool
    revision: int
    code_sha256: str
    package_bytes: int
    buckets: list[str]


def deploy(
    path: Annotated[Path, typer.Argument(metavar="DIR|ZIP", help="A folder with evenflow.toml, any folder, or a zip.")],
    data: DataOption = None,
    name: Annotated[str | None, typer.Option(help="Name of the function (without evenflow.toml).")] = None,
    handler: Annotated[str | None, typer.Option(help="MODULE.FUNCTION (without evenflow.toml).")] = None,
    runtime: Annotated[
        str | None, typer.Option(help=f"Runtime. Default: {DEFAULT_RUNTIME}", show_default=False)
    ] = None,
    timeout_seconds: Annotated[
        float | None, typer.Option(help=f"Longest run. Default: {DEFAULT_TIMEOUT_SECONDS}", show_default=False)
    ] = None,
    memory_mb: Annotated[
        int | None, typer.Option(help=f"Memory, MiB. Default: {DEFAULT_MEMORY_MB}", show_default=False)
    ] = None,
    env: Annotated[list[str] | None, typer.Option("--env", metavar="K=V", help="An environment variable.")] = None,
    layer: Annotated[
        list[Path] | None, typer.Option("--layer", metavar="DIR|ZIP", help="Laid at /opt; later ones win.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also for a runtime that a host does not offer.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put functions on the running fleet.

    New ones, or new code and configuration of those that are there.
    """
    options = {
        "--name": name,
        "--handler": handler,
        "--runtime": runtime,
        "--timeout-seconds": timeout_seconds,
        "--memory-mb": memory_mb,
        "--env": env,
        "--layer": layer,
    }
    if not path.exists():
        raise CliError(f"{path}: no such file or folder")
    if path.is_dir() and (path / MANIFEST_NAME).is_file():
        given = [option for option, value in options.items() if value]
        if given:
            raise CliError(f"{', '.join(given)}: {path / MANIFEST_NAME} says that already; change it there", EXIT_USAGE)
        specs = read_manifest(path)
    else:
        if not name or not handler:
            missing = " and ".join(option for option in ("--name", "--handler") if not options[option])
            hint = f" (or write its {MANIFEST_NAME})" if path.is_dir() else ""
            raise CliError(f"{path}: give {missing}{hint}", EXIT_USAGE)
        specs = [
            FunctionSpec(
                name=name,
                code=path,
                handler=handler,
                runtime=runtime or DEFAULT_RUNTIME,
                timeout_seconds=DEFAULT_TIMEOUT_SECONDS if timeout_seconds is None else timeout_seconds,
                memory_mb=DEFAULT_MEMORY_MB if memory_mb is None else memory_mb,
                environment=_environment(env or []),
                layers=tuple(layer or ()),
            )
        ]
    with FleetConnection(data) as fleet:
        if not force:
            check_offered(fleet, specs)
        done = deploy_functions(fleet, specs)
    if as_json:
        print_json([asdict(one) for one in done])
        return
    for one in done:
        what = "created" if one.created else "updated"
        print_line(f"{what} {one.name} ({size_of(one.package_bytes)}, sha256 {one.code_sha256[:12]})")
        for bucket in one.buckets:
            print_line(f"  bucket {bucket}: {fleet.data / 'buckets' / bucket}")


def deploy_functions(fleet: FleetConnection, specs: list[FunctionSpec]) -> list[Deployed]:
    """Check and upload every package, then put every function: a bad package changes nothing."""
    # Functions often share code and layers: each is packed and sent once.
    packed: dict[Path, bytes] = {}
    packages = []
    for spec in specs:
        paths = (spec.code, *spec.layers)
        for path in paths:
            if not path.exists():
                raise CliError(f"{spec.name}: {path}: no such file or folder")
            if path not in packed:
                packed[path] = read_package(path)
        package, *layers = (packed[path] for path in paths)
        check_handler(package, spec.handler, spec.code, spec.runtime, layers)
        check_size(package, layers, spec.code)
        packages.append((package, layers))
    identity = fleet.fleet_identity()
    sent = {one: _upload(fleet, one) for one in dict.fromkeys(packed.values())}
    uploads = [[sent[one] for one in (package, *layers)] for package, layers in packages]
    done = []
    for spec, (package, _), (sha256, *layers_sha256) in zip(specs, packages, uploads, strict=True):
        watched = {one.bucket for one in spec.sources if isinstance(one, Source) and not one.remote}
        buckets = sorted({one.name for one in spec.buckets} | watched)
        request = put_request(spec, sha256, identity, layers_sha256)
        answer = fleet.ask(fleet.control.PutFunction, request)
        # After control has checked the names.
        for bucket in buckets:
            (fleet.data / "buckets" / bucket).mkdir(parents=True, exist_ok=True)
        done.append(Deployed(spec.name, answer.created, answer.function.revision, sha256.hex(), len(package), buckets))
    return done


def check_offered(fleet: FleetConnection, specs: list[FunctionSpec]) -> None:
    """Pass when every host that answers offers every runtime. CliError: one does not; it says what it offers."""
    # These are everywhere, and control knows best which names there are: no host need look around for them.
    specs = [spec for spec in specs if spec.runtime in (*PYTHON_RUNTIMES, *NODE_RUNTIMES)]
    for host_id, host in fleet.hosts().items() if specs else ():
        try:
            request = runtime_pb2.DescribeHostRequest(wants_runtimes=True)
            offered = list(fleet.ask(host.DescribeHost, request).runtimes)
        except grpc.RpcError:
            # A host that is down now says no; events wait for it.
            continue
        for spec in specs:
            if spec.runtime not in offered:
                raise CliError(
                    f"{spec.name}: runtime {spec.runtime} is not offered by {host_id}: {', '.join(offered)} are "
                    "(--force deploys it all the same)"
                )


def _upload(fleet: FleetConnection, package: bytes) -> bytes:
    sha256: bytes = fleet.ask(fleet.control.UploadPackage, _chunks(package), UPLOAD_SECONDS).code_sha256
    return sha256


def put_request(
    spec: FunctionSpec, code_sha256: bytes, identity: resources_pb2.Fleet, layers_sha256: Sequence[bytes] = ()
) -> control_pb2.PutFunctionRequest:
    """The function as control takes it."""

    def arn_of(named: str) -> str:
        if not named or named.startswith("arn:"):
            return named
        return f"arn:aws:lambda:{identity.region}:{identity.account_id}:function:{named}"

    latest = resources_pb2.FunctionVersion(
        version="$LATEST",
        code_sha256=code_sha256,
        handler=spec.handler,
        runtime=spec.runtime,
        timeout_ms=_unsigned(spec, "timeout_seconds", spec.timeout_seconds * 1_000),
        memory_mb=_unsigned(spec, "memory_mb", spec.memory_mb),
        environment=dict(spec.environment),
        buckets=[resources_pb2.BucketGrant(bucket=one.name, writable=one.writable) for one in spec.buckets],
        description=spec.description,
        snap_start=spec.snap_start,
        dead_letter_arn=spec.dead_letter,
        layers=[
            resources_pb2.Layer(name=path.name, code_sha256=sha256)
            for path, sha256 in zip(spec.layers, layers_sha256, strict=True)
        ],
        allows=[resources_pb2.Allowance(action=one.action, resource=one.resource) for one in spec.allows],
    )
    asynchronous = resources_pb2.AsyncConfig(
        on_success_arn=arn_of(spec.on_success), on_failure_arn=arn_of(spec.on_failure)
    )
    if spec.maximum_retry_attempts is not None:
        asynchronous.maximum_retry_attempts = _unsigned(
            spec, "async.maximum_retry_attempts", spec.maximum_retry_attempts
        )
    if spec.maximum_event_age_seconds is not None:
        asynchronous.maximum_event_age_seconds = _unsigned(
            spec, "async.maximum_event_age_seconds", spec.maximum_event_age_seconds
        )
    function = resources_pb2.Function(
        tenant_id=TENANT, function_name=spec.name, latest=latest, async_config=asynchronous
    )
    if spec.reserved_concurrency is not None:
        function.reserved_concurrency = _unsigned(spec, "reserved_concurrency", spec.reserved_concurrency)
    sources = []
    for index, one in enumerate(spec.sources):
        source = resources_pb2.EventSource(tenant_id=TENANT, function_name=spec.name)
        one.fill(source, f"{spec.name}: sources[{index}]")
        sources.append(source)
    return control_pb2.PutFunctionRequest(function=function, sources=sources)


def _unsigned(spec: FunctionSpec, key: str, value: float) -> int:
    # What a field of the contract cannot even hold; the rest of the bounds is control's to judge. 0 would mean
    # "the default" to control where the user wrote a zero.
    least = 1 if key in ("timeout_seconds", "memory_mb") else 0
    if not least <= value < 2**32:
        raise CliError(f"{spec.name}: {key} is out of bounds")
    return int(value)


def _chunks(package: bytes) -> Iterator[control_pb2.UploadPackageRequest]:
    for at in range(0, max(1, len(package)), UPLOAD_CHUNK_BYTES):
        yield control_pb2.UploadPackageRequest(chunk=package[at : at + UPLOAD_CHUNK_BYTES])


def _environment(given: list[str]) -> dict[str, str]:
    environment = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise CliError(f"--env {name}: NAME=VALUE is expected", EXIT_USAGE)
        environment[name] = value
    return environment
