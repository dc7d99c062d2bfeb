"""Fuzzed requests at the HTTP door of a whole fleet; `make fuzz-http` sends 100,000 of them."""

from random import Random
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.__main__ import prepare
from tests.fuzz.caller import Caller
from tests.fuzz.requests import NAMES, Fuzzer
from tests.kit.fleet import Fleet

pytestmark = pytest.mark.fleet
EXAMPLES = 60
REQUESTS_AN_EXAMPLE = 8


def test_no_request_is_answered_with_a_fault_of_the_door(fleet: Fleet) -> None:
    """No 5xx but for what is not offered; the same door goes on serving."""
    client: Any = fleet.lambda_client()
    url_ids = prepare(client)
    caller = Caller(fleet.http_port)

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.randoms(use_true_random=False))
    def fuzz(random: Random) -> None:
        fuzzer = Fuzzer(random, url_ids)
        for _ in range(REQUESTS_AN_EXAMPLE):
            caller.send(fuzzer.next())

    try:
        fuzz()
        assert caller.tally.requests >= EXAMPLES
        fleet.deploy("unhurt", "def handler(event, context):\n    return event\n")
        assert client.invoke(FunctionName="unhurt", Payload=b"1")["Payload"].read() == b"1"
    finally:
        caller.close()
        for name in [*NAMES, "unhurt"]:
            try:
                client.delete_function(FunctionName=name)
            except ClientError as e:
                assert e.response["Error"]["Code"] == "ResourceNotFoundException"
