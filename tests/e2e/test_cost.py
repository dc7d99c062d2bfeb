"""`evenflow cost`: what ran on every host, added up and priced."""

import datetime
import os
import signal
from decimal import Decimal

import pytest

from tests.kit.fleet import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.long]
SLEEP = "import time\ndef handler(event, context):\n    time.sleep(event)\n    return event\n"


def test_the_cost_of_runs_on_two_hosts() -> None:
    """Sync and async runs of two functions, by function, tenant and day; a host that is away is named."""
    with Fleet(arguments=["--runtimes", "2"]) as fleet:
        fleet.deploy("large", SLEEP, memory_mb=256)
        fleet.deploy("small", SLEEP)
        client = fleet.lambda_client()
        for _ in range(4):
            client.invoke(FunctionName="small", Payload="0.01")
            client.invoke(FunctionName="large", Payload="0.05")
        client.invoke(FunctionName="small", Payload="0", InvocationType="Event")
        fleet.wait_drained()

        told = fleet.cli_json("cost")
        by_name = {row["function_name"]: row for row in told["rows"]}
        large, small = by_name["large"], by_name["small"]
        assert (large["invocations"], small["invocations"]) == (4, 5)
        assert large["mb_ms"] == 256 * large["billed_ms"] and large["billed_ms"] >= 200
        assert told["total"]["requests"] == 9 and told["hosts_not_counted"] == {}
        assert Decimal(told["total"]["requests_usd"]) == Decimal("0.0000018")
        seconds = Decimal(large["mb_ms"] + small["mb_ms"]) / 1_024_000
        assert Decimal(told["total"]["gb_seconds"]) == seconds
        (today,) = fleet.cli_json("cost", "--by", "day", "--days", "1")["rows"]
        assert today["day"] == datetime.datetime.now(datetime.UTC).date().isoformat()
        os.kill(fleet.pid_of("runtime-1"), signal.SIGSTOP)
        try:
            left = fleet.cli_json("cost")
        finally:
            os.kill(fleet.pid_of("runtime-1"), signal.SIGCONT)
        assert list(left["hosts_not_counted"]) == ["runtime-1"]
        assert left["total"]["invocations"] < 9
        text = fleet.cli("cost", "--by", "tenant")
        assert "default" in text and "total" in text and "$0.0000166667 a GB-second" in text
