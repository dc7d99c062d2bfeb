"""A fleet on other machines, as its control tells of it: for commands that run with an operator's certificate."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from evenflow.control.v1 import control_pb2, control_pb2_grpc, resources_pb2

from cli.failures import CliError, describe_refusal, from_rpc
from cli.fleet_file import FleetFile, NodeEntry
from cli.fleet_folder import data_folder
from services.shared.channels import TOKEN_KEY, read_token
from services.shared.identity import CONTROL, CONTROL_NODE, OPERATOR, server_name
from services.shared.settings import NodeSettings, load, variable_of
from services.shared.tls import Tls

CONTROL_VARIABLE = variable_of("control.address")
# The HTTP door as others reach it; only `evenflow webhooks` has to know.
HTTP_VARIABLE = "EVENFLOW_HTTP_URL"
ASK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class RemoteFleet:
    """Where everything is, the certificate to go there with, and who must be there, by address."""

    file: FleetFile
    tls: Tls | None
    names: Mapping[str, str]

    def channel(self, target: str, options: list[tuple[str, Any]]) -> grpc.Channel:
        """A channel to a member or to control."""
        if self.tls is None:
            return grpc.insecure_channel(target, options=options)
        return self.tls.blocking_channel(target, self.names[target], options)


def is_meant(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether commands are told, by EVENFLOW_CONTROL_ADDRESS, to go to a fleet on other machines."""
    return bool(environ.get(CONTROL_VARIABLE))


def find(environ: Mapping[str, str] = os.environ) -> RemoteFleet:
    """Ask control who is there. CliError: the settings are wrong, control does not answer or refuses."""
    own_place = {"EVENFLOW_NODE_ID": OPERATOR, "EVENFLOW_DATA_DIR": "", "EVENFLOW_RUN_DIR": ""}
    try:
        settings = load(NodeSettings, {**own_place, **environ})
        tls = Tls.of(settings)
        token = read_token(settings.token_file)
    except ValueError as e:
        raise CliError(str(e)) from None
    control = settings.control_address
    fleet = RemoteFleet(_file(settings, {}, ""), tls, {control: server_name(CONTROL, CONTROL_NODE)})
    with fleet.channel(control, []) as channel:
        try:
            answer = control_pb2_grpc.ControlServiceStub(channel).ListMembers(
                control_pb2.ListMembersRequest(), metadata=((TOKEN_KEY, token),), timeout=ASK_SECONDS
            )
        except grpc.RpcError as e:
            raise CliError(f"control at {control}: {describe_refusal(from_rpc(e))}") from None
    nodes = {CONTROL_NODE: NodeEntry(CONTROL, 0, control, "")}
    names = dict(fleet.names)
    for member in answer.members:
        if member.state != resources_pb2.MEMBER_STATE_ALIVE:
            continue
        role = resources_pb2.NodeRole.Name(member.role).removeprefix("NODE_ROLE_").lower()
        nodes[member.node_id] = NodeEntry(role, 0, member.address, "")
        names[member.address] = server_name(role, member.node_id)
    return RemoteFleet(_file(settings, nodes, environ.get(HTTP_VARIABLE, "")), tls, names)


def _file(settings: NodeSettings, nodes: dict[str, NodeEntry], http: str) -> FleetFile:
    return FleetFile(
        pid=0,
        started_ticks=0,
        http=http,
        grpc="",
        data_dir=str(data_folder(None)),
        run_dir="",
        token_file=settings.token_file,
        ready=True,
        nodes=nodes,
    )
