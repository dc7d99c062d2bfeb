"""The functions that the bench deploys, as a folder that `evenflow deploy` takes."""

import shutil
from pathlib import Path

from loadtest.bench import ticks

NOOP = "noop"
BUCKET = "bench-ticks"
_BUCKET_VARIABLE = "EVENFLOW_BUCKET_BENCH_TICKS"

_NOOP_SOURCE = f"""import os
os.environ["{ticks.FOLDER_VARIABLE}"] = os.environ["{_BUCKET_VARIABLE}"]
import ticks
def handler(event, context):
    ticks.mark()
"""
# The event says for how many seconds to stay busy.
_BOTO3_SOURCE = """import time
import boto3
def handler(event, context):
    time.sleep(event)
"""
_NOOP_DEPLOYMENT = f"""[[functions]]
name = "{NOOP}"
code = "noop"
handler = "app.handler"
runtime = "python3"

[[functions.buckets]]
name = "{BUCKET}"
access = "write"
"""


def cold_name(number: int) -> str:
    """The name of one of the functions that import boto3."""
    return f"cold-{number}"


def write(folder: Path, cold_functions: int) -> None:
    """The no-op, and so many functions that import boto3, each to be started cold once."""
    noop, cold = folder / "noop", folder / "cold"
    for one in (noop, cold):
        one.mkdir(parents=True)
    (noop / "app.py").write_text(_NOOP_SOURCE)
    shutil.copy(ticks.__file__, noop / "ticks.py")
    (cold / "app.py").write_text(_BOTO3_SOURCE)
    deployment = _NOOP_DEPLOYMENT
    for number in range(cold_functions):
        deployment += (
            f'\n[[functions]]\nname = "{cold_name(number)}"\ncode = "cold"\n'
            'handler = "app.handler"\nruntime = "python3"\ntimeout_seconds = 10\n'
        )
    (folder / "evenflow.toml").write_text(deployment)
