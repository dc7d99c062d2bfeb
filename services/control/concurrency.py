"""Reserved and provisioned concurrency: how much, and how far hosts are with it."""

from evenflow.control.v1 import control_pb2, resources_pb2

from services.control.changes import Change
from services.control.editor import FunctionEditor, conflict, refusal, require_qualifier
from services.control.ledger import Ledger
from services.control.provisioned_totals import requests_of, total_of
from services.control.steward import Steward
from services.policy.arns import LATEST
from services.policy.concurrency_rules import Taken, check_provisioned, check_reservation
from services.policy.provisioned import provisioned_key, statuses_of
from services.policy.rules import RuleBroken
from services.shared.errors import EvenflowError, Reason, invalid


class Concurrency:
    """Decides changes of concurrency; each `decide_…` fills a change in its turn."""

    def __init__(self, editor: FunctionEditor, ledger: Ledger, steward: Steward) -> None:
        self._editor = editor
        self._ledger = ledger
        self._steward = steward

    def decide_reserve(
        self, change: Change, request: control_pb2.PutConcurrencyRequest
    ) -> control_pb2.PutConcurrencyResponse:
        """Reserve, or lift the reservation. EvenflowError: too much, or no such function."""
        function = self._editor.copy(request.tenant_id, request.function_name)
        reserve(function, reservation_of(request))
        require_concurrency(self._editor, function)
        self._editor.store(change, function)
        return control_pb2.PutConcurrencyResponse(function=function)

    def decide_provision(
        self, change: Change, request: control_pb2.PutProvisionedRequest
    ) -> control_pb2.PutProvisionedResponse:
        """Ask for sandboxes to be kept ready, or lift that.

        EvenflowError: see the contract; INVALID_PARAMETER: too many, or of $LATEST; RESOURCE_CONFLICT: an alias and the
        version that it points at cannot both have some.
        """
        function = self._editor.copy(request.tenant_id, request.function_name)
        qualifier = require_qualifier(function, request.qualifier)
        if not request.HasField("requested"):
            if qualifier not in function.provisioned:
                raise _absent()
            del function.provisioned[qualifier]
            self._editor.store(change, function)
            return control_pb2.PutProvisionedResponse()
        if not request.requested:
            raise invalid("requested must be at least 1; leave it unset to lift it", field="requested")
        function.provisioned[qualifier].requested = request.requested
        require_published(function)
        _require_apart(function, qualifier)
        require_concurrency(self._editor, function)
        function.provisioned[qualifier].modified_at_ms = self._editor.now_ms()
        self._editor.store(change, function)
        return control_pb2.PutProvisionedResponse(status=self._statuses(function)[qualifier])

    def read(self, request: control_pb2.ReadProvisionedRequest) -> control_pb2.ReadProvisionedResponse:
        """How far it is. EvenflowError FUNCTION_NOT_FOUND, RESOURCE_NOT_FOUND, PROVISIONED_NOT_FOUND."""
        function = self._editor.get(request.tenant_id, request.function_name)
        statuses = self._statuses(function)
        if not request.qualifier:
            return control_pb2.ReadProvisionedResponse(statuses=[one for _, one in sorted(statuses.items())])
        status = statuses.get(require_qualifier(function, request.qualifier))
        if status is None:
            raise _absent()
        return control_pb2.ReadProvisionedResponse(statuses=[status])

    def _statuses(self, function: resources_pb2.Function) -> dict[str, control_pb2.ProvisionedStatus]:
        hosts, lost = self._steward.hosts_in_touch(), self._steward.lost_hosts()
        found = {}
        for version, requests in requests_of(function).items():
            key = provisioned_key(function.tenant_id, function.function_name, version)
            for qualifier, status in statuses_of(requests, self._ledger.standing(key, lost), hosts).items():
                found[qualifier] = control_pb2.ProvisionedStatus(
                    qualifier=qualifier,
                    requested=requests[qualifier],
                    allocated=status.allocated,
                    available=status.available,
                    status=status.status,
                    status_reason=status.reason,
                    modified_at_ms=function.provisioned[qualifier].modified_at_ms,
                )
        return found


def reservation_of(holder: resources_pb2.Function | control_pb2.PutConcurrencyRequest | None) -> int | None:
    """What is reserved; None: nothing is."""
    if holder is None or not holder.HasField("reserved_concurrency"):
        return None
    return holder.reserved_concurrency


def reserve(function: resources_pb2.Function, reserved: int | None) -> None:
    """Set or lift the reservation of a function that may be changed."""
    function.ClearField("reserved_concurrency")
    if reserved is not None:
        function.reserved_concurrency = reserved


def require_concurrency(editor: FunctionEditor, function: resources_pb2.Function) -> None:
    """Pass when what the function has reserved and provisioned fits the account. EvenflowError INVALID_PARAMETER."""
    state, reserved, provisioned = editor.state, reservation_of(function), total_of(function)
    before = state.function(function.tenant_id, function.function_name)
    reserved_before, provisioned_before = reservation_of(before), total_of(before) if before is not None else 0
    others = Taken(
        reserved=state.total_reserved - (reserved_before or 0),
        provisioned=state.total_provisioned - (provisioned_before if reserved_before is None else 0),
    )
    if (reserved, provisioned) == (reserved_before, provisioned_before):
        return
    try:
        if reserved is not None and reserved != reserved_before:
            check_reservation(reserved, provisioned, others, state.fleet.account_concurrency)
        else:
            check_provisioned(provisioned, reserved, others, state.fleet.account_concurrency)
    except RuleBroken as e:
        raise refusal(e) from None


def require_published(function: resources_pb2.Function) -> None:
    """Pass when nothing is to be kept ready of $LATEST. EvenflowError INVALID_PARAMETER."""
    if not {"", LATEST}.isdisjoint(requests_of(function)):
        text = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
        raise invalid(text, field="qualifier")


def _require_apart(function: resources_pb2.Function, qualifier: str) -> None:
    for alias in function.aliases:
        if alias.function_version == qualifier and alias.name in function.provisioned:
            raise conflict("Version is pointed by a Provisioned Concurrency alias")
    require_aliases_apart(function)


def require_aliases_apart(function: resources_pb2.Function) -> None:
    """Pass when no alias and the version that it points at both have some. EvenflowError RESOURCE_CONFLICT."""
    for alias in function.aliases:
        if alias.name in function.provisioned and alias.function_version in function.provisioned:
            text = "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
            raise conflict(text)


def _absent() -> EvenflowError:
    text = "No Provisioned Concurrency Config found for this function"
    return EvenflowError(Reason.ERROR_REASON_PROVISIONED_NOT_FOUND, text)
