"""`make fuzz-http`: 100,000 requests at the HTTP door of a whole fleet (ARGS='--requests 1000 --seed 7')."""

import argparse
import sys
import threading
import time
from random import Random
from typing import Any

import psutil

from tests.fuzz.caller import Caller, DoorAtFault, Tally
from tests.fuzz.requests import NAMES, Fuzzer
from tests.integration.frontend.lambda_api.conftest import ROLE, make_zip
from tests.kit.fleet import Fleet

REQUESTS = 100_000
CONNECTIONS = 4
REPORT_SECONDS = 10.0
# Nothing listens there: event sources that come up point at no queue of anybody's.
SETTINGS = {
    "aws.endpoint_url": "http://127.0.0.1:1",
    "retry.base_seconds": "0.05",
    "retry.throttle_base_seconds": "0.05",
}


def prepare(client: Any) -> tuple[str, ...]:
    """Two functions to begin with, one of them with a version, an alias and a URL; the ids of URLs."""
    ids: list[str] = []
    for name in NAMES[:2]:
        client.create_function(
            FunctionName=name,
            Runtime="python3.11",
            Role=ROLE,
            Handler="app.handler",
            Code={"ZipFile": make_zip()},
            Publish=True,
        )
        url = client.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"]
        ids.append(url.removeprefix("http://").partition(".")[0])
    return tuple(ids)


def fuzz(port: int, requests: int, seed: int, url_ids: tuple[str, ...]) -> Tally:
    """All requests over some connections. DoorAtFault."""
    callers = [Caller(port) for _ in range(CONNECTIONS)]
    faults: list[DoorAtFault] = []

    def work(index: int, caller: Caller) -> None:
        fuzzer = Fuzzer(Random(f"{seed}/{index}"), url_ids)
        try:
            for _ in range(index, requests, CONNECTIONS):
                if faults:
                    return
                caller.send(fuzzer.next())
        except DoorAtFault as e:
            faults.append(e)
        finally:
            caller.close()

    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in enumerate(callers)]
    for thread in threads:
        thread.start()
    started = time.monotonic()
    for thread in threads:
        while thread.is_alive():
            thread.join(REPORT_SECONDS)
            sent = sum(caller.tally.requests for caller in callers)
            print(f"{sent:,} of {requests:,} in {time.monotonic() - started:.0f} s", flush=True)
    if faults:
        raise faults[0]
    tally = Tally()
    for caller in callers:
        tally.add(caller.tally)
    return tally


def main() -> int:
    """0: every answer was right, every process lives, the door serves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with Fleet(SETTINGS) as fleet:
        url_ids = prepare(fleet.lambda_client())
        before = fleet.pids()
        tally = fuzz(fleet.http_port, options.requests, options.seed, url_ids)
        assert fleet.pids() == before and all(psutil.pid_exists(pid) for pid in before.values()), "a process ended"
        fleet.deploy("after", "def handler(event, context):\n    return event\n")
        answer = fleet.lambda_client().invoke(FunctionName="after", Payload=b'"still here"')
        assert answer["Payload"].read() == b'"still here"', "the door no longer serves"
        log = (fleet.data / "logs" / "frontend-0.log").read_text(errors="replace")
        assert "could not be handled" not in log and "Traceback" not in log, "the door's log has an exception"
    statuses = dict(sorted(tally.statuses.items()))
    print(f"{tally.requests:,} requests, seed {options.seed}: {statuses}, {tally.cut} cut")
    print(f"{tally.no_capacity} runs found no sandbox in time")
    return 0


if __name__ == "__main__":
    sys.exit(main())
