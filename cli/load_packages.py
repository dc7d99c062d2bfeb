"""The packages of requirements/load.txt, which every command that loads `loadtest` needs."""

from collections.abc import Iterator
from contextlib import contextmanager

from cli.failures import CliError

MISSING_PACKAGES = "this needs requirements/load.txt: run tools/setup.sh load"
_OURS = ("cli", "loadtest", "services", "evenflow")


@contextmanager
def needs_load() -> Iterator[None]:
    """Around the imports. CliError: what loadtest needs is not installed."""
    try:
        yield
    except ModuleNotFoundError as e:
        if e.name is not None and e.name.partition(".")[0] in _OURS:
            raise
        raise CliError(MISSING_PACKAGES) from None
