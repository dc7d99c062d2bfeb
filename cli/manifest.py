"""evenflow.toml: the functions of a folder, read and checked; every refusal names file and key."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.failures import CliError
from cli.manifest_keys import Keys, check_keys, check_table
from cli.manifest_sources import AnySource, read_source
from services.policy.function_rules import MAX_LAYERS

MANIFEST_NAME = "evenflow.toml"
MAX_MANIFEST_BYTES = 1_048_576
DEFAULT_RUNTIME = "python3"
DEFAULT_TIMEOUT_SECONDS = 3
DEFAULT_MEMORY_MB = 128
_FUNCTION_KEYS: Keys = {
    "name": str,
    "code": str,
    "handler": str,
    "runtime": str,
    "timeout_seconds": (int, float),
    "memory_mb": int,
    "description": str,
    "environment": dict,
    "buckets": list,
    "layers": list,
    "snap_start": bool,
    "sources": list,
    "async": dict,
    "reserved_concurrency": int,
    "allows": list,
}
_ALLOWANCE_KEYS: Keys = {"action": str, "resource": str}
_BUCKET_KEYS: Keys = {"name": str, "access": str}
_ASYNC_KEYS: Keys = {
    "maximum_retry_attempts": int,
    "maximum_event_age_seconds": int,
    "on_success": dict,
    "on_failure": dict,
    "dead_letter": dict,
}
# What each key of a destination names, as the services in ARNs are called; "arn" and "function" are no services.
DESTINATION_SERVICES = {"sqs": "sqs", "sns": "sns", "event_bus": "events", "s3": "s3"}
_DESTINATION_KEYS: Keys = {
    "function": str,
    "arn": str,
    **dict.fromkeys(DESTINATION_SERVICES, str),
}
_DEAD_LETTER_KEYS: Keys = {"sqs": str, "sns": str, "arn": str}


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket that a function sees."""

    name: str
    writable: bool


@dataclass(frozen=True, slots=True)
class Allowed:
    """One thing that a function may do with the credentials that it finds in its environment."""

    action: str
    resource: str


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """One function to deploy; `code` and each of `layers` is a folder or a zip. None: what the fleet has by default."""

    name: str
    code: Path
    handler: str
    runtime: str = DEFAULT_RUNTIME
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    memory_mb: int = DEFAULT_MEMORY_MB
    description: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    buckets: tuple[Bucket, ...] = ()
    layers: tuple[Path, ...] = ()
    snap_start: bool = False
    sources: tuple[AnySource, ...] = ()
    maximum_retry_attempts: int | None = None
    maximum_event_age_seconds: int | None = None
    # The name of a function, or an ARN.
    on_success: str = ""
    on_failure: str = ""
    dead_letter: str = ""
    reserved_concurrency: int | None = None
    allows: tuple[Allowed, ...] = ()


def read_manifest(folder: Path) -> list[FunctionSpec]:
    """The functions of a folder's manifest. CliError: no TOML (with the line), or a wrong key (with its name)."""
    path = folder / MANIFEST_NAME
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise CliError(f"{path}: larger than {MAX_MANIFEST_BYTES:,} bytes")
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as e:
        raise CliError(f"{path}: no TOML: {e}") from None
    except UnicodeDecodeError as e:
        raise CliError(f"{path}: no UTF-8 text at byte {e.start}") from None
    except OSError as e:
        raise CliError(f"{path}: {e.strerror}") from None
    check_keys(document, {"functions": list}, str(path))
    entries = document.get("functions", [])
    if not entries:
        raise CliError(f"{path}: no [[functions]]")
    specs = [_function(entry, folder, f"{path}: functions[{index}]") for index, entry in enumerate(entries)]
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise CliError(f"{path}: function {name!r} is there twice")
    return specs


def _function(entry: Any, folder: Path, where: str) -> FunctionSpec:
    check_table(entry, where)
    if isinstance(entry.get("name"), str):
        where = f"{where} ({entry['name']})"
    check_keys(entry, _FUNCTION_KEYS, where)
    for key in ("name", "handler"):
        if not entry.get(key):
            raise CliError(f"{where}: {key} is missing")
    environment = entry.get("environment", {})
    for name, value in environment.items():
        if not isinstance(value, str):
            raise CliError(f"{where}: environment.{name} must be a text, in quotes")
    asynchronous = entry.get("async", {})
    check_keys(asynchronous, _ASYNC_KEYS, f"{where}: async")
    return FunctionSpec(
        name=entry["name"],
        code=folder / entry.get("code", "."),
        handler=entry["handler"],
        runtime=entry.get("runtime", DEFAULT_RUNTIME),
        timeout_seconds=entry.get("timeout_seconds", DEFAULT_TIMEOUT_SECONDS),
        memory_mb=entry.get("memory_mb", DEFAULT_MEMORY_MB),
        description=entry.get("description", ""),
        environment=environment,
        buckets=tuple(_bucket(one, f"{where}: buckets[{n}]") for n, one in enumerate(entry.get("buckets", []))),
        layers=_layers(entry.get("layers", []), folder, where),
        snap_start=entry.get("snap_start", False),
        sources=tuple(read_source(one, f"{where}: sources[{n}]") for n, one in enumerate(entry.get("sources", []))),
        maximum_retry_attempts=asynchronous.get("maximum_retry_attempts"),
        maximum_event_age_seconds=asynchronous.get("maximum_event_age_seconds"),
        on_success=_destination(asynchronous, "on_success", _DESTINATION_KEYS, where),
        on_failure=_destination(asynchronous, "on_failure", _DESTINATION_KEYS, where),
        dead_letter=_destination(asynchronous, "dead_letter", _DEAD_LETTER_KEYS, where),
        reserved_concurrency=entry.get("reserved_concurrency"),
        allows=tuple(_allowed(one, f"{where}: allows[{n}]") for n, one in enumerate(entry.get("allows", []))),
    )


def _layers(entry: list[Any], folder: Path, where: str) -> tuple[Path, ...]:
    for layer in entry:
        if not isinstance(layer, str) or not layer:
            raise CliError(f"{where}: layers must be folders or zip files, in quotes, not {layer!r}")
    if len(entry) > MAX_LAYERS:
        raise CliError(f"{where}: layers: at most {MAX_LAYERS}, not {len(entry)}: merge some into one")
    return tuple(folder / layer for layer in entry)


def _allowed(entry: Any, where: str) -> Allowed:
    check_table(entry, where)
    check_keys(entry, _ALLOWANCE_KEYS, where)
    for key in _ALLOWANCE_KEYS:
        if not entry.get(key):
            raise CliError(f'{where}: {key} is missing: {{ action = "lambda:InvokeFunction", resource = "NAME" }}')
    return Allowed(entry["action"], entry["resource"])


def _bucket(entry: Any, where: str) -> Bucket:
    check_table(entry, where)
    check_keys(entry, _BUCKET_KEYS, where)
    if not entry.get("name"):
        raise CliError(f"{where}: name is missing")
    access = entry.get("access", "read")
    if access not in ("read", "write"):
        raise CliError(f'{where}: access must be "read" or "write" (which includes read), not {access!r}')
    return Bucket(entry["name"], access == "write")


def _destination(table: Mapping[str, Any], key: str, known: Keys, where: str) -> str:
    entry = table.get(key)
    if entry is None:
        return ""
    where = f"{where}: async.{key}"
    check_keys(entry, known, where)
    given = [(kind, value) for kind, value in entry.items() if value]
    if len(given) != 1:
        raise CliError(f'{where} must name one of {", ".join(known)}, such as {{ {next(iter(known))} = "..." }}')
    kind, value = given[0]
    if kind != "function" and not str(value).startswith("arn:"):
        raise CliError(f"{where}.{kind} must be an ARN, not {value!r}")
    service = DESTINATION_SERVICES.get(kind)
    if service is not None and f":{service}:" not in f"{str(value)[:40]}:":
        raise CliError(f"{where}.{kind} must be the ARN of {kind}'s service ({service}), not {value!r}")
    return str(value)
