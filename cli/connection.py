"""The other end of every command: the running fleet's services over their contracts."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import grpc
from evenflow.control.v1 import control_pb2, control_pb2_grpc, resources_pb2
from evenflow.frontend.v1 import frontend_pb2_grpc
from evenflow.queue.v1 import queue_pb2_grpc
from evenflow.runtime.v1 import runtime_pb2_grpc

from cli import fleet_file, remote_fleet
from cli.failures import CliError
from cli.fleet_folder import data_folder
from services.shared import ids
from services.shared.channels import MAX_MESSAGE_BYTES, TOKEN_KEY, read_token

TENANT = "default"
CALL_SECONDS = 10.0
CLI_NODE_ID = "cli"
T = TypeVar("T")
_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
]


class FleetConnection:
    """Channels to the services of the fleet on a data directory, or of one on other machines; a context manager."""

    def __init__(self, data: Path | None) -> None:
        """No folder given and EVENFLOW_CONTROL_ADDRESS set: the fleet of that control. CliError: none runs there."""
        self._remote = remote_fleet.find() if data is None and remote_fleet.is_meant() else None
        self.file = self._remote.file if self._remote is not None else fleet_file.running(data_folder(data))
        self.data = Path(self.file.data_dir)
        try:
            token = self.token = read_token(self.file.token_file)
        except ValueError as e:
            raise CliError(str(e)) from None
        self._metadata = ((TOKEN_KEY, token),)
        self._channels: dict[str, grpc.Channel] = {}

    def __enter__(self) -> "FleetConnection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in self._channels.values():
            channel.close()

    def ask(self, method: Callable[..., T], request: Any, timeout_seconds: float | None = CALL_SECONDS) -> T:
        """Make one call with the fleet's token; None waits for as long as the stream lasts."""
        return method(request, metadata=self._metadata, timeout=timeout_seconds)

    @property
    def control(self) -> Any:
        """ControlService."""
        return control_pb2_grpc.ControlServiceStub(self._channel(self._only("control")))

    @property
    def door(self) -> Any:
        """FrontendService, behind the first frontend's inner socket."""
        return frontend_pb2_grpc.FrontendServiceStub(self._channel(self._only("frontend")))

    def queue_nodes(self) -> Mapping[str, Any]:
        """QueueService of every queue node by its id."""
        return {
            node_id: queue_pb2_grpc.QueueServiceStub(self._channel(node.target))
            for node_id, node in self.file.of_role("queue").items()
        }

    def hosts(self) -> Mapping[str, Any]:
        """RuntimeService of every host by its id."""
        return {
            node_id: runtime_pb2_grpc.RuntimeServiceStub(self._channel(node.target))
            for node_id, node in self.file.of_role("runtime").items()
        }

    def resources(self) -> Iterator[resources_pb2.Resource]:
        """What control's Watch tells at first: the configuration as it is now."""
        call = self.ask(self.control.Watch, control_pb2.WatchRequest(node_id=CLI_NODE_ID))
        try:
            for message in call:
                yield from message.upserts
                if message.snapshot_complete:
                    return
        finally:
            call.cancel()

    def fleet_identity(self) -> resources_pb2.Fleet:
        """Account and region of this fleet."""
        for resource in self.resources():
            if resource.HasField("fleet"):
                return resource.fleet
        raise CliError("control does not tell the fleet's identity")

    def queue_of_shard(self, shard_id: int) -> Any:
        """QueueService of the node that owns the shard."""
        nodes = self.queue_nodes()
        for resource in self.resources():
            if resource.HasField("shard_map"):
                owners = resource.shard_map.owner_node_ids
                if shard_id >= len(owners):
                    raise CliError(f"shard {shard_id} is not in this fleet, which has {len(owners)}")
                if owners[shard_id] in nodes:
                    return nodes[owners[shard_id]]
        raise CliError(f"the owner of shard {shard_id} is not known")

    def _only(self, role: str) -> str:
        for node in self.file.of_role(role).values():
            return node.target
        raise CliError(f"this fleet has no {role}")

    def _channel(self, target: str) -> grpc.Channel:
        channel = self._channels.get(target)
        if channel is None:
            channel = self._channels[target] = (
                self._remote.channel(target, _OPTIONS)
                if self._remote is not None
                else grpc.insecure_channel(target, options=_OPTIONS)
            )
        return channel


def parse_request_id(text: str) -> bytes:
    """A request id as printed. CliError: it is none."""
    try:
        return ids.from_text(text)
    except ValueError:
        raise CliError(
            f"{text!r} is no request id: a UUID as `evenflow invoke --async` prints it is expected"
        ) from None
