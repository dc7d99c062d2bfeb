"""`evenflow version`."""

import platform
from importlib import metadata

import apsw

from cli.commands.options import JsonOption
from cli.output import print_json, print_line


def versions() -> dict[str, str]:
    """This installation's versions by name."""
    return {
        "evenflow": metadata.version("evenflow"),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "grpcio": metadata.version("grpcio"),
        "protobuf": metadata.version("protobuf"),
    }


def version(as_json: JsonOption = False) -> None:
    """Print the versions of Evenflow and its parts."""
    found = versions()
    if as_json:
        print_json(found)
        return
    rest = ", ".join(f"{name} {number}" for name, number in found.items() if name != "evenflow")
    print_line(f"evenflow {found['evenflow']} ({rest})")
