"""A program without any protection: a plain process of the host's own user. It must show what success looks like."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.attacks.finding import Finding, Findings, of_answer
from tests.attacks.package import sources
from tests.attacks.place import Place

CONTROL_SECONDS = 60.0
_RUN = (
    "import importlib, json, sys; sys.path.insert(0, sys.argv[1]); "
    "module = importlib.import_module('programs.' + sys.argv[2]); event = json.load(sys.stdin); "
    "print(json.dumps(module.handler(event, None)))"
)


async def control(place: Place, program: str, event: dict[str, Any], inherited: str = "") -> Findings:
    """What the program finds; `inherited`: a file that it gets as a further descriptor."""
    try:
        return of_answer(await plain_process(place, program, event, inherited))
    except (ValueError, subprocess.TimeoutExpired) as e:
        return {"control": Finding(refused={f"{type(e).__name__}: {e}"[:300]: 1})}


async def plain_process(place: Place, program: str, event: dict[str, Any], inherited: str = "") -> Any:
    """What the program returns. ValueError: nothing; TimeoutExpired: not within CONTROL_SECONDS."""
    folder = Path(tempfile.mkdtemp(prefix="control-", dir=place.folder))
    try:
        for name, text in sources(place.mark).items():
            path = folder / "code" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (folder / "tmp").mkdir()
        return json.loads(await asyncio.to_thread(_run, folder, program, event, inherited))
    finally:
        # Python's own way does not get to the end of folders that an attack made.
        await asyncio.to_thread(subprocess.run, ["rm", "-rf", "--", str(folder)], check=False)


def _run(folder: Path, program: str, event: dict[str, Any], inherited: str) -> bytes:
    fds = [os.open(inherited, os.O_RDONLY)] if inherited else []
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _RUN, str(folder / "code"), program],
            env={"PATH": os.environ["PATH"], "TMPDIR": str(folder / "tmp"), "LAMBDA_TASK_ROOT": str(folder / "code")},
            cwd=folder / "tmp",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=fds,
        )
    finally:
        for fd in fds:
            os.close(fd)
    try:
        output, errors = process.communicate(json.dumps(event).encode(), CONTROL_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if not output:
        raise ValueError(f"exit {process.returncode}: {errors.decode(errors='replace')[-250:]}")
    return output
