"""`python -m services.poller`: one poller."""

from services.poller.poller import Poller
from services.poller.settings import PollerSettings
from services.shared import lifecycle


async def build(settings: PollerSettings) -> Poller:
    """The poller, made on the running loop."""
    return Poller(settings)


if __name__ == "__main__":
    lifecycle.main(PollerSettings, build)
