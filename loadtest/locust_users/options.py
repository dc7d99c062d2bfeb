"""The options that the users add to Locust's own, on the command line and in the web interface's form."""

from typing import Any

from loadtest.arrivals.shapes import SHAPES, Shape
from loadtest.arrivals.tenants import SKEWS

_SHAPE = Shape()


def add_options(parser: Any) -> None:
    """Add them to Locust's parser. Every default has its option's type: the form keeps types by it."""
    fleet = parser.add_argument_group("Evenflow: whom to call (--host is the HTTP door)")
    _add(fleet, "--grpc", default="127.0.0.1:9001", metavar="HOST:PORT", help="The gRPC door.")
    _add(fleet, "--function", default="load", metavar="NAME", help="The function, the same for every tenant.")
    _add(
        fleet,
        "--keys",
        default="",
        is_secret=True,
        metavar="ID:SECRET,...",
        help="The access key of each tenant, with commas between; none: the default tenant of open doors.",
    )
    _add(fleet, "--skew", default="uniform", choices=SKEWS, help="How the traffic is spread over the tenants.")
    _add(fleet, "--noisy-part", type=float, default=0.0, help="Part of the traffic of the last key, 0 to 1.")
    _add(fleet, "--batch-events", type=int, default=10, help="Events of one PublishBatch.")
    _add(fleet, "--answer-seconds", type=float, default=30.0, help="A request without answer fails after this.")
    _add_work(parser.add_argument_group("Evenflow: what the function does with each event"))
    _add_open_loop(parser.add_argument_group("Evenflow: open loop"))
    dwell = parser.add_argument_group("Evenflow: dwell")
    _add(
        dwell,
        "--dwell-rate",
        type=float,
        default=5.0,
        help="Accepted events a second, of the whole run, followed to their end.",
    )
    _add(
        dwell,
        "--drain-seconds",
        type=float,
        default=10.0,
        help="How long the end of a run waits for what is still under way.",
    )


def _add_work(group: Any) -> None:
    _add(group, "--sleep-ms", type=float, default=0.0, help="Sleeps so long.")
    _add(group, "--burn-ms", type=float, default=0.0, help="Uses so much CPU time.")
    _add(group, "--allocate-mib", type=int, default=0, help="Allocates so much memory.")
    _add(group, "--fail-rate", type=float, default=0.0, help="This part of the events fails, 0 to 1.")
    _add(group, "--pad-bytes", type=int, default=0, help="Added to the payload.")
    _add(group, "--pad-bytes-max", type=int, default=0, help="Above 0: each event has its own between the two.")


def _add_open_loop(group: Any) -> None:
    _add(
        group,
        "--open-rate",
        type=float,
        default=0.0,
        help="Sends a second of all drivers; 0: a closed loop of Locust's users.",
    )
    _add(group, "--arrivals", default=_SHAPE.name, choices=SHAPES, help="How the rate varies.")
    _add(
        group,
        "--replay",
        default="",
        metavar="CSV",
        help="An Azure Functions 2019 or 2021 trace on every driver's machine, scaled to the rate, instead of a shape.",
    )
    _add(group, "--seed", default="1", help="The same seed, the same schedule.")
    _add(group, "--in-flight", type=int, default=2_000, help="Requests under way at once in one driver.")
    _add(group, "--on-seconds", type=float, default=_SHAPE.on_seconds, help="bursts: how long each lasts.")
    _add(group, "--off-seconds", type=float, default=_SHAPE.off_seconds, help="bursts: silence between them.")
    _add(group, "--amplitude", type=float, default=_SHAPE.amplitude, help="diurnal: 0 to 1 of the mean rate.")
    _add(group, "--period-seconds", type=float, default=_SHAPE.period_seconds, help="diurnal, herd: its period.")
    levels = " ".join(f"{level:g}" for level in _SHAPE.levels)
    _add(group, "--levels", default=levels, help="steps: multiples of the mean rate, with spaces between.")
    _add(group, "--herd-events", type=int, default=_SHAPE.herd_events, help="herd: events at once.")


def _add(group: Any, name: str, *, is_secret: bool = False, **more: Any) -> None:
    action = group.add_argument(name, **more)
    # Locust's own parser marks what stands in the form; its groups do not.
    action.include_in_web_ui, action.is_secret, action.is_required, action.is_multiple = True, is_secret, False, False
