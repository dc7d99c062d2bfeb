"""`python -m services.queue`: one queue node."""

from services.queue.queue_node import QueueNode
from services.queue.settings import QueueSettings
from services.shared import lifecycle


async def build(settings: QueueSettings) -> QueueNode:
    """The node, made on the running loop."""
    return QueueNode(settings)


if __name__ == "__main__":
    lifecycle.main(QueueSettings, build)
