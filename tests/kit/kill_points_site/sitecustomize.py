"""Python imports this at the start of every process that has this folder on PYTHONPATH."""

import os

if os.environ.get("EVENFLOW_TEST_KILL_POINTS"):
    from tests.kit import kill_points

    kill_points.install()
