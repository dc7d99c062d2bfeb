"""Another program, run while the module loads: with SnapStart that is in a template, which has more than its forks."""

import importlib
import json
import os
from typing import Any

from .lib import Event

_wanted = json.loads(os.environ.get("ATTACK", "null"))
_found: "dict[str, Any]" = {}
if _wanted is not None:
    _program = importlib.import_module(f"{__package__}.{_wanted['program']}")
    _found = _program.handler(_wanted["event"], None)


def handler(event: Event, _context: object) -> "dict[str, Any]":
    """What was found at load, and, if the event says so, what this process finds itself."""
    if event.get("program"):
        program = importlib.import_module(f"{__package__}.{event['program']}")
        again: dict[str, Any] = program.handler(event, None)
        return again
    return _found
