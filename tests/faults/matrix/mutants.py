"""Services that break one promise each, for a run of the matrix that has to catch them."""

import os

from tests.faults.power_loss import mutants

VARIABLE = "EVENFLOW_TEST_MUTANT"
# The mutants whose promise a dead process, and not only a dead machine, puts to the test; and the cell that does.
CAUGHT_BY = {
    "answer-before-commit": "kill-queue-before-commit",
    "no-fencing": "freeze-poller",
    "delete-before-destination": "kill-poller-after-handover",
}


def install() -> None:
    """In a service's process: break what the environment names, if it names anything."""
    if name := os.environ.get(VARIABLE):
        mutants.apply(name)
