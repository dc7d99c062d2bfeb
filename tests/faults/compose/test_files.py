"""docker-compose.yml, the Dockerfile and what lies in deploy/: well formed, and about this fleet."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.supervisor.options import known_settings
from services.shared.settings import variable_of
from tests.kit.compose_runner.compose_file import load_yaml

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
FILE: dict[str, Any] = load_yaml((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
STATE = {"control", "queue-0", "queue-1", "queue-2", "runtime", "poller", "frontend"}
# Read by the command, not by a service.
OF_THE_COMMAND = {"EVENFLOW_HTTP_URL", "EVENFLOW_DATA"}


def run(*command: str) -> None:
    """AssertionError, with what it said, when it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_is_one() -> None:
    """By the specification's own schema."""
    run(str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")


def test_the_dockerfile_follows_good_practice() -> None:
    """Hadolint finds nothing."""
    run(str(BIN / "hadolint"), "Dockerfile")


def test_every_variable_is_a_setting() -> None:
    """A misspelt one would be ignored in silence."""
    known = {variable_of(key) for key in known_settings()} | OF_THE_COMMAND
    for name, service in SERVICES.items():
        given = {key for key in service.get("environment", {}) if key.startswith("EVENFLOW_")}
        assert given <= known, f"{name}: {given - known}"


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_bounded_and_pinned(name: str) -> None:
    """Memory, processors and processes have limits, images a version; dependencies exist."""
    service = SERVICES[name]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    if "build" not in service:
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", service["image"])
    assert set(service.get("depends_on", {})) <= set(SERVICES)


@pytest.mark.parametrize("name", OURS)
def test_ours_have_no_more_power_than_they_need(name: str) -> None:
    """No root, no capability, nothing to write on but what is named, a target that the Dockerfile has."""
    service = OURS[name]
    assert service["user"] == "10001:10001" and service["read_only"] and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    targets = re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert service["build"]["target"] in targets


@pytest.mark.parametrize("name", sorted(STATE))
def test_each_service_is_watched_and_has_its_own_certificate(name: str) -> None:
    """A health check, a restart, and the folder of that node or role alone, read-only."""
    service = SERVICES[name]
    assert service["healthcheck"]["test"] == ["CMD", "python", "-m", "services.shared.health"]
    assert service["restart"] == "unless-stopped"
    mounted = [volume for volume in service["volumes"] if volume.startswith("certs-")]
    assert mounted == [f"certs-{name}:/etc/evenflow/certs:ro"]


def test_replicas_are_bound_to_no_name() -> None:
    """What is scaled has no host name, no port and no volume that two of them would share, but the buckets."""
    for name in ("poller", "runtime", "load-worker"):
        service = SERVICES[name]
        assert "hostname" not in service and "container_name" not in service and not service.get("ports")
        shared = [v for v in service.get("volumes", []) if not v.startswith(("/", "buckets:", "certs-"))]
        assert not shared
    text = (ROOT / "docker-compose.yml").read_text()
    assert not re.search(r"(poller|runtime)-\d", text)


def test_certificates_are_issued_for_whom_they_are_mounted() -> None:
    """The one-shot service fills each volume that others read."""
    certs = SERVICES["certs"]
    filled = {volume.partition(":")[0] for volume in certs["volumes"]}
    read = {v.partition(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if v.startswith("certs-")}
    assert read == filled and "certs-ca" in filled
    named = {holder.rpartition("/")[2] for holder in certs["command"].split()[3:]}
    assert {f"certs-{name}" for name in named} == filled - {"certs-ca"}
    for name, service in SERVICES.items():
        assert name == "certs" or "certs-ca" not in str(service.get("volumes")), "the authority's key is one service's"


def test_boards_show_numbers_that_there_are() -> None:
    """Every metric of the dashboard is made somewhere in the services; what is mounted exists."""
    board = json.loads((ROOT / "deploy/grafana/dashboards/fleet.json").read_text())
    source = "".join(path.read_text() for path in (ROOT / "services").glob("*/*.py"))
    shown = set()
    for panel in board["panels"]:
        for target in panel["targets"]:
            shown |= set(re.findall(r"\b(?:evenflow_|[A-Z][a-z]+[A-Z]?)\w+", target["expr"]))
    assert len(shown) > 15
    for metric in shown:
        base = re.sub(r"(_milliseconds)?(_bucket|_sum|_count|_total)?$", "", metric)
        assert f'"{base}"' in source, metric
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (ROOT / volume.partition(":")[0]).exists(), volume
    for path in (ROOT / "deploy").rglob("*.yml"):
        assert isinstance(load_yaml(path.read_text()), dict), path


def test_numbers_are_gathered_from_every_service() -> None:
    """Prometheus asks each by the name that Docker's DNS knows."""
    scrape = load_yaml((ROOT / "deploy/prometheus.yml").read_text())["scrape_configs"][0]["dns_sd_configs"][0]
    assert set(scrape["names"]) == STATE and scrape["port"] == 9100
    assert all("observe" in SERVICES[name]["networks"] for name in STATE)
