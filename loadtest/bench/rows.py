"""The rows of the table: what stands beside what, and the goal of each; pure data."""

from dataclasses import dataclass

from loadtest.bench.goals import Goal, Kind

HUEY = "huey"
ALWAYS = "taskiq-always"
EVERYSEC = "taskiq-everysec"
CELERY = "celery-always"
JETSTREAM = "jetstream"
EVENFLOW = "evenflow"
NAMES = {
    HUEY: "Huey",
    ALWAYS: "taskiq always",
    EVERYSEC: "taskiq everysec",
    CELERY: "Celery always",
    JETSTREAM: "JetStream (no fsync, no sandbox)",
}
PEERS = (HUEY, ALWAYS, EVERYSEC, CELERY, JETSTREAM)
# Those that submit event by event and wait for each answer: beside batches only what is sent ahead, too, is like.
_ONE_BY_ONE = (HUEY, ALWAYS, EVERYSEC, CELERY)


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `measure`: under which name Evenflow's figures are kept; `peer_measure`: the peers', if any fit."""

    measure: str
    title: str
    unit: str
    goals: tuple[Goal, ...] = ()
    peer_measure: str = ""
    peers: tuple[str, ...] = PEERS

    @property
    def is_higher_better(self) -> bool:
        """Whether more is better: as its goals have it, else by its unit."""
        if self.goals:
            return self.goals[0].kind is Kind.AT_LEAST
        return self.unit in ("events/s", "times")


def _at_least(times: float, *against: str, stretch: bool = False) -> Goal:
    return Goal(Kind.AT_LEAST, times, against, stretch)


def _at_most(bound: float, *against: str, stretch: bool = False) -> Goal:
    return Goal(Kind.AT_MOST, bound, against, stretch)


_IDLE_P50 = (_at_most(1, ALWAYS), _at_most(1, EVERYSEC, stretch=True))
ROWS = (
    Row("accept_http", "accept: HTTP, one event a request, 64 in flight", "events/s",
        (_at_least(3, HUEY, ALWAYS, CELERY),), "accept", _ONE_BY_ONE),
    Row("accept_batches", "accept: gRPC stream, batches of 100", "events/s",
        (_at_least(15, HUEY), _at_least(2, JETSTREAM)), "accept"),
    Row("accept_grpc_one", "accept: gRPC, one sequential caller", "events/s",
        (_at_least(0.2, HUEY),), "accept", (HUEY,)),
    Row("accept_http_one", "accept: HTTP, one sequential caller", "events/s",
        (_at_least(0.5, HUEY, stretch=True),), "accept", (HUEY,)),
    Row("end_to_end_batches", "end to end: submitted in batches of 100", "events/s",
        (_at_least(5, ALWAYS), _at_least(5, HUEY), _at_least(0.8, JETSTREAM)), "end_to_end"),
    Row("end_to_end_http", "end to end: one event an HTTP request", "events/s",
        (_at_least(3, ALWAYS), _at_least(3, HUEY), _at_least(8, CELERY)), "end_to_end", _ONE_BY_ONE),
    Row("node_accept", "one queue node by itself: durable accept, batches of 100", "events/s"),
    Row("node_drain", "the same: lease + ack", "events/s"),
    Row("node_through", "the same: enqueue + lease + ack at once", "events/s"),
    Row("two_nodes_accept", "two queue nodes: durable accept, batches of 100", "events/s", (_at_least(50_000),)),
    Row("two_nodes_drain", "the same: lease + ack", "events/s"),
    Row("two_nodes_through", "the same: enqueue + lease + ack at once", "events/s", (_at_least(30_000),)),
    Row("idle_http_p50", "idle submit to handler start, HTTP, p50", "ms", _IDLE_P50, "idle_p50"),
    Row("idle_http_p99", "idle submit to handler start, HTTP, p99", "ms", (_at_most(5),), "idle_p99"),
    Row("idle_grpc_p50", "idle submit to handler start, gRPC, p50", "ms", _IDLE_P50, "idle_p50"),
    Row("idle_grpc_p99", "idle submit to handler start, gRPC, p99", "ms", (_at_most(5),), "idle_p99"),
    Row("host_cold_p50", "cold start of a further sandbox (boto3), at the host, p50", "ms", (_at_most(6),)),
    Row("host_cold_p99", "the same, p99", "ms", (_at_most(12),)),
    Row("door_cold_p50", "cold start of a further sandbox (boto3), gRPC door, p50", "ms"),
    Row("door_cold_p99", "the same, p99", "ms"),
    Row("cold_times_bubblewrap", "cold start against bubblewrap + python + boto3", "times", (_at_least(30),)),
    Row("cold_times_awslambdaric", "cold start against a fresh awslambdaric with the same handler", "times",
        (_at_least(10),)),
    Row("cold_times_plain_client", "cold start against a fresh awslambdaric whose handler imports nothing", "times"),
    Row("idle_sandbox_mib", "an idle sandbox among many of a function (boto3), PSS", "MiB", (_at_most(5),)),
    Row("first_invoke_ms", "first invoke after a deploy, gRPC door", "ms", (_at_most(300),)),
    Row("invoke_p50", "warm Invoke, gRPC door, one caller, p50", "us"),
    Row("invoke_p99", "the same, p99", "us"),
    Row("host_overhead_p50", "warm run beyond a refusal on the same stream, at the host, p50", "us", (_at_most(150),)),
    Row("host_cpu_us", "runtime host's CPU an event at load", "us", (_at_most(150),)),
    Row("memory_pss", "memory of the idle fleet, every process (PSS)", "MiB", (_at_most(350),)),
    Row("idle_cpu", "CPU of the idle fleet, of one core", "%"),
    Row("ready_seconds", "`evenflow up` until ready", "s"),
    Row("tracing_loss", "end to end in batches: lost to tracing at default sampling", "%", (_at_most(5),)),
)  # fmt: skip
