"""The fleet of docker-compose.yml, started as the file says, cut in two and healed: nothing accepted is lost."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.kit.compose_runner import network
from tests.kit.compose_runner.container import HEALTHY
from tests.kit.compose_runner.runner import ComposeRunner, namespaces, unmounted

missing = network.missing()
pytestmark = pytest.mark.skipif(bool(missing), reason=missing)
EVENTS = 25
NODES = ("control", "queue-0", "queue-1", "queue-2", "runtime-1", "poller-1", "poller-2", "frontend-1")


class Client:
    """Sends events from outside the fleet, with a key; remembers what was accepted."""

    def __init__(self, runner: ComposeRunner) -> None:
        self._runner = runner
        made = json.loads(runner.run("evenflow", "keys", "create", "--json"))
        self._key = [made["access_key_id"], made["secret_access_key"]]
        self.accepted: list[str] = []

    def send(self, events: int) -> None:
        """So many over each door."""
        self.accepted += self._ask(events, [])["accepted"]

    def send_and_follow(self, events: int) -> dict[str, str]:
        """So many more, and what became of everything accepted."""
        answer = self._ask(events, self.accepted)
        self.accepted += answer["accepted"]
        found: dict[str, str] = answer["states"]
        return found

    def _ask(self, events: int, follow: list[str]) -> Any:
        asked = {
            "http": "http://frontend:9000",
            "grpc": "frontend:9001",
            "key": self._key,
            "function": "count",
            "send": events,
            "follow": follow,
        }
        return json.loads(
            self._runner.run("load-master", "python", "-m", "tests.faults.compose.client", json.dumps(asked))
        )


@pytest.fixture
def runner() -> Iterator[ComposeRunner]:
    """Two pollers, all else as in the file; leases short enough to see them move."""
    settings = {"EVENFLOW_QUEUE_VISIBILITY_TIMEOUT_MS": "2000", "EVENFLOW_RUNTIME_PRELOAD": ""}
    before = namespaces()
    made = ComposeRunner(settings=settings, scale={"poller": 2})
    with made:
        yield made
    assert namespaces() == before and unmounted(made.folder) and not made.folder.exists()


@pytest.mark.timeout(180)
def test_the_fleet_comes_up_in_order_and_survives_a_partition(runner: ComposeRunner, tmp_path: Path) -> None:
    """Health, order, names, both doors, a queue node and a poller cut off and healed; then nothing is left."""
    runner.up()
    order = runner.started
    assert order[0] == "certs" and order[1] == "control" and order[-1] == "frontend-1" and set(order[1:]) == set(NODES)
    assert all(runner.containers[name].health == HEALTHY for name in NODES)

    work = runner.folder / "function"
    work.mkdir()
    (work / "app.py").write_text("def handler(event, context):\n    return 1\n")
    (work / "evenflow.toml").write_text('[[functions]]\nname = "count"\nhandler = "app.handler"\n')
    runner.share(work, "/function")
    assert "count" in runner.run("evenflow", "deploy", "/function")
    assert runner.run("evenflow", "invoke", "count", "--payload", "{}").split() == ["1"]
    client = Client(runner)
    client.send(EVENTS)

    runner.network.cut("queue-1")
    runner.network.cut_one_way("poller-1", "queue-2")
    client.send(EVENTS)
    runner.network.heal("queue-1")
    runner.network.heal_one_way("poller-1", "queue-2")
    states = client.send_and_follow(EVENTS)
    assert len(states) == len(client.accepted) == EVENTS * 2 * 3
    assert set(states.values()) == {"succeeded"}, {k: v for k, v in states.items() if v != "succeeded"}

    inside = [psutil.Process(runner.containers[name].pid) for name in NODES]
    assert all(set(process.uids()) == {10_001} for process in inside)
    runner.down()
    assert not any(process.is_running() for process in inside)
