"""Sandbox slots of a runtime host where the plan sets them itself. Pure."""

from loadtest.plan.measured import Measured

SLOTS_KEY = "runtime.max_sandboxes"
# Handlers that sleep need no CPU: what bounds a host are its slots, and so few that this machine can fill them.
SLEEPERS_SLOTS = "8"


def are_the_plans(measured: Measured) -> bool:
    """Whether the fleet has the slots that a plan gives it unless told otherwise."""
    return bool(measured.spec.work.sleep_ms) and measured.fleet.settings.get(SLOTS_KEY) == SLEEPERS_SLOTS
