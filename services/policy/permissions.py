"""Who may do what: keys of tenants, functions with their own credentials, and what policies open to others. Pure.

A key may do everything with what is its tenant's and nothing with anything else, but for calls that the other
function's policy allows. A function may do what its version's `allows` says and its tenant may do: both must hold
(ADR 20).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.policy.arns import LATEST
from services.policy.patterns import matches

INVOKE = "lambda:InvokeFunction"
INVOKE_URL = "lambda:InvokeFunctionUrl"
# What a function's policy can open to another tenant; everything else stays with the owner, whatever it says.
_OPEN_TO_OTHERS = frozenset({INVOKE, INVOKE_URL})
_ACCOUNT_DIGITS = 12


class Allowance(Protocol):
    """evenflow.control.v1.Allowance: one thing that a function may do."""

    @property
    def action(self) -> str: ...
    @property
    def resource(self) -> str: ...


class Statement(Protocol):
    """evenflow.control.v1.PermissionStatement: what a function's policy opens to others."""

    @property
    def qualifier(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def principal(self) -> str: ...
    @property
    def source_arn(self) -> str: ...
    @property
    def source_account(self) -> str: ...
    @property
    def event_source_token(self) -> str: ...
    @property
    def principal_org_id(self) -> str: ...
    @property
    def function_url_auth_type(self) -> str: ...


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """Who calls. `principal`: its ARN, for messages and policies. Two of them are never equal: doors remember by them.

    `function_arn`: of a function with its own credentials, bound by `allows`; empty for a tenant's key.
    """

    tenant_id: str
    account_id: str
    principal: str
    function_arn: str = ""
    allows: Sequence[Allowance] = ()

    @property
    def is_function(self) -> bool:
        """Whether it is bound by `allows`."""
        return bool(self.function_arn)


# Nobody that is known: a request without a signature, which only a statement for everybody is about.
ANONYMOUS = Caller("", "", "anonymous")


@dataclass(frozen=True, slots=True)
class Resource:
    """What an action is about. `arn`: as named, with its qualifier; "*": nothing in particular, such as a list.

    `statements`: the resource policy, for functions. `url_auth_type`: for calls by a function's URL.
    """

    tenant_id: str
    arn: str
    function_name: str = ""
    qualifier: str = ""
    statements: Sequence[Statement] = ()
    url_auth_type: str = ""


def may(caller: Caller, action: str, resource: Resource) -> bool:
    """Whether the caller may do this."""
    return why_not(caller, action, resource) is None


def why_not(caller: Caller, action: str, resource: Resource) -> str | None:
    """None: it may. Else the sentence for the caller, as AWS words it; the same whether or not the resource exists."""
    if caller.is_function and not any(_allows(one, caller, action, resource) for one in caller.allows):
        return (
            f"{_refused(caller, action, resource)} because no identity-based policy allows the {action} action: the "
            f"function's deploy file can (allows)"
        )
    if resource.tenant_id == caller.tenant_id:
        return None
    if action in _OPEN_TO_OTHERS and any(_opens(one, caller, action, resource) for one in resource.statements):
        return None
    return f"{_refused(caller, action, resource)} because no resource-based policy allows the {action} action"


def _refused(caller: Caller, action: str, resource: Resource) -> str:
    return f"User: {caller.principal} is not authorized to perform: {action} on resource: {resource.arn}"


def _allows(allowance: Allowance, caller: Caller, action: str, resource: Resource) -> bool:
    if not matches(allowance.action.lower(), action.lower()):
        return False
    pattern = allowance.resource
    if pattern == "*" or pattern.startswith("arn:"):
        return matches(pattern, resource.arn)
    # A bare name is a function of the caller's own tenant, with any qualifier; NAME:QUALIFIER is that one alone.
    if not resource.function_name or resource.tenant_id != caller.tenant_id:
        return False
    name, _, qualifier = pattern.partition(":")
    return matches(name, resource.function_name) and (not qualifier or matches(qualifier, resource.qualifier or LATEST))


def _opens(statement: Statement, caller: Caller, action: str, resource: Resource) -> bool:
    asked = "" if resource.qualifier == LATEST else resource.qualifier
    # Conditions that nothing here can meet keep the statement shut: organizations and event source tokens are unknown.
    if statement.principal_org_id or statement.event_source_token or statement.qualifier != asked:
        return False
    if statement.function_url_auth_type and statement.function_url_auth_type != resource.url_auth_type:
        return False
    # Only a function is a source; a key is none, and a statement that wants one is not about it.
    if statement.source_arn and not (caller.function_arn and matches(statement.source_arn, caller.function_arn)):
        return False
    if statement.source_account and not (caller.function_arn and statement.source_account == caller.account_id):
        return False
    return matches(statement.action.lower(), action.lower()) and _is(statement.principal, caller)


def _is(principal: str, caller: Caller) -> bool:
    if principal == "*" or caller is ANONYMOUS:
        return principal == "*"
    if principal.isdigit() and len(principal) == _ACCOUNT_DIGITS:
        # Twelve digits are an account, never a tenant that happens to be called so.
        return principal == caller.account_id
    roots = (caller.tenant_id, f"arn:aws:iam::{caller.account_id}:root", caller.principal)
    return principal in roots or (caller.is_function and principal == caller.function_arn)
