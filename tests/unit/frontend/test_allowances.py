"""What a function may do at the Lambda API: all that a request names must be allowed."""

from typing import Any, cast

import pytest
from evenflow.control.v1.resources_pb2 import Allowance

from services.frontend.lambda_api.allowances import require_allowed
from services.frontend.lambda_api.call import Call
from services.frontend.lambda_api.errors import ApiError
from services.policy.permissions import Caller

ACCOUNT = "123456789012"
ARN = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:"
LAYER = f"arn:aws:lambda:us-east-1:{ACCOUNT}:layer:"
UUID = "b111684c-816c-4460-aa17-6b7d8f75db9d"
MAPPING = f"arn:aws:lambda:us-east-1:{ACCOUNT}:event-source-mapping:{UUID}"


def is_allowed(operation: str, params: dict[str, Any], *allows: tuple[str, str]) -> bool:
    """Whether a function with this list may."""
    nothing = cast(Any, None)
    call = Call(operation, params, "default", ACCOUNT, "us-east-1", "door", 0, nothing, nothing, nothing)
    allowances = [Allowance(action=action, resource=resource) for action, resource in allows]
    try:
        require_allowed(call, Caller("default", ACCOUNT, "arn:aws:sts::x:y", f"{ARN}caller", allowances))
    except ApiError as e:
        assert (e.code, e.status) == ("AccessDeniedException", 403) and operation in e.text
        return False
    return True


@pytest.mark.parametrize(
    ("operation", "params", "allow", "expected"),
    [
        ("GetFunction", {"FunctionName": "f"}, ("lambda:GetFunction*", "f"), True),
        ("GetFunctionConfiguration", {"FunctionName": f"{ARN}f"}, ("lambda:GetFunction*", "f"), True),
        ("GetFunction", {"FunctionName": "f", "Qualifier": "live"}, ("lambda:GetFunction", f"{ARN}f"), False),
        ("GetFunction", {"FunctionName": "f", "Qualifier": "live"}, ("lambda:GetFunction", f"{ARN}f:*"), True),
        ("UpdateFunctionCode", {"FunctionName": "f"}, ("lambda:Get*", "f"), False),
        ("ListFunctions", {}, ("lambda:ListFunctions", "f"), False),
        ("ListFunctions", {}, ("lambda:ListFunctions", "*"), True),
        ("ListTags", {"Resource": f"{ARN}f"}, ("lambda:ListTags", f"{ARN}f"), True),
        ("ListTags", {"Resource": f"{ARN}g"}, ("lambda:ListTags", f"{ARN}f"), False),
        ("GetLayerVersion", {"LayerName": "l", "VersionNumber": 1}, ("lambda:*", f"{ARN}*"), False),
        ("GetLayerVersion", {"LayerName": f"{LAYER}secret", "VersionNumber": 1}, ("lambda:*", f"{LAYER}a*"), False),
        ("GetLayerVersion", {"LayerName": f"{LAYER}app", "VersionNumber": 1}, ("lambda:*", f"{LAYER}a*"), True),
        ("GetLayerVersion", {"LayerName": "app", "VersionNumber": 1}, ("lambda:*", f"{LAYER}a*"), True),
        ("GetEventSourceMapping", {"UUID": UUID}, ("lambda:*", "*:event-source-mapping:*"), False),
        ("GetEventSourceMapping", {"UUID": UUID}, ("lambda:*", MAPPING), True),
    ],
)
def test_an_operation_is_allowed_for_what_it_names(
    operation: str, params: dict[str, Any], allow: tuple[str, str], expected: bool
) -> None:
    """By name and pattern; a pattern that is no ARN is a function's name."""
    assert is_allowed(operation, params, allow) is expected
    assert not is_allowed(operation, params)


def test_a_source_is_given_to_another_function_only_where_both_are_allowed() -> None:
    """Else a function could take over what others listen to."""
    params = {"UUID": UUID, "FunctionName": "mine"}
    mine, mapping = ("lambda:*", "mine"), ("lambda:*", MAPPING)
    assert not is_allowed("UpdateEventSourceMapping", params, mine)
    assert not is_allowed("UpdateEventSourceMapping", params, mapping)
    assert is_allowed("UpdateEventSourceMapping", params, mine, mapping)
