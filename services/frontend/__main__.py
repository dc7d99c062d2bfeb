"""Runs one frontend: `python -m services.frontend`."""

from evenflow.control.v1 import resources_pb2

from services.frontend.frontend import SERVICE_NAME, Frontend
from services.frontend.settings import FrontendSettings
from services.shared import lifecycle
from services.shared.node import Node


async def build(settings: FrontendSettings) -> Frontend:
    """The service, not started."""
    return Frontend(settings, Node(settings, resources_pb2.NODE_ROLE_FRONTEND, [SERVICE_NAME]))


if __name__ == "__main__":
    lifecycle.main(FrontendSettings, build)
