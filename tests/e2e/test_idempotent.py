"""examples/idempotent on a real fleet: the same event again and again, booked once."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.kit.fleet import Fleet

pytestmark = pytest.mark.fleet
ROOT = Path(__file__).parents[2]


def build(folder: Path) -> Path:
    """The example with its layer, as its README makes it, from what the tests have installed."""
    target = folder / "idempotent"
    shutil.copytree(ROOT / "examples" / "idempotent", target, ignore=shutil.ignore_patterns("layer"))
    layer = target / "layer" / "python"
    shutil.copytree(ROOT / "sdk" / "evenflow_idempotency", layer / "evenflow_idempotency")
    for name in ("aws_lambda_powertools", "jmespath", "typing_extensions"):
        found = find_spec(name)
        assert found is not None and found.origin is not None
        if found.submodule_search_locations:
            shutil.copytree(Path(found.origin).parent, layer / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(found.origin, layer)
    return target


def test_an_order_that_comes_many_times_is_booked_once(fleet: Fleet, tmp_path: Path) -> None:
    """At once from many sandboxes, later, and as events: one line in the book, one answer for all."""
    fleet.cli("deploy", str(build(tmp_path)))
    client = fleet.lambda_client()

    def order(_n: int) -> Any:
        return json.load(client.invoke(FunctionName="orders", Payload=b'{"order_id": "A-1"}')["Payload"])

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(order, range(8)))
    booked = [answer for answer in answers if "booked" in answer]
    busy = [answer for answer in answers if "booked" not in answer]
    assert booked and {answer["by"] for answer in booked} == {booked[0]["by"]}
    assert {answer["errorType"] for answer in busy} <= {"IdempotencyAlreadyInProgressError"}
    assert order(9) == booked[0]
    for _ in range(3):
        client.invoke(FunctionName="orders", InvocationType="Event", Payload=b'{"order_id": "A-1"}')
    fleet.wait_drained()
    lines = (fleet.data / "buckets" / "orders" / "book.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"order": "A-1", "by": booked[0]["by"]}]
