"""Typed settings, read once at start from `EVENFLOW_*`, each refusal naming the setting at fault.

A setting has a dotted key (`retry.base_seconds`) and the environment variable made of it
(`EVENFLOW_RETRY_BASE_SECONDS`). Each service declares a frozen dataclass whose fields come from `setting(...)`.
"""

import dataclasses
import socket
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}
_ANY_ADDRESS = ("0.0.0.0", "[::]")


class SettingsError(ValueError):
    """A setting is unknown or has a value outside its bounds; the message names it."""


def setting(
    key: str,
    default: Any = dataclasses.MISSING,
    *,
    help: str,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A field of a settings class; without default it must be given."""
    metadata = {"key": key, "help": help, "minimum": minimum, "maximum": maximum, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def variable_of(key: str) -> str:
    """The environment variable of a key: `retry.base_seconds` -> `EVENFLOW_RETRY_BASE_SECONDS`."""
    return "EVENFLOW_" + key.replace(".", "_").replace("-", "_").upper()


def keys_of(settings_class: type) -> dict[str, "dataclasses.Field[Any]"]:
    """All settings of a class by key."""
    return {f.metadata["key"]: f for f in dataclasses.fields(settings_class) if "key" in f.metadata}


def parse(field: "dataclasses.Field[Any]", text: str) -> Any:
    """The value of one setting from text. SettingsError: wrong type, or outside its bounds."""
    key, kind = field.metadata["key"], field.type if isinstance(field.type, str) else field.type.__name__
    name = f"{key} ({variable_of(key)})"
    value: Any = text
    if kind in ("int", "float"):
        try:
            value = int(text) if kind == "int" else float(text)
        except ValueError:
            expected = "a whole number" if kind == "int" else "a number"
            raise SettingsError(f"{name} must be {expected}, not {text!r}") from None
        low, high = field.metadata["minimum"], field.metadata["maximum"]
        if (low is not None and value < low) or (high is not None and value > high) or value != value:
            raise SettingsError(f"{name} must be within {low} to {high}, not {text}")
    elif kind == "bool":
        if text.lower() not in _TRUE | _FALSE:
            raise SettingsError(f"{name} must be true or false, not {text!r}")
        value = text.lower() in _TRUE
    choices = field.metadata["choices"]
    if choices and value not in choices:
        raise SettingsError(f"{name} must be one of {', '.join(choices)}, not {text!r}")
    return value


def load(settings_class: type[T], environ: Mapping[str, str]) -> T:
    """Settings of this class from the environment. SettingsError: one is missing or invalid."""
    values: dict[str, Any] = {}
    for key, field in keys_of(settings_class).items():
        text = environ.get(variable_of(key))
        if text is not None:
            values[field.name] = parse(field, text)
        elif field.default is dataclasses.MISSING:
            raise SettingsError(f"{key} ({variable_of(key)}) is not set and has no default")
    return settings_class(**values)


@dataclasses.dataclass(frozen=True, slots=True)
class NodeSettings:
    """What every service process needs to know of itself and of the fleet."""

    data_dir: str = setting("data.dir", help="Folder for this fleet's durable state.")
    run_dir: str = setting("run.dir", help="Private folder (0700) for sockets; its path must be short.")
    token_file: str = setting("token.file", help="File with the fleet's token; not readable by sandboxes.")
    node_id: str = setting(
        "node.id", "", help="Name of this process in the fleet, such as queue-0, over restarts; empty: the host's name."
    )
    listen: str = setting("listen", "", help="gRPC address to listen on; empty: a unix socket in the run folder.")
    advertise: str = setting(
        "advertise",
        "",
        help="gRPC address told to others; empty: the listen address, with the host's name for 0.0.0.0.",
    )
    tls_ca_file: str = setting("tls.ca_file", "", help="PEM: the authority of the fleet's certificates.")
    tls_cert_file: str = setting(
        "tls.cert_file", "", help="PEM: this process's certificate; inner calls over TCP need one."
    )
    tls_key_file: str = setting("tls.key_file", "", help="PEM: its key; readable by its owner alone.")
    tls_revoked_file: str = setting(
        "tls.revoked_file", "", help="Serial numbers of revoked certificates, one a line; followed as it changes."
    )
    control_address: str = setting("control.address", "", help="Address of control; empty: its unix socket.")
    metrics_listen: str = setting(
        "metrics.listen", "", help="HOST:PORT for Prometheus; empty: a unix socket in the run folder."
    )
    log_level: str = setting(
        "log.level", "info", choices=("debug", "info", "warning", "error"), help="Least level logged."
    )
    drain_seconds: float = setting(
        "drain.seconds", 8.0, minimum=0, maximum=900, help="Longest time a service takes to drain after SIGTERM."
    )
    trace_per_second: float = setting(
        "trace.per_second", 20.0, minimum=0, maximum=10_000, help="Traces a second kept whole by each frontend."
    )
    trace_one_in: int = setting(
        "trace.one_in", 1000, minimum=1, maximum=1_000_000_000, help="Beyond that, keep one trace in so many."
    )
    trace_store_bytes: int = setting(
        "trace.store_bytes", 33_554_432, minimum=65_536, maximum=1 << 40, help="Bound of one process's span store."
    )

    def __post_init__(self) -> None:
        if not self.node_id:
            object.__setattr__(self, "node_id", socket.gethostname())

    @property
    def listen_address(self) -> str:
        """Where this process serves gRPC."""
        return self.listen or f"unix:{self.run_dir}/{self.node_id}.sock"

    @property
    def advertised_address(self) -> str:
        """Where others reach this process."""
        if self.advertise:
            return self.advertise
        host, _, port = self.listen_address.rpartition(":")
        return f"{socket.gethostname()}:{port}" if host in _ANY_ADDRESS else self.listen_address

    @property
    def control_target(self) -> str:
        """Where control is."""
        return self.control_address or f"unix:{self.run_dir}/control.sock"
