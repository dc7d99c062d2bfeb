"""What a sandbox needs of others: somebody to fork it, and somebody to tell."""

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from services.runtime.parents import Fork
from services.runtime.sandbox import frames

if TYPE_CHECKING:
    from services.runtime.sandboxes import Sandbox


class Source(Protocol):
    """What a sandbox's process is forked from: a prepared parent, or a template. `pid`: with it it shares memory."""

    @property
    def pid(self) -> int: ...
    def fork(
        self, sandbox_id: int, cgroups: Sequence[str], channel: socket.socket, output_fd: int, fork: Fork
    ) -> None: ...
    def signal(self, sandbox_id: int, signum: int) -> None: ...


class Owner(Protocol):
    """Who is told what a sandbox does."""

    def on_ready(self, sandbox: "Sandbox", ready: frames.Ready) -> None:
        """The handler is loaded."""

    def on_start_failed(self, sandbox: "Sandbox", kind: int, failure: frames.Failure) -> None:
        """The handler cannot be loaded (INIT_ERROR), or the sandbox cannot be made (FAULT, a blank one, too)."""

    def on_result(self, sandbox: "Sandbox", result: frames.Result) -> None:
        """The run under way ended."""

    def on_output(self, sandbox: "Sandbox", data: bytes) -> None:
        """The sandbox wrote to stdout or stderr."""

    def on_ending(self, sandbox: "Sandbox") -> None:
        """It was told to end, or ends by itself; once, before on_gone."""

    def on_gone(self, sandbox: "Sandbox", status: int) -> None:
        """Its process and all it started are dead; `status` as wait(2) gives it, -1 when it is not known."""
