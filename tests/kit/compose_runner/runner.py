"""`docker compose up` without Docker: the services of docker-compose.yml as processes in network namespaces.

Kept from the file: each service's own command (the target's entry point), environment, user, health check, order of
dependencies, read-only root, tmpfs, volumes, host names, who knows whose name, replicas. Not kept: limits of processor
and memory, published ports, restarts (a test restarts what it killed), and images that are not built here.
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tests.kit.compose_runner.compose_file import COMPLETED, STARTED, Mount, Service, read
from tests.kit.compose_runner.container import HEALTHY, Container
from tests.kit.compose_runner.network import Network
from tests.kit.waiting import wait_until

T = TypeVar("T")
ROOT = Path(__file__).parents[3]
# A bound, not a goal: it is some 8 seconds on an idle machine.
UP_SECONDS = 120.0
RUN_SECONDS = 60.0
_POLL_SECONDS = 0.05


class ComposeRunner:
    """The fleet of a compose file, between `up` and `down`; a context manager.

    Containers end with the thread that started them: so nothing is left of a test that was killed.

    environment: what `.env` would hold. settings: EVENFLOW_* for every service, as evenflow.env. scale: replicas by
    service. The network's faults are at `network`, by names of containers: `queue-0`, and `poller-1` for a replica.
    """

    def __init__(
        self,
        file: Path = ROOT / "docker-compose.yml",
        *,
        environment: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        scale: Mapping[str, int] | None = None,
        profiles: Iterable[str] = (),
    ) -> None:
        self.file = read(file, environment or {})
        self.folder = Path(tempfile.mkdtemp(prefix="evenflow-compose-", dir="/tmp"))
        # Containers have users of their own, who reach their volumes through it.
        self.folder.chmod(0o711)
        self.network = Network()
        self.containers: dict[str, Container] = {}
        self.started: list[str] = []
        self._settings = dict(settings or {})
        self._hosts: dict[str, Path] = {}
        self._active = self.file.active(frozenset(profiles))
        counts = scale or {}
        try:
            for service in self._active.values():
                for number in range(1, counts.get(service.name, 1) + 1):
                    self._add(service, number)
            for service in self.file.services.values():
                # For `run`: a container that waits with an address, but no process.
                if service.name not in self._active:
                    self._add(service, 1)
            self._write_hosts()
        except BaseException:
            self.down()
            raise

    def __enter__(self) -> "ComposeRunner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.describe())
        self.down()

    def up(self, within_seconds: float = UP_SECONDS) -> None:
        """Start every service of the profiles when what it depends on is as it asks. AssertionError: not in time."""
        waiting = dict(self._active)
        deadline = time.monotonic() + within_seconds
        while waiting or not self._all_well():
            self._look()
            for name in [name for name, service in waiting.items() if self._may_start(service)]:
                del waiting[name]
                for container in self._of(name):
                    container.start()
                    self.started.append(container.name)
            if time.monotonic() > deadline:
                states = {name: container.health for name, container in self.containers.items()}
                raise AssertionError(f"not up within {within_seconds} s: waiting {list(waiting)}, {states}")
            time.sleep(_POLL_SECONDS)

    def run(self, service: str, *arguments: str, timeout_seconds: float = RUN_SECONDS) -> str:
        """`docker compose run --rm SERVICE ARGUMENTS`: its standard output. AssertionError: it failed."""
        done = self.containers[f"{service}-1" if service not in self.containers else service].run(
            arguments, timeout_seconds
        )
        assert done.returncode == 0, f"{service} {arguments}: {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def share(self, folder: Path, target: str) -> None:
        """Show a folder of this machine, read-only, to what is run from now on, as `--volume` does."""
        for container in self.containers.values():
            container.binds.append((target, str(folder), True))

    def inside(self, container: str, work: Callable[[], T]) -> T:
        """Run this with sockets of a container's network; names are not known there, addresses are."""
        return self.network.inside(container, work)

    def wait_healthy(self, container: str, within_seconds: float) -> None:
        """Until a container's own health check says so."""
        one = self.containers[container]
        wait_until(lambda: one.look() == HEALTHY, within_seconds, f"{container} to be healthy")

    def down(self) -> None:
        """Stop everything, what depends on others first; nothing is left, neither processes, namespaces nor files."""
        for container in reversed(self.started):
            self.containers[container].terminate()
            self.containers[container].stop()
        for one in self.containers.values():
            one.stop()
        self.network.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def describe(self) -> str:
        """The end of every log, for a failed test's report."""
        return "\n".join(f"--- {c.name} ({c.health})\n{c.tail()}" for c in self.containers.values())

    # --- how containers are made

    def _add(self, service: Service, number: int) -> None:
        name = service.hostname or (service.name if service.health is None else f"{service.name}-{number}")
        address = self.network.add(name)
        hostname = service.hostname or secrets.token_hex(6)
        hosts = self._hosts[name] = self.folder / f"{name}.hosts"
        hosts.touch()
        binds = [
            ("/etc/hosts", str(hosts), True),
            ("/opt/evenflow", str(ROOT), True),
            ("/opt/venv", str(Path(sys.prefix)), True),
            (sys.base_prefix, sys.base_prefix, True),
            *(self._bind(mount, name, service) for mount in service.mounts),
        ]
        root = self.folder / f"{name}.root"
        root.mkdir()
        given = {k: v for k, v in self._settings.items() if service.health is not None}
        environment = {
            **service.environment,
            **given,
            "HOSTNAME": hostname,
            "HOME": "/",
            # Installed from a folder that has another name here.
            "PYTHONPATH": "/opt/evenflow:/opt/evenflow/gen",
        }
        self.containers[name] = Container(
            name,
            service,
            hostname,
            self.network.path_of(name),
            address,
            binds,
            environment,
            self.folder / f"{name}.log",
            root,
        )

    def _bind(self, mount: Mount, container: str, service: Service) -> tuple[str, str, bool]:
        """A volume as a folder, which whoever mounts it first owns, as in an image with that folder."""
        if mount.source.startswith("."):
            return mount.target, str((ROOT / mount.source).resolve()), mount.is_read_only
        volume = mount.source or f"{container}{mount.target.replace('/', '-')}"
        folder = self.folder / "volumes" / volume
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(0o700)
            uid, _, gid = service.user.partition(":")
            os.chown(folder, int(uid), int(gid or uid))
        return mount.target, str(folder), mount.is_read_only

    def _write_hosts(self) -> None:
        """Each container's names: itself, and whoever shares a network with it."""
        for name, path in self._hosts.items():
            mine = self.containers[name]
            lines = ["127.0.0.1 localhost"]
            for other in self.containers.values():
                if other is mine or mine.service.networks & other.service.networks:
                    names = dict.fromkeys((other.hostname, other.name, other.service.name))
                    lines.append(f"{other.address} {' '.join(names)}")
            path.write_text("\n".join(lines) + "\n")

    # --- when they start

    def _of(self, service: str) -> list[Container]:
        return [container for container in self.containers.values() if container.service.name == service]

    def _look(self) -> None:
        for name in self.started:
            self.containers[name].look()

    def _may_start(self, service: Service) -> bool:
        return all(self._is_met(other, condition) for other, condition in service.depends_on.items())

    def _is_met(self, service: str, condition: str) -> bool:
        containers = self._of(service)
        if condition == COMPLETED:
            for one in containers:
                if one.exit_code not in (None, 0):
                    raise AssertionError(f"{one.name} ended with {one.exit_code}: {one.tail()}")
            return all(one.exit_code == 0 for one in containers)
        if condition == STARTED:
            return all(one.name in self.started for one in containers)
        return all(one.name in self.started and one.health == HEALTHY for one in containers)

    def _all_well(self) -> bool:
        for name in self.started:
            one = self.containers[name]
            if one.service.health is None:
                continue
            if one.exit_code is not None:
                raise AssertionError(f"{name} ended with {one.exit_code}: {one.tail()}")
            if one.health != HEALTHY:
                return False
        return True


def unmounted(folder: Path) -> bool:
    """Whether nothing is mounted below a folder, as far as this process sees."""
    return str(folder) not in Path("/proc/self/mountinfo").read_text()


def namespaces() -> set[str]:
    """The named network namespaces of this machine."""
    done = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True, timeout=10)
    return {line.split()[0] for line in done.stdout.splitlines() if line.strip()}
