"""Who may do what: keys, functions, and what a function's policy opens to another tenant."""

import re
from typing import Any

import pytest
from evenflow.control.v1.resources_pb2 import Allowance, PermissionStatement
from hypothesis import given
from hypothesis import strategies as st

from services.policy.accounts import account_of
from services.policy.patterns import matches
from services.policy.permissions import INVOKE, INVOKE_URL, Caller, Resource, may, why_not

FLEET = "123456789012"
A, B = account_of("tenant-a", FLEET), account_of("tenant-b", FLEET)
KEY_OF_A = Caller("tenant-a", A, f"arn:aws:iam::{A}:user/AKIAA")
KEY_OF_B = Caller("tenant-b", B, f"arn:aws:iam::{B}:user/AKIAB")


def function_of_b(*allows: tuple[str, str]) -> Caller:
    """Function `caller` of tenant-b with its own credentials."""
    arn = f"arn:aws:lambda:us-east-1:{B}:function:caller"
    allowances = [Allowance(action=action, resource=resource) for action, resource in allows]
    return Caller("tenant-b", B, f"arn:aws:sts::{B}:assumed-role/evenflow/caller", arn, allowances)


def resource(tenant: str, name: str = "target", qualifier: str = "", **more: Any) -> Resource:
    """A function of a tenant; `more`: fields of one statement of its policy."""
    arn = f"arn:aws:lambda:us-east-1:{account_of(tenant, FLEET)}:function:{name}" + (
        f":{qualifier}" if qualifier else ""
    )
    url_auth_type = str(more.pop("url_auth_type", ""))
    statements = [PermissionStatement(**more)] if more else []
    return Resource(tenant, arn, name, qualifier, statements, url_auth_type)


def test_a_key_may_do_everything_with_its_own_and_nothing_with_the_rest() -> None:
    """Whatever the action; the answer names who was refused what."""
    for action in (INVOKE, "lambda:DeleteFunction", "lambda:ListFunctions"):
        assert may(KEY_OF_A, action, resource("tenant-a"))
        said = why_not(KEY_OF_B, action, resource("tenant-a"))
        assert said is not None and KEY_OF_B.principal in said and action in said and resource("tenant-a").arn in said


@pytest.mark.parametrize("principal", ["*", "tenant-b", B, f"arn:aws:iam::{B}:root", KEY_OF_B.principal])
def test_a_policy_opens_a_function_to_who_it_names(principal: str) -> None:
    """By tenant, account, root or key; the owner's own keys need none."""
    assert may(KEY_OF_B, INVOKE, resource("tenant-a", principal=principal, action=INVOKE))
    assert may(KEY_OF_B, INVOKE, resource("tenant-a", principal=principal, action="lambda:*"))


@pytest.mark.parametrize(
    "statement",
    [
        {"principal": "tenant-c"},
        {"principal": A},
        {"principal": f"arn:aws:iam::{A}:root"},
        {"principal": "tenant-"},
        {"principal": "s3.amazonaws.com"},
        {"principal": ""},
        {"principal": "*", "action": "lambda:GetFunction"},
        {"principal": "*", "action": INVOKE_URL},
        {"principal": "*", "qualifier": "live"},
        {"principal": "*", "source_arn": "*"},
        {"principal": "*", "source_account": B},
        {"principal": "*", "principal_org_id": "o-1"},
        {"principal": "*", "event_source_token": "t"},
        {"principal": "*", "function_url_auth_type": "NONE"},
    ],
)
def test_a_statement_that_does_not_fit_opens_nothing(statement: dict[str, str]) -> None:
    """Each condition must be met; one that nothing can meet keeps the statement shut."""
    assert not may(KEY_OF_B, INVOKE, resource("tenant-a", **{"action": INVOKE, **statement}))


def test_a_policy_opens_invocations_only() -> None:
    """Code, configuration and policy of a function stay with its owner, whatever the statement says."""
    for action in ("lambda:GetFunction", "lambda:UpdateFunctionCode", "lambda:AddPermission", "lambda:*"):
        assert not may(KEY_OF_B, action, resource("tenant-a", principal="*", action="*"))


def test_a_qualifier_has_a_policy_of_its_own() -> None:
    """A statement about an alias is about calls of that alias; $LATEST is the unqualified function."""
    about_alias = [PermissionStatement(principal="*", action=INVOKE, qualifier="live")]
    assert may(KEY_OF_B, INVOKE, Resource("tenant-a", "arn", "target", "live", about_alias))
    assert not may(KEY_OF_B, INVOKE, Resource("tenant-a", "arn", "target", "", about_alias))
    unqualified = resource("tenant-a", principal="*", action=INVOKE)
    assert may(KEY_OF_B, INVOKE, Resource("tenant-a", "arn", "target", "$LATEST", unqualified.statements))
    assert not may(KEY_OF_B, INVOKE, Resource("tenant-a", "arn", "target", "live", unqualified.statements))


def test_urls_are_opened_by_their_auth_type() -> None:
    """A statement for AWS_IAM is about no other URL."""
    fields = {"principal": "tenant-b", "action": INVOKE_URL, "function_url_auth_type": "AWS_IAM"}
    assert may(KEY_OF_B, INVOKE_URL, resource("tenant-a", url_auth_type="AWS_IAM", **fields))
    assert not may(KEY_OF_B, INVOKE_URL, resource("tenant-a", url_auth_type="NONE", **fields))


def test_a_tenant_that_is_called_like_an_account_is_not_it() -> None:
    """Twelve digits are an account id."""
    impostor = Caller(A, B, "arn:aws:iam::x:user/k")
    assert not may(impostor, INVOKE, resource("tenant-c", principal=A, action=INVOKE))


@pytest.mark.parametrize(
    ("allow", "called", "expected"),
    [
        ((INVOKE, "target"), ("target", ""), True),
        ((INVOKE, "target"), ("target", "live"), True),
        ((INVOKE, "target:live"), ("target", "live"), True),
        ((INVOKE, "target:live"), ("target", ""), False),
        ((INVOKE, "other"), ("target", ""), False),
        ((INVOKE, "tar*"), ("target", ""), True),
        ((INVOKE, "*"), ("target", ""), True),
        (("lambda:*", "target"), ("target", ""), True),
        (("LAMBDA:invokefunction", "target"), ("target", ""), True),
        (("lambda:GetFunction", "target"), ("target", ""), False),
        ((INVOKE, f"arn:aws:lambda:us-east-1:{B}:function:target"), ("target", ""), True),
        ((INVOKE, f"arn:aws:lambda:us-east-1:{B}:function:target"), ("target", "live"), False),
        ((INVOKE, f"arn:aws:lambda:*:{B}:function:target:*"), ("target", "live"), True),
        ((INVOKE, f"arn:aws:lambda:us-east-1:{A}:function:target"), ("target", ""), False),
    ],
)
def test_a_function_may_do_what_its_deploy_file_says(
    allow: tuple[str, str], called: tuple[str, str], expected: bool
) -> None:
    """And no more: within its own tenant, too."""
    assert may(function_of_b(allow), INVOKE, resource("tenant-b", *called)) is expected
    assert not may(function_of_b(), INVOKE, resource("tenant-b", *called))


def test_a_function_needs_both_sides_to_reach_another_tenant() -> None:
    """Its own `allows` and the other function's policy; a bare name is never another tenant's function."""
    arn = resource("tenant-a").arn
    opened = {"principal": "tenant-b", "action": INVOKE}
    assert may(function_of_b((INVOKE, arn)), INVOKE, resource("tenant-a", **opened))
    assert not may(function_of_b((INVOKE, arn)), INVOKE, resource("tenant-a"))
    assert not may(function_of_b((INVOKE, "target")), INVOKE, resource("tenant-a", **opened))
    from_one = {**opened, "source_arn": f"arn:aws:lambda:*:{B}:function:caller", "source_account": B}
    assert may(function_of_b((INVOKE, "*")), INVOKE, resource("tenant-a", **from_one))
    assert not may(function_of_b((INVOKE, "*")), INVOKE, resource("tenant-a", **{**from_one, "source_account": A}))


def test_lists_are_nothing_in_particular() -> None:
    """An action without a resource needs "*"."""
    everything = Resource("tenant-b", "*")
    assert may(function_of_b(("lambda:ListFunctions", "*")), "lambda:ListFunctions", everything)
    assert not may(function_of_b(("lambda:ListFunctions", "target")), "lambda:ListFunctions", everything)


@given(st.text("ab*?", max_size=8), st.text("ab*?", max_size=10))
def test_patterns_are_what_a_regular_expression_would_say(pattern: str, text: str) -> None:
    """Against re, on texts that are short enough for it."""
    expected = re.fullmatch("".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern), text)
    assert matches(pattern, text) is (expected is not None)


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    """A backtracking engine would not come back from this one."""
    assert not matches("*a" * 100 + "b", "a" * 1_000)


def test_accounts_are_digits_and_differ() -> None:
    """Twelve digits, the same every time; the default tenant has the fleet's."""
    assert account_of("default", FLEET) == FLEET
    made = {account_of(f"t{n}", FLEET) for n in range(1_000)}
    assert len(made) == 1_000 and all(len(one) == 12 and one.isdigit() and one[0] != "0" for one in made)
