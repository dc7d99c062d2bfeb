"""`python -m tests.attacks` (`make attacks`): every attack in every column; writes docs/isolation.md and .json."""

import argparse
import shlex
import sys
import time

from tests.attacks import columns, report
from tests.attacks.attacks import BY_NUMBER
from tests.attacks.run import run
from tests.attacks.verdicts import controls_missed, surprises

EXIT_SURPRISED = 1


def main(arguments: list[str]) -> int:
    """Exit code: 0; 1 when something got through that should not, or a control showed nothing."""
    parser = argparse.ArgumentParser(prog="make attacks", description=__doc__)
    parser.add_argument("--columns", default="", help=f"of {', '.join(columns.BY_NAME)}; separated by commas")
    parser.add_argument("--attacks", default="", help="numbers, separated by commas; 0: the hostile handlers")
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    given = parser.parse_args(arguments)
    names = given.columns.split(",") if given.columns else list(columns.BY_NAME)
    numbers = [int(text) for text in given.attacks.split(",")] if given.attacks else list(BY_NUMBER)
    if unknown := (set(names) - set(columns.BY_NAME)) or (set(numbers) - set(BY_NUMBER)):
        parser.error(f"unknown: {sorted(map(str, unknown))}")
    runs = {}
    for name in names:
        began = time.monotonic()
        runs[name] = run(columns.BY_NAME[name], numbers)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    command = f"make attacks ARGS='{shlex.join(arguments)}'" if arguments else "make attacks"
    found = report.facts(runs, command)
    print(report.table(found))
    if not given.dry and set(names) == set(columns.BY_NAME) and set(numbers) == set(BY_NUMBER):
        report.save(found)
    wrong = []
    for name, one in runs.items():
        for number, row in one.get("attacks", {}).items():
            attack, column = BY_NUMBER[int(number)], columns.BY_NAME[name]
            wrong += [f"got through: {text}" for text in surprises(attack, column, row)]
            wrong += [f"control: {text}" for text in controls_missed(attack, column, row)]
    print(*wrong, sep="\n")
    return EXIT_SURPRISED if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
