"""How commands print: tables for people, JSON for programs, times and sizes in plain words."""

import json
import re
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Output that is no terminal must not be folded at 80 columns: a script reads it.
PIPE_WIDTH = 200
# Narrower terminals fold by themselves: an id cut by us could not be copied.
LEAST_WIDTH = 100
# Control characters but tab and newline, and marks that change the order in which a line is shown.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def console() -> Console:
    """Where a command's answer goes."""
    width = max(shutil.get_terminal_size().columns, LEAST_WIDTH) if sys.stdout.isatty() else PIPE_WIDTH
    return Console(highlight=False, soft_wrap=False, width=width)


def harmless(text: str) -> str:
    """What somebody else's code wrote, for a terminal: control characters are shown, not obeyed. Pure."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n"))


def for_stream(text: str, stream: TextIO) -> str:
    """The text as it is for a file or a pipe, harmless for a terminal."""
    return harmless(text) if stream.isatty() else text


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False), flush=True)


def print_line(text: str) -> None:
    """One line, at once."""
    print(text, flush=True)


def table(*columns: str, right: Sequence[str] = (), fold: Sequence[str] = ()) -> Table:
    """An empty table without frames; columns in `right` hold numbers, only those in `fold` may take several lines."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(
            column, justify="right" if column in right else "left", overflow="fold", no_wrap=column not in fold
        )
    return made


def state_text(state: str) -> Text:
    """A state in its colour."""
    colours = {"succeeded": "green", "serving": "green", "dead": "red", "failed": "red", "quarantined": "red"}
    return Text(state, style=colours.get(state, "yellow" if state in ("delayed", "handover", "draining") else ""))


def clock_time(at_ms: int) -> str:
    """Local time of a moment since the Unix epoch; a dash for none."""
    if not at_ms:
        return "-"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1_000)) + f".{at_ms % 1_000:03d}"


def span_of_ms(milliseconds: float) -> str:
    """A length of time with three digits or so."""
    if milliseconds < 1:
        return f"{milliseconds * 1_000:.0f} us"
    if milliseconds < 1_000:
        return f"{milliseconds:.1f} ms" if milliseconds < 100 else f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1_000
    if seconds < 100:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def size_of(count: float) -> str:
    """Bytes in KiB, MiB, GiB."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1_024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1_024
    return f"{count:.1f} GiB"
