"""`python -m loadtest.open_loop SPEC.json RESULT.json`: one run, whose result is written there as JSON."""

import json
import sys
import tempfile
from pathlib import Path

import uvloop

from loadtest.open_loop import result, spec
from loadtest.open_loop.drivers import DriverFailed
from loadtest.open_loop.run import run
from loadtest.workloads.record_reader import TooManyFiles

EXIT_FAILED, EXIT_USAGE, EXIT_VOID, EXIT_INTERRUPTED = 1, 2, 3, 130


def main(arguments: list[str]) -> int:
    """0: it ran and counts; 3: it ran and is void; 1, 2: it did not run."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return EXIT_USAGE
    try:
        told = spec.from_json(json.loads(Path(arguments[0]).read_text()))
    except (OSError, KeyError, TypeError, ValueError) as e:
        print(f"error: {arguments[0]} is no LoadSpec: {type(e).__name__} {e}", file=sys.stderr)
        return EXIT_USAGE
    try:
        with tempfile.TemporaryDirectory(prefix="evenflow-load-") as folder:
            found = uvloop.run(run(told, Path(folder)))
    except (DriverFailed, TooManyFiles, ValueError) as e:
        print(f"error: {e}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    Path(arguments[1]).write_text(json.dumps(result.as_json(found), indent=2) + "\n")
    for reason in found.void:
        print(f"void: {reason}", file=sys.stderr)
    return EXIT_VOID if found.void else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
