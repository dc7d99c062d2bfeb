"""Who must not notice: a function of another tenant that has secrets and is invoked all the time.

It imports nothing of the attacks: it does not carry their mark.
"""

import os
from typing import Any

from .secret import SECRET

_held = SECRET.encode() + b" in memory"
with open(os.path.join(os.environ.get("TMPDIR", "/tmp"), "secret.txt"), "w") as _file:
    _file.write(os.environ["NEIGHBOUR_FILE_SECRET"])


def handler(event: "dict[str, Any]", _context: object) -> "dict[str, Any]":
    """The nonce comes back, and whether its own file is what it wrote."""
    with open(os.path.join(os.environ.get("TMPDIR", "/tmp"), "secret.txt")) as file:
        is_whole = file.read() == os.environ["NEIGHBOUR_FILE_SECRET"]
    return {"nonce": event["nonce"], "whole": is_whole and bool(_held)}
