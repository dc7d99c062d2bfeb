"""Attack 9: talk to the fleet: its gRPC sockets without the token, its metrics, its doors, abstract sockets."""

import os
import socket
from typing import Any

from .grpc_call import call
from .lib import Event, Tries, canaries_in, run

SECONDS = 2.0
METHODS = (
    "/evenflow.runtime.v1.RuntimeService/DescribeHost",
    "/evenflow.control.v1.ControlService/Watch",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)


def _connect(address: "str | bytes | tuple[str, int]") -> socket.socket:
    family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.settimeout(SECONDS)
    connection.connect(address)
    return connection


def _sockets(event: Event) -> "list[str]":
    """Those that the harness names and those that can be seen."""
    found = list(event["sockets"])
    for folder in event["folders"]:
        try:
            found += [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".sock")]
        except OSError:
            continue
    return list(dict.fromkeys(found))


def grpc(event: Event, tries: Tries) -> None:
    """An answer with content to a call without the token; a control has it."""
    metadata = {"evenflow-fleet-token": event["token"]} if event.get("token") else {}

    def attempt(path: str, method: str) -> object:
        with _connect(path) as connection:
            return len(call(connection, method, metadata))

    for path in _sockets(event):
        for method in METHODS:
            name = os.path.basename(path)
            tries.take(f"{name} {method}", attempt, path, method)


def metrics(event: Event, tries: Tries) -> None:
    """The numbers of the host, which name every tenant's functions, without the token; a control has it."""
    header = f"evenflow-fleet-token: {event['token']}\r\n" if event.get("token") else ""

    def attempt(path: str) -> object:
        with _connect(path) as connection:
            connection.sendall(f"GET /metrics HTTP/1.0\r\n{header}\r\n".encode())
            answer = b""
            while part := connection.recv(65_536):
                answer += part
            return answer.count(b"evenflow_")

    for path in _sockets(event):
        if "metrics" in path:
            tries.take(os.path.basename(path), attempt, path)


def _says(address: "str | bytes | tuple[str, int]") -> str:
    with _connect(address) as connection:
        return canaries_in(connection.recv(4_096))


def named_socket(event: Event, tries: Tries) -> None:
    """A socket in the fleet's private folder that asks for nothing."""
    tries.take("socket", _says, event["open_socket"])


def abstract_socket(event: Event, tries: Tries) -> None:
    """A socket without a path that asks for nothing."""
    tries.take("socket", _says, b"\0" + event["abstract_socket"].encode())


def tcp_door(event: Event, tries: Tries) -> None:
    """A door on 127.0.0.1."""
    tries.take("door", _says, ("127.0.0.1", event["ports"]["v4"]))


def handler(event: Event, _context: object) -> "dict[str, Any]":
    """Knocks everywhere."""
    return run(
        {
            "gRPC without the token": grpc,
            "metrics": metrics,
            "path socket": named_socket,
            "abstract socket": abstract_socket,
            "TCP door": tcp_door,
        },
        event,
    )
