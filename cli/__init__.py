"""The `evenflow` command."""

import sys
from types import TracebackType

_other_errors = sys.excepthook


def _say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr, flush=True)
    else:
        _other_errors(kind, error, trace)


# Here, since a command's imports take a second, in which Ctrl-C is no error to be traced.
sys.excepthook = _say
