"""Aliases: names that point at versions."""

from evenflow.control.v1 import control_pb2, resources_pb2

from services.control.changes import Change
from services.control.concurrency import require_aliases_apart, require_published
from services.control.editor import (
    FunctionEditor,
    conflict,
    no_version,
    not_found,
    refusal,
    require_revision,
)
from services.control.masks import take_fields
from services.control.versions import drop_qualifier
from services.policy.alias_rules import MAX_ALIASES, AliasSpec, check_alias, check_alias_name
from services.policy.rules import RuleBroken
from services.shared.errors import EvenflowError, Reason
from services.shared.function_view import FunctionView

CHANGEABLE = frozenset(("function_version", "additional_version_weights", "description"))


class Aliases:
    """Decides changes of aliases; each `decide_…` fills a change in its turn."""

    def __init__(self, editor: FunctionEditor) -> None:
        self._editor = editor

    def decide_put(self, change: Change, request: control_pb2.PutAliasRequest) -> control_pb2.PutAliasResponse:
        """Create, replace or change. EvenflowError: see the contract; RESOURCE_NOT_FOUND also for a version."""
        function = self._editor.copy(request.tenant_id, request.function_name)
        name = request.alias.name
        _check_name(name)
        before = next((one for one in function.aliases if one.name == name), None)
        if before is None:
            if request.mode == control_pb2.PUT_MODE_CHANGE:
                raise not_found(f"Cannot find alias {name} of function {function.function_name}")
            if len(function.aliases) >= MAX_ALIASES:
                text = f"the function has {MAX_ALIASES} aliases, the most it may have: delete some first"
                raise EvenflowError(Reason.ERROR_REASON_NO_CAPACITY, text)
        elif request.mode == control_pb2.PUT_MODE_CREATE:
            raise conflict(f"Alias already exists: {function.function_name}:{name}")
        else:
            require_revision(request.expected_revision_id, before.revision_id, "GetAlias")
        alias = resources_pb2.Alias()
        if before is not None and request.mode == control_pb2.PUT_MODE_CHANGE:
            alias.CopyFrom(before)
            take_fields(alias, request.alias, request.update_mask.paths, CHANGEABLE)
        else:
            alias.CopyFrom(request.alias)
            alias.revision_id = before.revision_id if before is not None else ""
        _check(function, alias)
        if before is not None and alias == before:
            return control_pb2.PutAliasResponse(alias=before)
        alias.revision_id = self._editor.new_uuid()
        aliases = sorted([*(one for one in function.aliases if one.name != name), alias], key=lambda one: one.name)
        del function.aliases[:]
        function.aliases.extend(aliases)
        # What is kept ready for an alias follows it.
        require_published(function)
        require_aliases_apart(function)
        self._editor.store(change, function)
        return control_pb2.PutAliasResponse(alias=alias)

    def decide_delete(self, change: Change, request: control_pb2.DeleteAliasRequest) -> control_pb2.DeleteAliasResponse:
        """See the contract. EvenflowError FUNCTION_NOT_FOUND, INVALID_PARAMETER."""
        function = self._editor.copy(request.tenant_id, request.function_name)
        _check_name(request.name)
        left = [one for one in function.aliases if one.name != request.name]
        if len(left) < len(function.aliases):
            del function.aliases[:]
            function.aliases.extend(left)
            drop_qualifier(function, request.name)
            self._editor.store(change, function)
        return control_pb2.DeleteAliasResponse()


def _check_name(name: str) -> None:
    try:
        check_alias_name(name)
    except RuleBroken as e:
        raise refusal(e) from None


def _check(function: resources_pb2.Function, alias: resources_pb2.Alias) -> None:
    weights = dict(alias.additional_version_weights)
    try:
        check_alias(AliasSpec(alias.name, alias.function_version, weights, alias.description))
    except RuleBroken as e:
        raise refusal(e) from None
    view = FunctionView(function)
    for version in (alias.function_version, *weights):
        # An alias cannot point at another one.
        if not version or view.version(version) is None:
            raise no_version(function, version)
