"""Checks of tables in evenflow.toml: which keys there may be, and of which kind; every refusal names the key."""

import difflib
from collections.abc import Mapping
from typing import Any

from cli.failures import CliError

Kind = type | tuple[type, ...]
Keys = Mapping[str, Kind]
_KIND_NAMES: Mapping[Kind, str] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    dict: "a table",
    list: "a list",
    (int, float): "a number",
    (str, dict): "a text or a table",
}


def check_table(entry: Any, where: str) -> None:
    """Pass for a table. CliError."""
    if not isinstance(entry, dict):
        raise CliError(f"{where}: a table is expected")


def check_keys(table: Mapping[str, Any], known: Keys, where: str) -> None:
    """Pass when every key is known and its value of the kind. CliError, with the nearest key that is known."""
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
            raise CliError(f"{where}: unknown key {key!r}{hint}")
        kind = known[key]
        # True is a whole number to Python, but not to who writes it.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise CliError(f"{where}: {key} must be {_KIND_NAMES[kind]}")
