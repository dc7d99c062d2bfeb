"""Resource policies: who else may call a function."""

from evenflow.control.v1 import control_pb2, resources_pb2

from services.control.changes import Change
from services.control.editor import FunctionEditor, conflict, not_found, refusal, require_qualifier, require_revision
from services.policy.arns import LATEST, function_arn
from services.policy.permission_rules import MAX_POLICY_BYTES, PermissionSpec, check_permission, policy_bytes
from services.policy.rules import RuleBroken
from services.shared.errors import EvenflowError, Reason, invalid
from services.shared.function_view import FunctionView, policy_revision_id


class Permissions:
    """Decides changes of resource policies; each `decide_…` fills a change in its turn."""

    def __init__(self, editor: FunctionEditor) -> None:
        self._editor = editor

    def decide_add(
        self, change: Change, request: control_pb2.AddPermissionRequest
    ) -> control_pb2.AddPermissionResponse:
        """See the contract. EvenflowError also INVALID_PARAMETER: a rule is broken, or the qualifier is $LATEST."""
        function = self._editor.copy(request.tenant_id, request.function_name)
        statement = request.statement
        qualifier = _require_policed(function, statement.qualifier)
        _require_policy(function, qualifier, request.expected_revision_id)
        try:
            check_permission(_spec_of(statement))
        except RuleBroken as e:
            raise refusal(e) from None
        if _index_of(function, statement.statement_id, qualifier) is not None:
            raise conflict(
                f"The statement id ({statement.statement_id}) provided already exists. "
                "Please provide a new statement id, or remove the existing statement."
            )
        function.permissions.append(statement)
        self._require_room(function)
        self._editor.store(change, function)
        return control_pb2.AddPermissionResponse(statement=statement)

    def decide_remove(
        self, change: Change, request: control_pb2.RemovePermissionRequest
    ) -> control_pb2.RemovePermissionResponse:
        """See the contract."""
        function = self._editor.copy(request.tenant_id, request.function_name)
        qualifier = _require_policed(function, request.qualifier)
        _require_policy(function, qualifier, request.expected_revision_id)
        index = _index_of(function, request.statement_id, qualifier)
        if index is None:
            raise not_found(f"Statement {request.statement_id[:100]} is not found in resource policy.")
        del function.permissions[index]
        self._editor.store(change, function)
        return control_pb2.RemovePermissionResponse()

    def _require_room(self, function: resources_pb2.Function) -> None:
        home = self._editor.home(function.tenant_id)
        arn = function_arn(home.region, home.account_id, function.function_name)
        size_bytes = policy_bytes(map(_spec_of, function.permissions), arn)
        if size_bytes > MAX_POLICY_BYTES:
            text = (
                f"the policy would have {size_bytes:,} bytes; at most {MAX_POLICY_BYTES:,} are kept: remove statements"
            )
            raise EvenflowError(Reason.ERROR_REASON_POLICY_TOO_LONG, text)


def _require_policed(function: resources_pb2.Function, qualifier: str) -> str:
    if qualifier == LATEST:
        raise invalid(f"We currently do not support adding policies for {LATEST}.", field="qualifier")
    return require_qualifier(function, qualifier)


def _require_policy(function: resources_pb2.Function, qualifier: str, expected: str) -> None:
    # AWS has one id for a version and its policy: what GetFunction told is as good as what GetPolicy did.
    if expected != FunctionView(function).revision_id(qualifier):
        require_revision(expected, policy_revision_id(function, qualifier), "GetPolicy")


def _index_of(function: resources_pb2.Function, statement_id: str, qualifier: str) -> int | None:
    named = (statement_id, qualifier)
    found = (i for i, one in enumerate(function.permissions) if (one.statement_id, one.qualifier) == named)
    return next(found, None)


def _spec_of(statement: resources_pb2.PermissionStatement) -> PermissionSpec:
    return PermissionSpec(
        statement_id=statement.statement_id,
        action=statement.action,
        principal=statement.principal,
        qualifier=statement.qualifier,
        source_arn=statement.source_arn,
        source_account=statement.source_account,
        event_source_token=statement.event_source_token,
        principal_org_id=statement.principal_org_id,
        function_url_auth_type=statement.function_url_auth_type,
    )
