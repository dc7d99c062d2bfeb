"""What a driver is told to send; pure data that goes through JSON to the driver's own process."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from loadtest.arrivals import shapes
from loadtest.arrivals.shapes import Shape
from loadtest.workloads.work import Work

# http: one event a request, the AWS API. grpc: InvokeAsync. stream: Publish, what is due at once in one batch.
DOORS = ("http", "grpc", "stream")
# Requests under way at once: a send beyond it is dropped and counted, never queued without bound.
MAX_IN_FLIGHT = 10_000
MAX_DRIVERS = 64
MAX_STREAMS = 1_000


@dataclass(frozen=True, slots=True)
class Traffic:
    """The schedule. tenants, skew: see arrivals.tenants; replay: path of an Azure Functions CSV, which then gives
    times, tenants and work, its rates scaled to shape.per_second; it has no other shape, no skew and no noisy tenant.
    """

    shape: Shape = field(default_factory=Shape)
    seconds: float = 10.0
    seed: str = "1"
    tenants: int = 1
    skew: str = "uniform"
    noisy_part: float = 0.0
    replay: str = ""

    def __post_init__(self) -> None:
        """ValueError: a replay is told what the trace itself says."""
        if not self.replay:
            return
        for name, value, neutral in (
            ("arrivals", self.shape.name, Shape().name),
            ("skew", self.skew, "uniform"),
            ("noisy tenant's part", self.noisy_part, 0.0),
        ):
            if value != neutral:
                raise ValueError(f"a replayed trace has its own times and tenants: leave the {name} {value} out")


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """One run. host, http_port, grpc_port: the doors. synchronous: Invoke and RequestResponse instead of async.

    function: its name, the same for every tenant. keys: the access key of each tenant ("ID:SECRET"), by index; without
    one no credentials are sent, which open doors take as the default tenant. run: as in workloads.work.
    warm_up_seconds: of the schedule, sent and not counted. records: folder where handlers leave what they did; empty:
    `start` comes from GetEvent of the sample, as `settled` does. status_per_second: events a second whose end is asked
    for; synchronous: none. shares_clock: whether the fleet's clock is this machine's, so that its times and the
    schedule's may be subtracted. drivers: processes that share the schedule. callers: 0, or a closed loop instead of
    the schedule's times: so many callers, each of whom sends its next event once the handler of its last one is done
    (synchronous: answered).
    """

    host: str
    http_port: int
    grpc_port: int
    door: str = "http"
    synchronous: bool = False
    function: str = "load"
    keys: tuple[str, ...] = ()
    traffic: Traffic = field(default_factory=Traffic)
    work: Work = field(default_factory=Work)
    run: int = 1
    warm_up_seconds: float = 0.0
    records: str = ""
    status_per_second: float = 5.0
    in_flight: int = 2_000
    drivers: int = 1
    callers: int = 0
    answer_seconds: float = 30.0
    drain_seconds: float = 60.0
    shares_clock: bool = True

    def __post_init__(self) -> None:
        """ValueError: not within bounds."""
        if self.door not in DOORS:
            raise ValueError(f"{self.door!r} is no door: {', '.join(DOORS)}")
        if not 1 <= self.in_flight <= MAX_IN_FLIGHT:
            raise ValueError(f"in_flight must be within 1 to {MAX_IN_FLIGHT:,}, not {self.in_flight}")
        if not 1 <= self.drivers <= MAX_DRIVERS:
            raise ValueError(f"drivers must be within 1 to {MAX_DRIVERS}, not {self.drivers}")
        if not 0 <= self.run < 2**32:
            raise ValueError(f"run must be within 0 to 2**32 - 1, not {self.run}")
        for name in ("answer_seconds", "drain_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.door == "stream" and len(self.keys) > MAX_STREAMS:
            raise ValueError(f"each key has a stream of its own, of which there are at most {MAX_STREAMS:,}")
        if not 0 <= self.callers <= MAX_IN_FLIGHT:
            raise ValueError(f"callers must be within 0 to {MAX_IN_FLIGHT:,}, not {self.callers}")
        if self.callers and not (self.synchronous or self.records):
            raise ValueError("callers of asynchronous events need the records to know when a handler is done")
        if not 0 <= self.warm_up_seconds < self.traffic.seconds:
            raise ValueError("the warm-up is a part of the run, and shorter than it")
        if self.synchronous and self.door == "stream":
            raise ValueError("the Publish stream takes asynchronous events only")
        if self.records and not self.shares_clock:
            raise ValueError("the handlers' records are of use on the fleet's own machine only")
        if not (self.traffic.replay or self.callers):
            shapes.check(self.traffic.shape, self.traffic.seconds, self.warm_up_seconds)


def as_json(spec: LoadSpec) -> dict[str, Any]:
    """For json.dumps; `from_json` takes it back."""
    return asdict(spec)


def from_json(told: Mapping[str, Any]) -> LoadSpec:
    """What as_json gave. KeyError, TypeError, ValueError: it is something else."""
    traffic = dict(told["traffic"])
    shape = {**traffic["shape"], "levels": tuple(traffic["shape"]["levels"])}
    traffic["shape"] = Shape(**shape)
    parts = {"traffic": Traffic(**traffic), "work": Work(**told["work"]), "keys": tuple(told["keys"])}
    return LoadSpec(**{**told, **parts})
