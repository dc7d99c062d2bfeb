"""The fleet's constants: made of the settings when the data folder is new, compared with them ever after. Pure."""

import re

from evenflow.control.v1 import resources_pb2

from services.control import settings as defaults
from services.control.changes import Change
from services.control.settings import ControlSettings
from services.control.state import State
from services.policy.accounts import DEFAULT_TENANT
from services.policy.concurrency_rules import MIN_UNRESERVED

WHOLE_MILLIONTHS = 1_000_000
MAX_LISTED_SHARDS = 8
_NODE_ID = re.compile(r"[a-z0-9-]{1,64}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")


def check_settings(settings: ControlSettings) -> None:
    """Pass when what was set has its form. ValueError names the setting."""
    if settings.account_id and not re.fullmatch(r"\d{12}", settings.account_id):
        raise ValueError(f"fleet.account_id must be 12 digits, not {settings.account_id!r}")
    if settings.region and not _REGION.fullmatch(settings.region):
        raise ValueError(f"fleet.region must look like us-east-1, not {settings.region!r}")
    names = queue_nodes(settings)
    if any(not _NODE_ID.fullmatch(name) for name in names) or len(set(names)) != len(names):
        raise ValueError(f"fleet.queue_nodes must be different node ids by commas, not {settings.queue_nodes!r}")


def queue_nodes(settings: ControlSettings) -> list[str]:
    """The queue nodes that were set, or the default."""
    return [name.strip() for name in (settings.queue_nodes or defaults.DEFAULT_QUEUE_NODES).split(",")]


def found(settings: ControlSettings, fleet_id: str) -> list[resources_pb2.Resource]:
    """What a new fleet begins with. ValueError: more queue nodes than shards."""
    nodes = queue_nodes(settings)
    shards = settings.shards or defaults.DEFAULT_SHARDS
    if shards < len(nodes):
        raise ValueError(f"fleet.queue_nodes names {len(nodes)} nodes for {shards} shards: leave some out")
    fleet = resources_pb2.Fleet(
        fleet_id=fleet_id,
        account_id=settings.account_id or defaults.DEFAULT_ACCOUNT_ID,
        region=settings.region or defaults.DEFAULT_REGION,
        account_concurrency=settings.account_concurrency or defaults.DEFAULT_ACCOUNT_CONCURRENCY,
    )
    shard_map = resources_pb2.ShardMap(epoch=1, owner_node_ids=[nodes[i % len(nodes)] for i in range(shards)])
    tenant = resources_pb2.Tenant(tenant_id=DEFAULT_TENANT, quota_millionths=WHOLE_MILLIONTHS)
    return [
        resources_pb2.Resource(key="fleet", fleet=fleet),
        resources_pb2.Resource(key="shard-map", shard_map=shard_map),
        resources_pb2.Resource(key=f"tenant/{DEFAULT_TENANT}", tenant=tenant),
    ]


def require_same(settings: ControlSettings, state: State) -> None:
    """Pass when what was set agrees with what is stored. ValueError says what the data folder has."""
    fleet, owners = state.fleet, list(state.shard_map.owner_node_ids)
    here = f"the fleet in {settings.data_dir} has"
    if settings.shards and settings.shards != len(owners):
        raise ValueError(f"{here} {len(owners)} shards, for good: leave fleet.shards out or set it to {len(owners)}")
    if settings.account_id and settings.account_id != fleet.account_id:
        raise ValueError(f"{here} account {fleet.account_id}: leave fleet.account_id out or set it so")
    if settings.region and settings.region != fleet.region:
        raise ValueError(f"{here} region {fleet.region}: leave fleet.region out or set it so")
    # More nodes than have shards are welcome: shards can be moved to them.
    absent = missing_queue_nodes(settings, state)
    if absent:
        node_id, shard_ids = next(iter(absent.items()))
        listed = ", ".join(map(str, shard_ids[:MAX_LISTED_SHARDS])) + (", ..." if shard_ids[MAX_LISTED_SHARDS:] else "")
        raise ValueError(
            f"{here} shards on {node_id} ({listed}), which fleet.queue_nodes does not name: start that node, too "
            f"(evenflow up --queues), or move its shards away first (evenflow shards drain {node_id})"
        )


def missing_queue_nodes(settings: ControlSettings, state: State) -> dict[str, list[int]]:
    """Nodes that have shards, or are to get some, and that the setting leaves out, with those shards."""
    if not settings.queue_nodes:
        return {}
    named = set(queue_nodes(settings))
    absent: dict[str, list[int]] = {}
    for shard_id, owner in enumerate(state.shard_map.owner_node_ids):
        if owner not in named:
            absent.setdefault(owner, []).append(shard_id)
    for move in state.shard_map.moves:
        if move.to_node_id not in named:
            absent.setdefault(move.to_node_id, []).append(move.shard_id)
    return absent


def decide_account_concurrency(change: Change, settings: ControlSettings, state: State) -> None:
    """Take a new account concurrency, the one constant that may change. ValueError: too much is reserved for it."""
    wanted = settings.account_concurrency
    if not wanted or wanted == state.fleet.account_concurrency:
        return
    taken = state.total_reserved + state.total_provisioned
    least = taken + MIN_UNRESERVED if taken else 1
    if wanted < least:
        raise ValueError(
            f"fleet.account_concurrency {wanted} is too low: functions have {taken} of it for themselves and at "
            f"least {MIN_UNRESERVED} stay unreserved; set {least} or more"
        )
    fleet = resources_pb2.Fleet()
    fleet.CopyFrom(state.fleet)
    fleet.account_concurrency = wanted
    change.upserts.append(resources_pb2.Resource(key="fleet", fleet=fleet))
