"""What the options of a run ask for, checked. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from loadtest.arrivals import shapes
from loadtest.arrivals import tenants as spread
from loadtest.arrivals.shapes import Shape
from loadtest.open_loop.spec import MAX_IN_FLIGHT, Traffic
from loadtest.option_names import by_option
from loadtest.workloads.work import Work

# Options that are not called as the fields behind them.
_OPTIONS = {"per_second": "open-rate"}
# One PublishBatch takes no more.
MAX_BATCH_EVENTS = 1_000
MAX_FOLLOWED_PER_SECOND = 100.0
# An open loop without a run time ends by itself after this long.
DEFAULT_OPEN_SECONDS = 60.0


class BadOption(ValueError):
    """An option out of bounds; the message names it and says what it takes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One run. grpc: HOST:PORT of the gRPC door. keys: "ID:SECRET" of each tenant, by index; none: no credentials.

    open_rate: sends a second of the whole run, a batch being one; 0: a closed loop. replay: path of an Azure Functions
    CSV that takes the place of the shape; empty: none. in_flight: of one driver. dwell_rate: events a second of the
    whole run that are followed to their end. drain_seconds: how long the end of a run waits for answers and for the
    events that are followed.
    """

    grpc: str
    function: str
    keys: tuple[str, ...]
    work: Work
    batch_events: int
    open_rate: float
    shape: Shape
    seed: str
    skew: str
    noisy_part: float
    replay: str
    in_flight: int
    dwell_rate: float
    answer_seconds: float
    drain_seconds: float

    @property
    def is_open(self) -> bool:
        """Whether a schedule says when to send."""
        return self.open_rate > 0

    @property
    def tenants(self) -> int:
        """How many send; without keys it is the default tenant alone."""
        return max(1, len(self.keys))

    def traffic(self, seconds: float) -> Traffic:
        """The schedule of a run of this length."""
        quiet = self.tenants - 1 if self.noisy_part else self.tenants
        return Traffic(self.shape, seconds, self.seed, quiet, self.skew, self.noisy_part, self.replay)

    def check_seconds(self, seconds: float) -> None:
        """BadOption: the arrivals do not fit into a schedule of this length."""
        if not self.is_open or self.replay:
            return
        try:
            shapes.check(self.shape, seconds)
        except ValueError as e:
            raise BadOption(str(e)) from None

    def key_of(self, tenant: int) -> str:
        """The access key of a tenant; empty: no credentials."""
        return self.keys[tenant] if self.keys else ""

    def weights(self) -> spread.Weights:
        """Each tenant's part of the traffic; with a noisy one the last key is that one's."""
        if self.noisy_part:
            quiet = spread.weights(self.skew, self.tenants - 1, self.seed)
            return spread.with_noisy(quiet, self.noisy_part)
        return spread.weights(self.skew, self.tenants, self.seed)


def read(options: Mapping[str, Any]) -> Settings:
    """The settings that parsed options give. BadOption: one is out of bounds."""
    keys = tuple(key for key in str(options["keys"]).replace(",", " ").split() if key)
    for place, key in enumerate(keys, 1):
        if ":" not in key:
            raise BadOption(f"--keys: the key number {place} is not ID:SECRET (evenflow keys create)")
    try:
        settings = Settings(
            grpc=str(options["grpc"]),
            function=str(options["function"]),
            keys=keys,
            work=Work(
                float(options["sleep_ms"]),
                float(options["burn_ms"]),
                int(options["allocate_mib"]),
                float(options["fail_rate"]),
                int(options["pad_bytes"]),
                int(options["pad_bytes_max"]),
            ),
            batch_events=int(options["batch_events"]),
            open_rate=float(options["open_rate"]),
            shape=_shape(options),
            seed=str(options["seed"]),
            skew=str(options["skew"]),
            noisy_part=float(options["noisy_part"]),
            replay=str(options["replay"]),
            in_flight=int(options["in_flight"]),
            dwell_rate=float(options["dwell_rate"]),
            answer_seconds=float(options["answer_seconds"]),
            drain_seconds=float(options["drain_seconds"]),
        )
    except ValueError as e:
        raise BadOption(by_option(str(e), _OPTIONS)) from None
    _check(settings)
    return settings


def check_host(url: str | None) -> None:
    """BadOption: this --host is no HTTP door; None is the default one."""
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadOption(f"--host: the HTTP door, such as http://127.0.0.1:9000, not {url!r}")


def _shape(options: Mapping[str, Any]) -> Shape:
    rate = float(options["open_rate"])
    if rate < 0:
        raise BadOption(f"--open-rate: sends a second, or 0 for a closed loop, not {rate:g}")
    return Shape(
        name=str(options["arrivals"]),
        # A closed loop has no shape; this one is never asked.
        per_second=rate if rate else 1.0,
        on_seconds=float(options["on_seconds"]),
        off_seconds=float(options["off_seconds"]),
        amplitude=float(options["amplitude"]),
        period_seconds=float(options["period_seconds"]),
        levels=tuple(float(level) for level in str(options["levels"]).split()),
        herd_events=int(options["herd_events"]),
    )


def _check(settings: Settings) -> None:
    if not settings.function:
        raise BadOption("--function: the name of a function that is deployed")
    host, _, port = settings.grpc.rpartition(":")
    if not host or not port.isdecimal():
        raise BadOption(f"--grpc: HOST:PORT of the gRPC door, not {settings.grpc!r}")
    for name, value, least, most in (
        ("--batch-events", settings.batch_events, 1, MAX_BATCH_EVENTS),
        ("--in-flight", settings.in_flight, 1, MAX_IN_FLIGHT),
        ("--dwell-rate", settings.dwell_rate, 0, MAX_FOLLOWED_PER_SECOND),
        ("--answer-seconds", settings.answer_seconds, 0.1, 900),
        ("--drain-seconds", settings.drain_seconds, 0, 3_600),
    ):
        if not least <= value <= most:
            raise BadOption(f"{name}: {least:g} to {most:g}, not {value:g}")
    work = settings.work
    if 0 < work.pad_bytes_max < work.pad_bytes:
        raise BadOption(f"--pad-bytes-max: at least --pad-bytes, {work.pad_bytes}, not {work.pad_bytes_max}")
    if settings.noisy_part and settings.tenants < 2:
        raise BadOption(
            "--noisy-part: needs the keys of at least two tenants (--keys); the last one is the noisy one's"
        )
    try:
        settings.weights()
        settings.traffic(DEFAULT_OPEN_SECONDS)
    except ValueError as e:
        raise BadOption(str(e)) from None
