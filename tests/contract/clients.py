"""Callers of today and of before: an old one knows only the messages of the contract as it was then.

Old contracts are images that `buf build` wrote: `baseline` is the one that `buf breaking` compares with,
`before_lambda_api` an earlier one of this repository. What an old client does not know is dropped both ways: it would
not write it, nor look at it.
"""

from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
from evenflow.control.v1 import control_pb2
from evenflow.frontend.v1 import frontend_pb2
from evenflow.poller.v1 import poller_pb2
from evenflow.queue.v1 import queue_pb2
from evenflow.runtime.v1 import runtime_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

ROOT = Path(__file__).parents[2]
IMAGES = {
    "baseline": ROOT / "protos" / "baseline.binpb",
    "before_lambda_api": Path(__file__).parent / "data" / "before_lambda_api.binpb",
}
TODAY = "today"
CLIENTS = (TODAY, *IMAGES)
MODULES: dict[str, ModuleType] = {
    "ControlService": control_pb2,
    "FrontendService": frontend_pb2,
    "PollerService": poller_pb2,
    "QueueService": queue_pb2,
    "RuntimeService": runtime_pb2,
}
# A field of a version to come, as bytes: number 8,191, length 5.
UNKNOWN_FIELD = b"\xfa\xff\x03\x05hello"


def image(name: str) -> descriptor_pb2.FileDescriptorSet:
    """An old contract."""
    return descriptor_pb2.FileDescriptorSet.FromString(IMAGES[name].read_bytes())


@cache
def pool_of(name: str) -> descriptor_pool.DescriptorPool:
    """The messages of an old contract, apart from those of today."""
    pool = descriptor_pool.DescriptorPool()
    missing = {file.name: file for file in image(name).file}
    while missing:
        for file in list(missing.values()):
            if not missing.keys() & set(file.dependency):
                pool.Add(_with_what_it_needs(pool, missing.pop(file.name)))
    return pool


def _with_what_it_needs(
    pool: descriptor_pool.DescriptorPool, file: descriptor_pb2.FileDescriptorProto
) -> descriptor_pb2.FileDescriptorProto:
    for name in file.dependency:
        try:
            pool.FindFileByName(name)
        except KeyError:
            # Google's own, which an image may leave out.
            standard = descriptor_pb2.FileDescriptorProto()
            descriptor_pool.Default().FindFileByName(name).CopyToProto(standard)
            pool.Add(standard)
    return file


def old_class(client: str, full_name: str) -> type[Message] | None:
    """The class of a message as the client knows it; None: it does not."""
    try:
        return message_factory.GetMessageClass(pool_of(client).FindMessageTypeByName(full_name))
    except KeyError:
        return None


def through(client: str, message: Message) -> bytes:
    """The message as this client would write or keep it. KeyError: it does not know such a message."""
    data = message.SerializeToString()
    if client == TODAY:
        return data
    known = old_class(client, message.DESCRIPTOR.full_name)
    if known is None:
        raise KeyError(message.DESCRIPTOR.full_name)
    old = known.FromString(data)
    old.DiscardUnknownFields()
    return old.SerializeToString()


def call_of(channel: grpc.aio.Channel, service: str, method: str, client: str = TODAY) -> Any:
    """One method of a service, called as this client calls it."""
    descriptor = MODULES[service].DESCRIPTOR.services_by_name[service].methods_by_name[method]
    answer_class: Any = message_factory.GetMessageClass(descriptor.output_type)
    shape = (
        f"{'stream' if descriptor.client_streaming else 'unary'}_{'stream' if descriptor.server_streaming else 'unary'}"
    )
    return getattr(channel, shape)(
        f"/{descriptor.containing_service.full_name}/{method}",
        request_serializer=lambda message: message if isinstance(message, bytes) else through(client, message),
        response_deserializer=lambda data: answer_class.FromString(through(client, answer_class.FromString(data))),
    )


class Stub:
    """All methods of a service, as this client calls them; bytes are sent as they are."""

    def __init__(self, channel: grpc.aio.Channel, service: str, client: str = TODAY) -> None:
        for method in MODULES[service].DESCRIPTOR.services_by_name[service].methods_by_name:
            setattr(self, method, call_of(channel, service, method, client))

    def __getattr__(self, name: str) -> Any:
        # For the type checker: every method was set.
        raise AttributeError(name)
