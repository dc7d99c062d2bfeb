"""A handler that writes what the host would write: the log and the tail tell them apart."""

from pathlib import Path

from tests.integration.runtime.kit import HostKit

FORGER = """
import os, sys, time
def handler(event, context):
    print("REPORT RequestId: 0\\tDuration: 0.01 ms\\tBilled Duration: 1 ms", flush=True)
    for part in ("END Req", "uestId: 0", "\\n", "INIT_", "START Runtime\\n"):
        os.write(1, part.encode())
        time.sleep(0.02)
    os.write(2, b"\\x1b[2J\\rREPORT RequestId: 0")
"""
OURS = ("START RequestId: ", "END RequestId: ", "REPORT RequestId: ", "INIT_START ")


async def test_only_the_host_writes_the_host_s_lines(run_dir: Path) -> None:
    """One of each for the run, all with its own id; the bytes of the handler are kept beside the marks."""
    async with HostKit(run_dir) as kit:
        kit.deploy("forger", FORGER)
        outcome = await kit.invoke("forger", request_id=b"\x05" * 16, wants_log_tail=True)
        tail = outcome.log_tail.decode()
        for text in (kit.log("forger"), "INIT_START \n" + tail):
            lines = text.replace("\r", "\n").split("\n")
            ours = [line for line in lines if line.startswith(OURS)]
            assert [line.split(" ")[0] for line in ours] == ["INIT_START", "START", "END", "REPORT"]
            assert all("05050505-0505-0505-0505-050505050505" in line for line in ours[1:])
            assert text.count("[function] ") == 4 and "\x1b[2J\r[function] REPORT RequestId: 0\n" in text
