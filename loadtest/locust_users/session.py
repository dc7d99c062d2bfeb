"""`make load`: a fleet of its own, the function on it, Locust against both doors, and everything ended again."""

import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from cli.failures import CliError
from cli.supervisor.ports import free_port
from loadtest.bench.evenflow_fleet import EvenflowFleet
from loadtest.workloads.deploy import write_folder

ROOT = Path(__file__).resolve().parents[2]
LOCUST = Path(sys.executable).parent / "locust"
# An open loop on both doors that a laptop carries; any argument takes the place of all of these.
DEFAULTS = ("--headless", "--only-summary", "--processes", "2", "--open-rate", "100", "--run-time", "30s")
# As many as there are user classes, so that each has one when it is a closed loop.
USERS = ("--users", "5", "--spawn-rate", "5")
LOCAL = "127.0.0.1"
EXIT_FAILED = 1
# As the overseer has it, whose module needs gevent in this process.
EXIT_VOID = 3
VOID_LINE = "void: this measured the generator, not the fleet (the lines VOID above); the tables count for nothing"
STOP_SECONDS = 30.0


def locust_command(http_url: str, grpc_address: str, arguments: list[str]) -> list[str]:
    """Locust on these doors; without arguments it is a headless open loop with two workers."""
    command = [str(LOCUST), "-f", str(ROOT / "loadtest" / "locustfile.py"), "--host", http_url, "--grpc", grpc_address]
    # Its workers are on this machine, and so is who looks; a port of its own, as several sessions may run.
    port = str(free_port())
    command += ["--web-host", LOCAL, "--master-bind-host", LOCAL, "--master-bind-port", port, "--master-port", port]
    return [*command, *USERS, *(arguments or DEFAULTS)]


async def run_locust(command: list[str], interrupted: asyncio.Event) -> int:
    """Until it has ended; its exit code. Ctrl-C is passed on to it once, and then it has STOP_SECONDS."""
    # A session of its own: a terminal's Ctrl-C reaches this program alone, which ends things in order.
    process = await asyncio.create_subprocess_exec(*command, start_new_session=True)
    ended = asyncio.create_task(process.wait())
    told = asyncio.create_task(interrupted.wait())
    try:
        await asyncio.wait((ended, told), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.shield(ended)
    finally:
        told.cancel()
        if process.returncode is None:
            process.kill()
    return await ended


async def run(arguments: list[str]) -> int:
    """The whole session; the exit code is Locust's: 0, 1 for failed requests, 3 for a run that counts for nothing."""
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, interrupted.set)
    folder = Path(tempfile.mkdtemp(prefix="evenflow-load-", dir="/tmp"))
    fleet = EvenflowFleet(folder, 0)
    keeps = False
    try:
        print("load: starting a fleet", file=sys.stderr)
        await fleet.start()
        write_folder(folder / "function")
        await fleet.deploy_folder(folder / "function")
        if interrupted.is_set():
            return EXIT_FAILED
        url = f"http://{fleet.host}:{fleet.http_port}"
        ended = await run_locust(locust_command(url, fleet.grpc_address, arguments), interrupted)
        if ended == EXIT_VOID:
            print(VOID_LINE, file=sys.stderr, flush=True)
        return ended
    except (RuntimeError, TimeoutError, OSError, CliError) as e:
        keeps = True
        print(f"error: {e or type(e).__name__} (data and logs are in {folder})", file=sys.stderr)
        return EXIT_FAILED
    finally:
        await fleet.stop()
        if not keeps:
            with contextlib.suppress(OSError):
                shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(asyncio.run(run(sys.argv[1:])))
