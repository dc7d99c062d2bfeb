"""What a statement of a function's resource policy may look like. Pure; RuleBroken says what to do."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from services.policy.rules import RuleBroken

MAX_POLICY_BYTES = 20_480
MAX_PRINCIPAL_CHARACTERS = 2_048
MAX_SOURCE_ARN_CHARACTERS = 10_000
URL_AUTH_TYPES = ("NONE", "AWS_IAM")
_STATEMENT_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_ACTION = re.compile(r"lambda:\*|lambda:[A-Za-z]{1,64}|\*")
_PRINCIPAL = re.compile(r"[^\s\x00-\x1f\x7f]+")
# Of any service, with * and ? in its parts.
_SOURCE_ARN = re.compile(r"arn:[^\s:]+:[^\s:]+:[^\s:]*:[^\s:]*:\S+|\*")
_ACCOUNT = re.compile(r"\d{12}")
_TOKEN = re.compile(r"[A-Za-z0-9._-]{1,256}")
_ORGANIZATION = re.compile(r"o-[a-z0-9]{10,32}")


@dataclass(frozen=True, slots=True)
class PermissionSpec:
    """A statement as asked for; empty: not given."""

    statement_id: str
    action: str
    principal: str
    qualifier: str = ""
    source_arn: str = ""
    source_account: str = ""
    event_source_token: str = ""
    principal_org_id: str = ""
    function_url_auth_type: str = ""


def check_permission(spec: PermissionSpec) -> None:
    """Pass when every field keeps its rule. RuleBroken."""
    if not _STATEMENT_ID.fullmatch(spec.statement_id):
        text = f"{spec.statement_id[:80]!r} must be 1 to 100 characters of A-Z a-z 0-9 _ -"
        raise RuleBroken("statement_id", text)
    if not _ACTION.fullmatch(spec.action):
        raise RuleBroken("action", f"{spec.action[:80]!r} is no action such as lambda:InvokeFunction or lambda:*")
    if len(spec.principal) > MAX_PRINCIPAL_CHARACTERS or not _PRINCIPAL.fullmatch(spec.principal):
        text = f"{spec.principal[:80]!r} must be an account, an ARN, a service such as s3.amazonaws.com, or *"
        raise RuleBroken("principal", text)
    if spec.source_arn and (
        len(spec.source_arn) > MAX_SOURCE_ARN_CHARACTERS or not _SOURCE_ARN.fullmatch(spec.source_arn)
    ):
        raise RuleBroken("source_arn", f"{spec.source_arn[:80]!r} is no ARN such as arn:aws:s3:::my-bucket")
    if spec.function_url_auth_type and spec.function_url_auth_type not in URL_AUTH_TYPES:
        text = f"{spec.function_url_auth_type[:40]!r} must be {' or '.join(URL_AUTH_TYPES)}"
        raise RuleBroken("function_url_auth_type", text)
    for field_name, value, form in (
        ("source_account", spec.source_account, _ACCOUNT),
        ("event_source_token", spec.event_source_token, _TOKEN),
        ("principal_org_id", spec.principal_org_id, _ORGANIZATION),
    ):
        if value and not form.fullmatch(value):
            raise RuleBroken(field_name, f"{value[:80]!r} does not have the form {form.pattern}")


def policy_bytes(specs: Iterable[PermissionSpec], function_arn: str) -> int:
    """Size of a policy of these statements as JSON, counted as the documents that callers are shown are long."""
    statements = [_document(spec, function_arn) for spec in specs]
    policy = {"Version": "2012-10-17", "Id": "default", "Statement": statements}
    return len(json.dumps(policy, separators=(",", ":")).encode())


def _document(spec: PermissionSpec, function_arn: str) -> dict[str, object]:
    arn = f"{function_arn}:{spec.qualifier}" if spec.qualifier else function_arn
    conditions = {
        "AWS:SourceArn": spec.source_arn,
        "AWS:SourceAccount": spec.source_account,
        "lambda:EventSourceToken": spec.event_source_token,
        "aws:PrincipalOrgID": spec.principal_org_id,
        "lambda:FunctionUrlAuthType": spec.function_url_auth_type,
    }
    given = {key: value for key, value in conditions.items() if value}
    document: dict[str, object] = {
        "Sid": spec.statement_id,
        "Effect": "Allow",
        "Principal": {"Service": spec.principal},
        "Action": spec.action,
        "Resource": arn,
    }
    return {**document, "Condition": {"StringEquals": given}} if given else document
