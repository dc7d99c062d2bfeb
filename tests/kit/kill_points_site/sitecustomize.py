"""Python imports this at the start of every process that has this folder on PYTHONPATH: what tests do to services."""

import os

if os.environ.get("EVENFLOW_TEST_KILL_POINTS"):
    from tests.kit import kill_points

    kill_points.install()
if os.environ.get("EVENFLOW_TEST_WALL_SHIFT"):
    from tests.faults.matrix import wall_clock

    wall_clock.install()
if os.environ.get("EVENFLOW_TEST_MUTANT"):
    from tests.faults.matrix import mutants

    mutants.install()
