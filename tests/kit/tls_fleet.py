"""A fleet on the loopback whose services speak TCP with mutual TLS, each a process of its own."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from cli.certificates.folder import CertificateFolder, parse_holders
from services.shared.tls import Tls, TlsFiles
from tests.kit.fleet import run_cli
from tests.kit.processes import ServiceProcesses, free_port
from tests.kit.waiting import wait_until

# Node id -> whose certificate it has: hosts and pollers share those of their roles.
HOLDERS = {
    "control": "control",
    "queue-0": "queue/queue-0",
    "runtime-0": "runtime",
    "poller-0": "poller",
    "frontend-0": "frontend/frontend-0",
}
DAYS, RENEW_DAYS = 30, 10
READY_SECONDS = 30.0


class TlsFleet:
    """One node of each role. `certs` is what `evenflow certs` keeps."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.certs = folder / "certs"
        self.issue(*HOLDERS.values(), "operator")
        self.ports = {node_id: free_port() for node_id in HOLDERS}
        self.http_port, self.grpc_port = free_port(), free_port()
        self.processes = ServiceProcesses(folder, dict(settings))
        self.token = (self.certs / "ca" / "fleet.token").read_text().strip()

    def issue(self, *holders: str) -> None:
        """Certificates for these, where there are none that will do."""
        CertificateFolder(self.certs).ensure(parse_holders(holders), DAYS, RENEW_DAYS)

    def address(self, node_id: str) -> str:
        """Where a node listens."""
        return f"127.0.0.1:{self.ports[node_id]}"

    def folder_of(self, holder: str) -> Path:
        """What a holder has: `queue/queue-0` or `poller`."""
        return self.certs / holder.rpartition("/")[2]

    def tls_of(self, holder: str) -> Tls:
        """A holder's side of a connection."""
        return Tls(files_of(self.folder_of(holder)))

    def environment_of(self, holder: str) -> dict[str, str]:
        """How a process with this certificate finds the fleet."""
        folder = self.folder_of(holder)
        return {
            "EVENFLOW_CONTROL_ADDRESS": self.address("control"),
            "EVENFLOW_TOKEN_FILE": str(folder / "fleet.token"),
            "EVENFLOW_TLS_CA_FILE": str(folder / "ca.crt"),
            "EVENFLOW_TLS_CERT_FILE": str(folder / "node.crt"),
            "EVENFLOW_TLS_KEY_FILE": str(folder / "node.key"),
            "EVENFLOW_TLS_REVOKED_FILE": str(folder / "revoked"),
        }

    def start(self) -> None:
        """Start every node and wait until each serves."""
        for node_id, holder in HOLDERS.items():
            self.processes.start(
                node_id,
                **self.environment_of(holder),
                EVENFLOW_LISTEN=self.address(node_id),
                EVENFLOW_HTTP_LISTEN=f"127.0.0.1:{self.http_port}",
                EVENFLOW_GRPC_LISTEN=f"127.0.0.1:{self.grpc_port}",
            )
        for node_id in HOLDERS:
            wait_until(partial(self.processes.serving_count, node_id), READY_SECONDS, f"{node_id} serves")

    def cli(self, *arguments: str) -> str:
        """Standard output of an `evenflow` command with the operator's certificate. AssertionError: it failed."""
        done = run_cli(*arguments, env=self.environment_of("operator"))
        assert done.returncode == 0, f"evenflow {arguments}: {done.returncode}: {done.stderr}"
        return done.stdout

    def stop(self) -> None:
        """End every process."""
        self.processes.stop()


def files_of(folder: Path) -> TlsFiles:
    """The files in a holder's folder."""
    assert os.path.isdir(folder), folder
    return TlsFiles(*(str(folder / name) for name in ("ca.crt", "node.crt", "node.key", "revoked")))
