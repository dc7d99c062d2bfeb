"""moto's server as the AWS neighbour of a fleet: SQS, SNS, EventBridge, S3 on a port of the loopback."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.kit.processes import END_SECONDS, free_port
from tests.kit.waiting import wait_until

START_SECONDS = 30.0
REGION = "us-east-1"
ACCOUNT = "123456789012"
# What every process that calls the neighbour needs in its environment; no look for a machine's role in tests.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIAEVENFLOWTESTS000",
    "AWS_SECRET_ACCESS_KEY": "not-a-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


class AwsNeighbour:
    """One moto server in a process of its own; starting it again at the same address loses what it had."""

    def __init__(self, log: Path) -> None:
        """`log`: file for what it prints."""
        self._log = log
        self.port = free_port()
        self.endpoint_url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Serve."""
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                env={**os.environ, **CREDENTIALS, "MOTO_ACCOUNT_ID": ACCOUNT},
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, START_SECONDS, "moto's server answers")

    def stop(self) -> None:
        """End it; nothing listens there any more."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(END_SECONDS)
            self._process = None

    @property
    def is_up(self) -> bool:
        """Whether it was started, and not stopped."""
        return self._process is not None

    def client(self, service: str) -> Any:
        """An unmodified boto3 client of it."""
        import boto3

        # It ships no types.
        new_client: Any = boto3.client
        return new_client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, f"moto's server ended: see {self._log}"
        try:
            with urllib.request.urlopen(f"{self.endpoint_url}/moto-api/data.json", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False
