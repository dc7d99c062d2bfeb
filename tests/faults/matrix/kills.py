"""kill -9 and SIGSTOP: every service at random moments, and at the points that matter."""

from tests.faults.matrix.cell import Cell, Inject
from tests.faults.matrix.restarts import NODES
from tests.faults.matrix.rig import LEASE_SECONDS, Rig

BETWEEN_EVENTS = 800
# Of each random kill's cell, and what is between two of them.
KILLS = 3
CALM_EVENTS = (100, 300)
# What the issue allows from the kill until the node serves again.
BOUND_SECONDS = 5.0
_KEPT = "lost = 0, unexpected = 0; repeats only where a run's settle was lost"


def _kill_at_random(role: str) -> Inject:
    def inject(rig: Rig) -> None:
        with rig.calm():
            for _ in range(KILLS):
                rig.kill(rig.draw.choice(NODES[role]))
                rig.wait_acked(rig.draw.randint(*CALM_EVENTS))

    return inject


def _die_at(role: str, point: str) -> Inject:
    def inject(rig: Rig) -> None:
        for _ in range(2):
            rig.die_at(rig.draw.choice(NODES[role]), point)
            rig.wait_acked(BETWEEN_EVENTS // 2)

    return inject


def _freeze(role: str) -> Inject:
    def inject(rig: Rig) -> None:
        for times in (1.0, 2.0, 3.0)[: 2 if role == "queue" else 3]:
            rig.freeze(rig.draw.choice(NODES[role]), times * LEASE_SECONDS + rig.draw.random())

    return inject


CELLS = (
    *(
        Cell(f"kill-{role}", _KEPT, _kill_at_random(role), bound_seconds=0.0 if role == "control" else BOUND_SECONDS)
        for role in NODES
    ),
    Cell(
        "kill-queue-before-commit",
        "what was not answered may be sent again",
        _die_at("queue", "Database.commit before"),
    ),
    Cell(
        "kill-queue-after-commit",
        "stored and not answered: the same id again is one row",
        _die_at("queue", "Database.commit after"),
    ),
    Cell(
        "kill-frontend-after-send",
        "the caller does not know; a token's repeat is the same event",
        _die_at("frontend", "Accepter.submit after"),
    ),
    Cell(
        "kill-frontend-before-reply",
        "durable, and the caller does not know",
        _die_at("frontend", "Accepter.answered before"),
    ),
    Cell("kill-poller-with-leases", "its leases run out and move on", _die_at("poller", "Processing.leased after")),
    Cell("kill-poller-after-handler", "the run repeats: at least once", _die_at("poller", "Processing.ended before")),
    Cell(
        "kill-poller-after-handover",
        "the destination is told without another run",
        _die_at("poller", "Deliveries.start before"),
        load={"fails": 0.2},
    ),
    Cell("kill-runtime-mid-run", "no attempt counts, the run repeats", _die_at("runtime", "SandboxRuns.begin after")),
    Cell(
        "kill-runtime-after-handler", "the run repeats: at least once", _die_at("runtime", "SandboxRuns.ended before")
    ),
    Cell("freeze-poller", "the lease moves on; old receipts are refused", _freeze("poller")),
    Cell("freeze-runtime", "the run is done elsewhere", _freeze("runtime")),
    Cell("freeze-queue", "other shards take the events; nothing is lost", _freeze("queue")),
)
