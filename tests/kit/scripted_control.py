"""A control whose answers a test scripts, behind a real socket, with a fleet file so that commands find it."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import grpc
from evenflow.control.v1 import control_pb2, control_pb2_grpc, resources_pb2
from google.protobuf import any_pb2
from google.rpc import status_pb2
from grpc_status import rpc_status

from cli.fleet_file import FleetFile, NodeEntry, started_ticks
from services.shared.channels import TOKEN_KEY
from services.shared.errors import EvenflowError, Reason

TOKEN = "t" * 40


# Any: a part of the contract only, and its stubs know no such servicers.
_Servicer: Any = control_pb2_grpc.ControlServiceServicer


class ScriptedControl(_Servicer):  # type: ignore[misc]
    """`answers`: by method, a response or a function of the request. `asked`: every request in order."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[Any] = []
        self.target = ""

    def Watch(self, _request: control_pb2.WatchRequest, _context: Any) -> Iterator[control_pb2.WatchResponse]:
        """The fleet's identity is all that commands look for."""
        fleet = resources_pb2.Fleet(fleet_id="f" * 32, account_id="123456789012", region="us-east-1")
        yield control_pb2.WatchResponse(
            in_snapshot=True, snapshot_complete=True, upserts=[resources_pb2.Resource(key="fleet", fleet=fleet)]
        )

    def __getattribute__(self, name: str) -> Any:
        if name in ("Watch", "answers", "asked", "target") or not name[:1].isupper():
            return super().__getattribute__(name)
        return self._answering(name)

    def _answering(self, name: str) -> Callable[[Any, Any], Any]:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            if (TOKEN_KEY, TOKEN) not in context.invocation_metadata():
                _refuse(context, EvenflowError(Reason.ERROR_REASON_UNAUTHENTICATED, "no token"))
            self.asked.append(request)
            scripted = self.answers.get(name)
            if scripted is None:
                _refuse(context, EvenflowError(Reason.ERROR_REASON_NOT_IMPLEMENTED, f"the test scripts no {name}"))
            return scripted(request) if callable(scripted) else scripted

        return answer


def _refuse(context: grpc.ServicerContext, error: EvenflowError) -> NoReturn:
    """As services.shared.errors.abort does, for a server of threads."""
    detail = any_pb2.Any()
    detail.Pack(error.to_detail())
    status = status_pb2.Status(code=error.kind.grpc_code.value[0], message=error.message, details=[detail])
    context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("abort_with_status returned")


@contextmanager
def scripted_control(data: Path) -> Iterator[ScriptedControl]:
    """Serves until the end; `--data` of a command is `data`."""
    control = ScriptedControl()
    server = grpc.server(ThreadPoolExecutor(2))
    control_pb2_grpc.add_ControlServiceServicer_to_server(control, server)
    control.target = target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    token_file = data / "token"
    token_file.write_text(TOKEN)
    token_file.chmod(0o600)
    pid = os.getpid()
    file = FleetFile(
        pid, started_ticks(pid), "http://127.0.0.1:1", "127.0.0.1:1", str(data), str(data), str(token_file), True,
        {"control": NodeEntry("control", pid, target, "")},
    )  # fmt: skip
    file.write(data)
    try:
        yield control
    finally:
        server.stop(None).wait()
