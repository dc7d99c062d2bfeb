"""Runs one host of sandboxes: `python -m services.runtime`."""

from evenflow.control.v1 import resources_pb2

from services.runtime.host import SERVICE_NAME, RuntimeService
from services.runtime.settings import RuntimeSettings
from services.shared import lifecycle
from services.shared.node import Node


async def build(settings: RuntimeSettings) -> RuntimeService:
    """The service, not started."""
    node = Node(settings, resources_pb2.NODE_ROLE_RUNTIME, [SERVICE_NAME], slots=settings.max_sandboxes)
    return RuntimeService(settings, node)


if __name__ == "__main__":
    lifecycle.main(RuntimeSettings, build)
