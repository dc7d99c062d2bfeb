"""Every RPC of every contract, called with a request that names another tenant's things."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from evenflow.control.v1 import control_pb2
from evenflow.frontend.v1 import frontend_pb2
from evenflow.poller.v1 import poller_pb2
from evenflow.queue.v1 import queue_pb2
from evenflow.runtime.v1 import runtime_pb2
from google.protobuf import message_factory

CALL_SECONDS = 5.0
MAX_ANSWERS = 4
MAX_DEPTH = 3
CONTRACTS = (frontend_pb2, control_pb2, queue_pb2, poller_pb2, runtime_pb2)


@dataclass
class Answer:
    """What one call came to: the serialized answers, or how it was refused."""

    method: str
    parts: list[bytes]
    code: grpc.StatusCode | None = None
    details: str = ""


def methods() -> Iterator[Any]:
    """The descriptors of all RPCs."""
    for contract in CONTRACTS:
        for service in contract.DESCRIPTOR.services_by_name.values():
            yield from service.methods


def call(channel: grpc.Channel, method: Any, values: Mapping[str, Any], metadata: Any) -> Answer:
    """Call it, whatever its shape is, and read a few answers."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    plain = {"request_serializer": lambda one: one.SerializeToString(), "response_deserializer": lambda raw: raw}
    stub = getattr(channel, kind)(path, **plain)
    request = _filled(method.input_type, values, 0)
    answer = Answer(path, [])
    try:
        came = stub(iter([request]) if method.client_streaming else request, timeout=CALL_SECONDS, metadata=metadata)
        for part in came if method.server_streaming else (came,):
            answer.parts.append(part)
            if len(answer.parts) >= MAX_ANSWERS:
                break
    except grpc.RpcError as e:
        refused: Any = e
        answer.code, answer.details = refused.code(), refused.details() or ""
    return answer


def _filled(descriptor: Any, values: Mapping[str, Any], depth: int) -> Any:
    """A message whose fields with a value have it, messages within it too, one of each repeated one."""
    made = message_factory.GetMessageClass(descriptor)()
    for one in descriptor.fields:
        is_map = one.message_type is not None and one.message_type.GetOptions().map_entry
        if one.message_type is not None and not is_map:
            inner = _filled(one.message_type, values, depth + 1) if depth < MAX_DEPTH else None
            if inner is None or not inner.ByteSize():
                continue
            if one.is_repeated:
                getattr(made, one.name).append(inner)
            elif one.containing_oneof is None or made.WhichOneof(one.containing_oneof.name) is None:
                getattr(made, one.name).CopyFrom(inner)
        elif one.name in values and not one.is_repeated:
            setattr(made, one.name, values[one.name])
    return made
