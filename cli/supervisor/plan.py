"""Which processes a fleet has and what each is told. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.supervisor.options import UpOptions, as_environment

# In which order events flow: what takes them in stops first, what others depend on stops last.
DRAIN_ORDER = ("frontend", "poller", "runtime", "queue", "control")
# The process that a child of the fleet must not outlive; services/shared/lifecycle.py reads it.
PARENT_VARIABLE = "EVENFLOW_SUPERVISOR_PID"
# How long each may drain unless a setting says otherwise: together less than what the whole fleet has.
DRAIN_SECONDS = {"frontend": 2.0, "poller": 2.5, "runtime": 1.5, "queue": 1.0, "control": 1.0}


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One process to run."""

    node_id: str
    role: str
    environment: Mapping[str, str]
    target: str
    metrics_socket: str


def plan(options: UpOptions, run_dir: Path, token_file: Path, supervisor_pid: int) -> list[NodePlan]:
    """All processes, control first."""
    common = {
        "EVENFLOW_DATA_DIR": str(options.data),
        "EVENFLOW_RUN_DIR": str(run_dir),
        "EVENFLOW_TOKEN_FILE": str(token_file),
        PARENT_VARIABLE: str(supervisor_pid),
    }
    queue_ids = [f"queue-{n}" for n in range(options.queues)]
    own: dict[str, dict[str, str]] = {
        "frontend": {"EVENFLOW_HTTP_LISTEN": options.http_listen, "EVENFLOW_GRPC_LISTEN": options.grpc_listen},
        "control": {"EVENFLOW_FLEET_QUEUE_NODES": ",".join(queue_ids)},
        "runtime": {"EVENFLOW_RUNTIME_ENDPOINT_URL": options.settings.get("runtime.endpoint_url", options.http_url)},
    }
    if options.shards is not None:
        own["control"]["EVENFLOW_FLEET_SHARDS"] = str(options.shards)
    node_ids = {
        "control": ["control"],
        "queue": queue_ids,
        "runtime": [f"runtime-{n}" for n in range(options.runtimes)],
        "poller": [f"poller-{n}" for n in range(options.pollers)],
        "frontend": ["frontend-0"],
    }
    made: list[NodePlan] = []
    for role, names in node_ids.items():
        for node_id in names:
            environment = {
                "EVENFLOW_DRAIN_SECONDS": str(DRAIN_SECONDS[role]),
                **as_environment(options.settings),
                **common,
                **own.get(role, {}),
                "EVENFLOW_NODE_ID": node_id,
            }
            made.append(
                NodePlan(
                    node_id=node_id,
                    role=role,
                    environment=environment,
                    target=f"unix:{run_dir}/{node_id}.sock",
                    metrics_socket=f"{run_dir}/{node_id}.metrics.sock",
                )
            )
    return made
