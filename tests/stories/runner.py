"""Runs stories: text files of prose, commands and what a shard answers to them.

A story is paragraphs. Lines that begin with `#` are prose. A command is one line, then `----`, then what it prints up
to the next empty line. REWRITE=1 writes what is printed into the files: read the difference before it is committed.
"""

import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

RULE = "----"
_RANGE = re.compile(r"^(?P<name>.*?)(?P<first>\d+)\.\.(?P<last>\d+)$")
_SPAN = re.compile(r"^(?P<sign>[+-]?)(?P<number>\d+)(?P<unit>ms|s|m|h)$")
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}


class StoryError(Exception):
    """A story that cannot be run; the message says where and why."""


@dataclass(frozen=True)
class Command:
    """One command: its name, the words after it, and the words of the form name=value."""

    line: int
    name: str
    words: list[str]
    options: dict[str, str]

    def text(self, option: str, default: str) -> str:
        """An option as it stands."""
        return self.options.get(option, default)

    def number(self, option: str, default: int) -> int:
        """An option that is a number. StoryError."""
        found = self.options.get(option, str(default))
        if not found.isdecimal():
            raise StoryError(f"line {self.line}: {option}={found} is no number")
        return int(found)

    def span_ms(self, option: str, default: str) -> int:
        """An option that is a length of time, such as 90s. StoryError."""
        return span_ms(self.options.get(option, default), self.line)


def span_ms(text: str, line: int) -> int:
    """Milliseconds of `5ms`, `1s`, `2m`, `1h`, with a sign or without. StoryError."""
    found = _SPAN.match(text)
    if found is None:
        raise StoryError(f"line {line}: {text!r} is no time; write 90s, 2m or 1h")
    length_ms = int(found["number"]) * _UNIT_MS[found["unit"]]
    return -length_ms if found["sign"] == "-" else length_ms


def expanded(words: list[str]) -> list[str]:
    """Names, with `loud-1..3` for loud-1, loud-2, loud-3."""
    names: list[str] = []
    for word in words:
        found = _RANGE.match(word)
        if found is None:
            names.append(word)
        else:
            names += [f"{found['name']}{n}" for n in range(int(found["first"]), int(found["last"]) + 1)]
    return names


def listed(names: list[str]) -> str:
    """The opposite of `expanded`, for three neighbours or more."""
    runs: list[tuple[str, int, int]] = []
    for name in names:
        stem = name.rstrip("0123456789")
        number = int(name[len(stem) :] or -1)
        if runs and number >= 0 and runs[-1][0] == stem and runs[-1][2] == number - 1:
            runs[-1] = (stem, runs[-1][1], number)
        else:
            runs.append((stem, number, number))
    words: list[str] = []
    for stem, first, last in runs:
        if last - first >= 2:
            words.append(f"{stem}{first}..{last}")
        else:
            words += [stem if n < 0 else f"{stem}{n}" for n in range(first, last + 1)]
    return ", ".join(words)


def parsed(line: str, number: int) -> Command:
    """The command of a line. StoryError."""
    try:
        words = shlex.split(line)
    except ValueError as e:
        raise StoryError(f"line {number}: {e}") from e
    options = dict(word.split("=", 1) for word in words[1:] if "=" in word)
    return Command(number, words[0], expanded([word for word in words[1:] if "=" not in word]), options)


def replayed(story: str, run: Callable[[Command], list[str]]) -> str:
    """The story with what its commands print now. StoryError."""
    lines: list[str] = []
    waiting = iter(enumerate(story.splitlines(), 1))
    for number, line in waiting:
        if line.strip() or (lines and lines[-1]):
            lines.append(line)
        if not line.strip() or line.startswith("#"):
            continue
        _skip_answer(line, number, waiting)
        lines += [RULE, *run(parsed(line, number)), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def check(path: Path, run: Callable[[Command], list[str]]) -> None:
    """Run a story. AssertionError: it prints something else, and REWRITE is not set."""
    told = path.read_text()
    found = replayed(told, run)
    if os.environ.get("REWRITE") == "1":
        if found != told:
            path.write_text(found)
        return
    assert found.splitlines() == told.splitlines(), f"{path.name} prints something else; REWRITE=1 writes it"


def _skip_answer(line: str, number: int, waiting: Iterator[tuple[int, str]]) -> None:
    _, rule = next(waiting, (0, ""))
    if rule != RULE:
        raise StoryError(f"line {number}: after {line!r} comes {RULE}, then what it prints")
    for _, answer in waiting:
        if not answer.strip():
            return
