"""What `evenflow up` was asked for, checked before anything starts."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.failures import EXIT_USAGE, CliError
from services.control.settings import ControlSettings
from services.frontend.settings import FrontendSettings
from services.poller.settings import PollerSettings
from services.queue.settings import QueueSettings
from services.runtime.settings import RuntimeSettings
from services.shared.settings import SettingsError, keys_of, parse, variable_of

SETTINGS_OF_ROLE: dict[str, type] = {
    "control": ControlSettings,
    "queue": QueueSettings,
    "runtime": RuntimeSettings,
    "poller": PollerSettings,
    "frontend": FrontendSettings,
}
# What the supervisor decides itself, with what to use instead.
OWN_KEYS = {
    "node.id": "nodes are named by the supervisor",
    "data.dir": "use --data",
    "run.dir": "the supervisor makes it",
    "token.file": "the supervisor makes it",
    "listen": "services listen in the run folder",
    "advertise": "services listen in the run folder",
    "control.address": "services listen in the run folder",
    "tls.ca_file": "services listen in the run folder",
    "tls.cert_file": "services listen in the run folder",
    "tls.key_file": "services listen in the run folder",
    "tls.revoked_file": "services listen in the run folder",
    "metrics.listen": "metrics are on sockets in the run folder",
    "fleet.shards": "use --shards",
    "fleet.queue_nodes": "use --queues",
}
MAX_NEAR_MATCHES = 3
# A door that listens on every address is reached on the loopback.
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class UpOptions:
    """One fleet to run. shards None: 8 for a new data directory, else what it has."""

    data: Path
    http_port: int = 9000
    grpc_port: int = 9001
    shards: int | None = None
    pollers: int = 1
    runtimes: int = 1
    queues: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def http_listen(self) -> str:
        """HOST:PORT of the HTTP door; `--set http.listen` names another host."""
        return self.settings.get("http.listen", f"127.0.0.1:{self.http_port}")

    @property
    def http_url(self) -> str:
        """The HTTP door as functions on this machine reach it."""
        host, _, port = self.http_listen.rpartition(":")
        return f"http://{ANY_ADDRESS.get(host, host)}:{port}"

    @property
    def grpc_listen(self) -> str:
        """HOST:PORT of the gRPC door."""
        return self.settings.get("grpc.listen", f"127.0.0.1:{self.grpc_port}")


def known_settings() -> dict[str, Any]:
    """Every setting of every service by key."""
    found: dict[str, Any] = {}
    for settings_class in SETTINGS_OF_ROLE.values():
        found.update(keys_of(settings_class))
    return found


def parse_settings(given: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE` texts, each checked as its service would. CliError: unknown key (with near ones), bad value."""
    known = known_settings()
    settings: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals:
            raise CliError(f"--set {text!r}: KEY=VALUE is expected, such as retry.base_seconds=0.2", EXIT_USAGE)
        if key not in known:
            near = difflib.get_close_matches(key, known, MAX_NEAR_MATCHES, 0.5)
            hint = f"; did you mean {' or '.join(near)}?" if near else "; `evenflow settings` lists them"
            raise CliError(f"--set {key}: there is no such setting{hint}", EXIT_USAGE)
        if key in OWN_KEYS:
            raise CliError(f"--set {key}: not here, {OWN_KEYS[key]}", EXIT_USAGE)
        try:
            parse(known[key], value)
        except SettingsError as e:
            raise CliError(f"--set {e}", EXIT_USAGE) from None
        settings[key] = value
    return settings


def as_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings as the services read them."""
    return {variable_of(key): value for key, value in settings.items()}
