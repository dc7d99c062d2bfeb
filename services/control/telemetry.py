"""Control's metrics: plain numbers, read when somebody looks."""

from collections import Counter
from collections.abc import Iterable, Mapping

from evenflow.control.v1 import resources_pb2

from services.control.feed import Feed
from services.control.ledger import Ledger
from services.control.state import State
from services.policy.sharing import ACCOUNT
from services.shared.metrics import Metrics, Value

Numbers = Iterable[tuple[Value, Mapping[str, str]]]


class ControlTelemetry:
    """Registers the gauges; they run on the endpoint's thread, over copies."""

    def __init__(self, metrics: Metrics, state: State, feed: Feed, ledger: Ledger) -> None:
        self._state = state
        self._feed = feed
        self._ledger = ledger
        metrics.gauge("evenflow_control_functions", "Functions.", lambda: [(len(state.functions), {})])
        metrics.gauge("evenflow_control_revision", "Revision of the state.", lambda: [(state.revision, {})])
        metrics.gauge("evenflow_control_members", "Nodes by role and state.", self._members)
        metrics.gauge("evenflow_control_limit", "Concurrency limits of which shares are given.", self._limits)
        metrics.gauge("evenflow_control_shares_given", "Concurrency that hosts may hold, by limit.", self._shares)
        metrics.gauge("evenflow_control_followers", "Watch streams.", lambda: [(len(feed.followers), {})])
        metrics.gauge(
            "evenflow_control_followers_cut", "Followers cut for being behind.", lambda: [(feed.cut_total, {})]
        )

    def _members(self) -> Numbers:
        counts = Counter((member.role, member.state) for member in list(self._state.members.values()))
        return [
            (
                count,
                {
                    "role": resources_pb2.NodeRole.Name(role).removeprefix("NODE_ROLE_").lower(),
                    "state": resources_pb2.MemberState.Name(state).removeprefix("MEMBER_STATE_").lower(),
                },
            )
            for (role, state), count in counts.items()
        ]

    def _limits(self) -> Numbers:
        limits = {**self._state.reservations, **self._state.provisioned, ACCOUNT: self._state.unreserved}
        return [(limit, {"limit": key}) for key, limit in limits.items()]

    def _shares(self) -> Numbers:
        return [(given, {"limit": key}) for key, given in self._ledger.totals().items()]
