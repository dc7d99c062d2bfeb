"""Attack 12: leave /tmp and the buckets by links and dots, and meddle with packages that are being extracted."""

import contextlib
import os
from typing import Any

from .lib import Event, Tries, canaries_of, run


def _tmp() -> str:
    return os.environ.get("TMPDIR", "/tmp")


def _buckets(event: Event) -> "dict[str, str]":
    """Where the granted buckets are: as the sandbox is told, or as a control knows."""
    names = {"shared": "EVENFLOW_BUCKET_SHARED", "reading": "EVENFLOW_BUCKET_READING"}
    return {name: os.environ.get(variable, event["buckets"][name]) for name, variable in names.items()}


def _through(event: Event, tries: Tries, folder: str) -> None:
    for what, path in event["paths"].items():
        link = os.path.join(folder, f"ef-attack-{what.replace(' ', '-')}")

        def attempt(path: str = path, link: str = link) -> str:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(link)
            os.symlink(path, link)
            return canaries_of(link)

        tries.take(what, attempt)


def symbolic(event: Event, tries: Tries) -> None:
    """A symbolic link in /tmp to somebody else's file."""
    _through(event, tries, _tmp())


def symbolic_in_bucket(event: Event, tries: Tries) -> None:
    """The same in a bucket that may be written."""
    _through(event, tries, _buckets(event)["shared"])


def hard(event: Event, tries: Tries) -> None:
    """A hard link to it, and one from a bucket."""
    for what, path in event["paths"].items():
        for folder in (_tmp(), _buckets(event)["shared"]):
            link = os.path.join(folder, "ef-attack-hard")

            def attempt(path: str = path, link: str = link) -> bool:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(link)
                os.link(path, link)
                return True

            tries.take(what, attempt)


def dots(event: Event, tries: Tries) -> None:
    """Up and out of a bucket and of /tmp, by names and by descriptors."""
    starts = [_tmp(), *_buckets(event).values()]
    for start in starts:
        for name in (*event["beside_buckets"], *(path.lstrip("/") for path in event["paths"].values())):
            for up in ("..", "../..", "../../..", "../../../../../../.."):
                way = os.path.join(start, up, name)
                tries.take(way, canaries_of, way)

                def by_descriptor(start: str = start, up: str = up, name: str = name) -> str:
                    folder = os.open(start, os.O_PATH)
                    try:
                        fd = os.open(f"{up}/{name}", os.O_RDONLY, dir_fd=folder)
                        return canaries_of(f"/proc/self/fd/{fd}")
                    finally:
                        os.close(folder)

                tries.take(way, by_descriptor)


def read_only_bucket(event: Event, tries: Tries) -> None:
    """Write to a bucket that was granted for reading."""
    folder = _buckets(event)["reading"]

    def create() -> bool:
        with open(os.path.join(folder, "ef-attack"), "w") as file:
            file.write("x")
        return True

    def remove() -> bool:
        os.rename(os.path.join(folder, "kept"), os.path.join(folder, "moved"))
        os.rename(os.path.join(folder, "moved"), os.path.join(folder, "kept"))
        return True

    tries.take("a new file", create)
    tries.take("a renamed file", remove)


def packages(event: Event, tries: Tries) -> None:
    """Put a link where the host extracts, and swap what it has extracted."""
    folder = event["packages"]

    def plant() -> bool:
        os.symlink(_tmp(), os.path.join(folder, "0" * 64 + ".new"))
        os.unlink(os.path.join(folder, "0" * 64 + ".new"))
        return True

    def swap() -> bool:
        name = next(iter(os.listdir(folder)))
        os.rename(os.path.join(folder, name), os.path.join(folder, name + ".old"))
        os.rename(os.path.join(folder, name + ".old"), os.path.join(folder, name))
        return True

    tries.take("planted", plant)
    tries.take("swapped", swap)


def handler(event: Event, _context: object) -> "dict[str, Any]":
    """Follows every way out."""
    return run(
        {
            "symbolic link": symbolic,
            "symbolic link in a bucket": symbolic_in_bucket,
            "hard link": hard,
            "dots": dots,
            "bucket granted for reading": read_only_bucket,
            "packages under extraction": packages,
        },
        event,
    )
