"""Runs a function for a source that needs the answer: the frontend places it, as for every caller that waits."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import grpc
from evenflow.common.v1 import event_pb2
from evenflow.control.v1 import resources_pb2
from evenflow.frontend.v1 import frontend_pb2, frontend_pb2_grpc

from services.shared.channels import Peer
from services.shared.config_view import ConfigView
from services.shared.errors import TRY_ELSEWHERE, EvenflowError, Reason, has_detail

# Beyond a function's timeout: its start, its wait for a host, the way there and back.
ANSWER_MARGIN_MS = 30_000


@dataclass(frozen=True, slots=True)
class Call:
    """One invocation to make."""

    tenant_id: str
    function_name: str
    qualifier: str
    payload: bytes
    timeout_ms: int
    lineage: event_pb2.Lineage | None = None


# A run may have begun, by the refusals of a frontend and by `invoke`.
_MAY_HAVE_RUN = (
    Reason.ERROR_REASON_UNSPECIFIED,
    Reason.ERROR_REASON_INTERNAL,
    Reason.ERROR_REASON_OUTCOME_UNKNOWN,
    Reason.ERROR_REASON_DEADLINE_EXCEEDED,
)


def nothing_ran(error: EvenflowError) -> bool:
    """Whether a refusal says for sure that the function was not run."""
    return error.reason not in _MAY_HAVE_RUN


def may_help(error: EvenflowError) -> bool:
    """Whether a refusal says for sure that nothing ran, and that a repeat may help soon."""
    return error.reason in (*TRY_ELSEWHERE, Reason.ERROR_REASON_UNAVAILABLE)


class Invoker:
    """Invokes through whichever frontend is up, in turns; callers bound how many at once."""

    def __init__(self, view: Callable[[], ConfigView], dial: Callable[[str], Peer]) -> None:
        self._view = view
        self._dial = dial
        self._turns = itertools.count()

    async def invoke(self, call: Call) -> event_pb2.Outcome:
        """The outcome: success or the function's error. EvenflowError: see `nothing_ran` and `may_help`.

        OUTCOME_UNKNOWN: the frontend was lost, be it before the run or in the middle of it.
        """
        alive = resources_pb2.MEMBER_STATE_ALIVE
        doors = [m for m in self._view().members_of(resources_pb2.NODE_ROLE_FRONTEND) if m.state == alive]
        if not doors:
            raise EvenflowError(Reason.ERROR_REASON_NO_CAPACITY, "no frontend is there to run it")
        peer = self._dial(doors[next(self._turns) % len(doors)].address)
        stub = frontend_pb2_grpc.FrontendServiceStub(peer.channel)
        request = frontend_pb2.InvokeRequest(
            function_name=call.function_name,
            qualifier=call.qualifier,
            payload=call.payload,
            tenant_id=call.tenant_id,
            lineage=call.lineage,
        )
        try:
            answer: frontend_pb2.InvokeResponse = await stub.Invoke(
                request, metadata=peer.metadata, timeout=(call.timeout_ms + ANSWER_MARGIN_MS) / 1_000
            )
        except grpc.aio.AioRpcError as e:
            error = EvenflowError.from_rpc_error(e)
            if error.reason == Reason.ERROR_REASON_UNAVAILABLE and not has_detail(e):
                # Not the frontend's word.
                error = EvenflowError(Reason.ERROR_REASON_OUTCOME_UNKNOWN, error.message)
            raise error from None
        return answer.outcome
