"""What a Dockerfile's targets run: their entry points, commands, environment and user. Building is not done."""

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

_FROM = re.compile(r"FROM\s+(\S+)\s+AS\s+(\S+)", re.I)
_PAIR = re.compile(r'(\w+)=("[^"]*"|\S+)')


@dataclass(frozen=True, slots=True)
class Image:
    """One target, with what it has from those that it is made from."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0:0"


def read_targets(path: Path) -> dict[str, Image]:
    """Every named target. ValueError: an instruction is in a form that this reader does not know."""
    images: dict[str, Image] = {}
    name = ""
    for line in _logical_lines(path.read_text()):
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if word == "FROM":
            found = _FROM.fullmatch(line)
            if found is None:
                raise ValueError(f"{path}: {line!r} has no name")
            base, name = found.groups()
            images[name] = replace(images.get(base, Image()))
        elif name:
            images[name] = _apply(images[name], word, rest)
    return images


def _apply(image: Image, word: str, rest: str) -> Image:
    match word:
        case "ENTRYPOINT":
            # As Docker does it: a new entry point leaves no command of the image below.
            return replace(image, entrypoint=_exec_form(rest), command=())
        case "CMD":
            return replace(image, command=_exec_form(rest))
        case "ENV":
            environment = dict(image.environment)
            for key, value in _PAIR.findall(rest):
                environment[key] = re.sub(
                    r"\$\{?(\w+)\}?", lambda m: environment.get(m[1], _OF_BASE.get(m[1], "")), value.strip('"')
                )
            return replace(image, environment=environment)
        case "WORKDIR":
            return replace(image, workdir=rest)
        case "USER":
            return replace(image, user=rest)
    return image


def _exec_form(text: str) -> tuple[str, ...]:
    words = json.loads(text)
    if not isinstance(words, list):
        raise ValueError(f'{text!r}: the form ["program", "argument"] is expected')
    return tuple(words)


def _logical_lines(text: str) -> list[str]:
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [line.strip() for line in kept.replace("\\\n", " ").splitlines() if line.strip()]


_OF_BASE = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"}
