"""Operations on a function's resource policy."""

import json
import re
from collections.abc import Mapping
from typing import Any

from evenflow.control.v1 import control_pb2, resources_pb2

from services.frontend.lambda_api.call import Call, Handler, Result
from services.frontend.lambda_api.errors import FUNCTION_REVISION, bad_value, missing
from services.frontend.lambda_api.names import Named, ask, named, require
from services.policy.arns import LATEST
from services.shared.errors import Reason
from services.shared.function_view import policy_revision_id

_ACCOUNT = re.compile(r"\d{12}")
_NO_POLICY = "The resource you requested does not exist."
_FIELDS: Mapping[str, str] = {
    "StatementId": "statement_id",
    "Action": "action",
    "Principal": "principal",
    "SourceArn": "source_arn",
    "SourceAccount": "source_account",
    "EventSourceToken": "event_source_token",
    "PrincipalOrgID": "principal_org_id",
    "FunctionUrlAuthType": "function_url_auth_type",
}


async def add_permission(call: Call) -> Result:
    """AddPermission."""
    name = await _policed(call)
    statement = resources_pb2.PermissionStatement(
        qualifier=name.qualifier, **{field: call.params.get(member) or "" for member, field in _FIELDS.items()}
    )
    request = control_pb2.AddPermissionRequest(
        tenant_id=call.tenant_id,
        function_name=name.function_name,
        statement=statement,
        expected_revision_id=call.params.get("RevisionId") or "",
    )
    texts: dict[int, str] = {
        Reason.ERROR_REASON_RESOURCE_CONFLICT: (
            f"The statement id ({statement.statement_id}) provided already exists. Please provide a new statement id, "
            "or remove the existing statement."
        ),
        Reason.ERROR_REASON_REVISION_MISMATCH: FUNCTION_REVISION,
    }
    answer = await ask(call, name, "AddPermission", request, texts)
    await call.control.refresh(call.tenant_id, name.function_name)
    return {"Statement": json.dumps(_document(call, name, answer.statement), separators=(",", ":"))}


async def remove_permission(call: Call) -> Result:
    """RemovePermission."""
    name = await _policed(call)
    statement_id = call.params["StatementId"]
    request = control_pb2.RemovePermissionRequest(
        tenant_id=call.tenant_id,
        function_name=name.function_name,
        statement_id=statement_id,
        qualifier=name.qualifier,
        expected_revision_id=call.params.get("RevisionId") or "",
    )
    texts: dict[int, str] = {
        Reason.ERROR_REASON_RESOURCE_NOT_FOUND: f"Statement {statement_id} is not found in resource policy.",
        Reason.ERROR_REASON_REVISION_MISMATCH: FUNCTION_REVISION,
    }
    await ask(call, name, "RemovePermission", request, texts)
    await call.control.refresh(call.tenant_id, name.function_name)
    return {}


async def get_policy(call: Call) -> Result:
    """GetPolicy: the statements of this qualifier alone."""
    name = named(call)
    view = await require(call, name)
    qualifier = "" if name.qualifier == LATEST else name.qualifier
    statements = [one for one in view.function.permissions if one.qualifier == qualifier]
    if not statements:
        raise missing(_NO_POLICY)
    policy = {
        "Version": "2012-10-17",
        "Id": "default",
        "Statement": [_document(call, name, statement) for statement in statements],
    }
    return {
        "Policy": json.dumps(policy, separators=(",", ":")),
        "RevisionId": policy_revision_id(view.function, qualifier),
    }


async def _policed(call: Call) -> Named:
    name = named(call)
    if name.qualifier == LATEST:
        raise bad_value("We currently do not support adding policies for $LATEST.")
    await require(call, name)
    return name


def _document(call: Call, name: Named, statement: resources_pb2.PermissionStatement) -> dict[str, Any]:
    document: dict[str, Any] = {
        "Sid": statement.statement_id,
        "Effect": "Allow",
        "Principal": _principal(statement.principal),
        "Action": statement.action,
        "Resource": name.arn_of(statement.qualifier) if statement.qualifier else name.arn,
    }
    conditions: dict[str, dict[str, str]] = {}
    if statement.source_arn:
        conditions["ArnLike"] = {"AWS:SourceArn": statement.source_arn}
    equals = {
        "AWS:SourceAccount": statement.source_account,
        "lambda:EventSourceToken": statement.event_source_token,
        "aws:PrincipalOrgID": statement.principal_org_id,
        "lambda:FunctionUrlAuthType": statement.function_url_auth_type,
    }
    equals = {key: value for key, value in equals.items() if value}
    if equals:
        conditions["StringEquals"] = equals
    if conditions:
        document["Condition"] = conditions
    return document


def _principal(principal: str) -> Any:
    if principal == "*":
        return "*"
    if _ACCOUNT.fullmatch(principal):
        return {"AWS": f"arn:aws:iam::{principal}:root"}
    if principal.endswith(".amazonaws.com"):
        return {"Service": principal}
    return {"AWS": principal}


OPERATIONS: Mapping[str, Handler] = {
    "AddPermission": add_permission,
    "RemovePermission": remove_permission,
    "GetPolicy": get_policy,
}
