"""Which role may call what, as data. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.shared.identity import FRONTEND, OPERATOR, POLLER, QUEUE, RUNTIME


@dataclass(frozen=True, slots=True)
class AllBut:
    """Every method of a service except these."""

    methods: frozenset[str] = field(default_factory=frozenset)

    def __contains__(self, method: str) -> bool:
        return method not in self.methods


Methods = frozenset[str] | AllBut
_EVERYTHING = AllBut()
# What every node needs to know of the fleet.
_MEMBER = frozenset({"Watch", "Join", "GetFunction", "ListMembers"})
# A door speaks for tenants: it changes functions and what belongs to them, never tenants, keys and where shards are.
_OPERATORS_OWN = frozenset(
    {
        "PutTenant",
        "ListTenants",
        "DeleteTenant",
        "CreateAccessKey",
        "DeleteAccessKey",
        "MoveShard",
        "CompleteMove",
    }
)
RULES: Mapping[str, Mapping[str, Methods]] = {
    "evenflow.control.v1.ControlService": {
        FRONTEND: AllBut(_OPERATORS_OWN),
        QUEUE: _MEMBER | {"CompleteMove"},
        POLLER: _MEMBER,
        RUNTIME: _MEMBER | {"DownloadPackage"},
        OPERATOR: AllBut(frozenset({"Join", "CompleteMove"})),
    },
    "evenflow.frontend.v1.FrontendService": {POLLER: frozenset({"Publish", "Invoke"}), OPERATOR: _EVERYTHING},
    "evenflow.queue.v1.QueueService": {
        FRONTEND: frozenset({"Enqueue", "WatchDepths", "GetEvent"}),
        POLLER: frozenset({"Lease", "Settle"}),
        # A shard moves from node to node.
        QUEUE: frozenset({"FetchShard"}),
        OPERATOR: AllBut(frozenset({"Enqueue", "Lease", "Settle", "FetchShard"})),
    },
    "evenflow.runtime.v1.RuntimeService": {
        FRONTEND: frozenset({"Invoke"}),
        POLLER: frozenset({"Invoke"}),
        OPERATOR: AllBut(frozenset({"Invoke"})),
    },
    "evenflow.poller.v1.PollerService": {OPERATOR: _EVERYTHING},
}
# Says only whether a service serves; a certificate of the fleet is needed all the same.
_HEALTH = "grpc.health.v1.Health"
_REFLECTION = frozenset({"grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection"})


def may_call(role: str, path: str) -> bool:
    """Whether a role may call a method, given as gRPC has it: `/PACKAGE.SERVICE/METHOD`. What no rule names: no."""
    service, _, method = path.removeprefix("/").partition("/")
    if service == _HEALTH:
        return True
    if service in _REFLECTION:
        return role == OPERATOR
    return method in RULES.get(service, {}).get(role, frozenset())
