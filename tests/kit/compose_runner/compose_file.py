"""docker-compose.yml as plans of containers: variables put in, entry points resolved, replicas counted."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.kit.compose_runner.dockerfile import Image, read_targets

HEALTHY, COMPLETED, STARTED = "service_healthy", "service_completed_successfully", "service_started"
# Ships no types.
load_yaml: Any = yaml.safe_load
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}|\$(\w+)")
_SECONDS = re.compile(r"(\d+)(ms|s|m)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How a container is asked whether it is well; times in seconds."""

    command: tuple[str, ...]
    interval: float
    timeout: float
    retries: int
    start_period: float
    start_interval: float


@dataclass(frozen=True, slots=True)
class Mount:
    """One volume: a name, or empty for one of the container's own, or a path of the host."""

    source: str
    target: str
    is_read_only: bool


@dataclass(frozen=True, slots=True)
class Service:
    """One service that is built here."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    workdir: str
    user: str
    hostname: str
    is_read_only: bool
    networks: frozenset[str]
    mounts: tuple[Mount, ...]
    tmpfs: tuple[str, ...]
    depends_on: Mapping[str, str]
    health: HealthCheck | None
    stop_grace_seconds: float


@dataclass(frozen=True, slots=True)
class ComposeFile:
    """The services of a file; `skipped`: those whose images are not built here, with the image."""

    services: Mapping[str, Service]
    profiles: Mapping[str, frozenset[str]]
    skipped: Mapping[str, str]

    def active(self, profiles: frozenset[str]) -> dict[str, Service]:
        """What `up` starts with these profiles."""
        return {n: s for n, s in self.services.items() if not self.profiles[n] or self.profiles[n] & profiles}


def read(path: Path, environ: Mapping[str, str]) -> ComposeFile:
    """The file with `environ` put in. ValueError: a form that this reader does not know."""
    found = _interpolate(load_yaml(path.read_text()), environ)
    images = read_targets(path.parent / "Dockerfile")
    services, profiles, skipped = {}, {}, {}
    for name, spec in found["services"].items():
        if "build" not in spec:
            skipped[name] = spec["image"]
            continue
        profiles[name] = frozenset(spec.get("profiles", ()))
        services[name] = _service(name, spec, images[spec["build"]["target"]], environ)
    return ComposeFile(services, profiles, skipped)


def _service(name: str, spec: Mapping[str, Any], image: Image, environ: Mapping[str, str]) -> Service:
    given = spec.get("command")
    command = image.command if given is None else tuple(shlex.split(given) if isinstance(given, str) else given)
    # A variable without a value is taken from the environment, and is not set where that has none.
    own = {k: environ.get(k) if v is None else str(v) for k, v in spec.get("environment", {}).items()}
    return Service(
        name=name,
        command=(*image.entrypoint, *command),
        environment={**image.environment, **{k: v for k, v in own.items() if v is not None}},
        workdir=spec.get("working_dir", image.workdir),
        user=spec.get("user", image.user),
        hostname=spec.get("hostname", ""),
        is_read_only=bool(spec.get("read_only")),
        networks=frozenset(spec.get("networks", ())),
        mounts=tuple(_mount(text) for text in spec.get("volumes", ())),
        tmpfs=tuple(spec.get("tmpfs", ())),
        depends_on={other: how["condition"] for other, how in spec.get("depends_on", {}).items()},
        health=_health(spec["healthcheck"]) if "healthcheck" in spec else None,
        stop_grace_seconds=seconds(spec.get("stop_grace_period", "10s")),
    )


def _mount(text: str) -> Mount:
    if ":" not in text:
        return Mount("", text, False)
    source, target, *options = text.split(":")
    return Mount(source, target, "ro" in options)


def _health(spec: Mapping[str, Any]) -> HealthCheck:
    kind, *command = spec["test"]
    if kind != "CMD":
        raise ValueError(f"healthcheck: CMD is expected, not {kind}")
    interval = seconds(spec.get("interval", "30s"))
    return HealthCheck(
        tuple(command),
        interval,
        seconds(spec.get("timeout", "30s")),
        int(spec.get("retries", 3)),
        seconds(spec.get("start_period", "0s")),
        seconds(spec.get("start_interval", "5s")),
    )


def seconds(text: str) -> float:
    """`1m30s` in seconds. ValueError: that is no duration."""
    parts = _SECONDS.findall(text)
    if "".join(f"{number}{unit}" for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _interpolate(value: Any, environ: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _VARIABLE.sub(lambda m: environ.get(m[1] or m[3]) or m[2] or "", value)
    if isinstance(value, dict):
        return {key: _interpolate(inner, environ) for key, inner in value.items()}
    if isinstance(value, list):
        return [_interpolate(inner, environ) for inner in value]
    return value
