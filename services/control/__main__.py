"""Runs the fleet's control: `python -m services.control`."""

from services.control.control import Control
from services.control.settings import ControlSettings
from services.shared import lifecycle


async def build(settings: ControlSettings) -> Control:
    """The process, made on the running loop, not started."""
    return Control(settings)


if __name__ == "__main__":
    lifecycle.main(ControlSettings, build)
