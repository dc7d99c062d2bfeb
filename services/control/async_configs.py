"""How async events of a function's qualifiers are treated."""

from evenflow.control.v1 import control_pb2, resources_pb2

from services.control import function_specs
from services.control.changes import Change
from services.control.editor import FunctionEditor, not_found, require_qualifier
from services.control.masks import take_fields
from services.policy.arns import LATEST
from services.shared.errors import invalid

FIELDS = frozenset(("maximum_retry_attempts", "maximum_event_age_seconds", "on_success_arn", "on_failure_arn"))


class AsyncConfigs:
    """Decides changes of async configurations; each `decide_…` fills a change in its turn."""

    def __init__(self, editor: FunctionEditor) -> None:
        self._editor = editor

    def decide_put(
        self, change: Change, request: control_pb2.PutAsyncConfigRequest
    ) -> control_pb2.PutAsyncConfigResponse:
        """Replace all of it, or change the named fields. EvenflowError: see the contract; an empty one is refused."""
        function = self._editor.copy(request.tenant_id, request.function_name)
        qualifier = require_qualifier(function, request.qualifier)
        is_change = request.mode == control_pb2.PUT_MODE_CHANGE
        # What was named in order to be cleared is not nothing.
        if not request.update_mask.paths and (is_change or is_default(request.config)):
            raise invalid("You must specify at least one of error handling or destination setting.", field="config")
        before = _config_of(function, qualifier)
        config = resources_pb2.AsyncConfig()
        if is_change:
            if before is None:
                raise _absent(function, qualifier)
            config.CopyFrom(before)
            take_fields(config, request.config, request.update_mask.paths, FIELDS)
        else:
            take_fields(config, request.config, FIELDS, FIELDS)
        function_specs.check_async(function.function_name, config, self._editor.home(function.tenant_id))
        self._editor.require_neighbours(function.tenant_id, config.on_success_arn, config.on_failure_arn)
        config.modified_at_ms = self._editor.now_ms()
        if qualifier:
            function.qualified_async_configs[qualifier].CopyFrom(config)
        else:
            function.async_config.CopyFrom(config)
        self._editor.store(change, function)
        return control_pb2.PutAsyncConfigResponse(config=config)

    def decide_delete(
        self, change: Change, request: control_pb2.DeleteAsyncConfigRequest
    ) -> control_pb2.DeleteAsyncConfigResponse:
        """See the contract."""
        function = self._editor.copy(request.tenant_id, request.function_name)
        qualifier = require_qualifier(function, request.qualifier)
        if _config_of(function, qualifier) is None:
            raise _absent(function, qualifier)
        if qualifier:
            del function.qualified_async_configs[qualifier]
        else:
            function.async_config.Clear()
        self._editor.store(change, function)
        return control_pb2.DeleteAsyncConfigResponse()


def is_default(config: resources_pb2.AsyncConfig) -> bool:
    """Whether nothing in it was given."""
    given = resources_pb2.AsyncConfig()
    given.CopyFrom(config)
    given.modified_at_ms = 0
    return given == resources_pb2.AsyncConfig()


def _config_of(function: resources_pb2.Function, qualifier: str) -> resources_pb2.AsyncConfig | None:
    if qualifier:
        return function.qualified_async_configs.get(qualifier)
    return function.async_config if function.async_config.modified_at_ms else None


def _absent(function: resources_pb2.Function, qualifier: str) -> Exception:
    name = f"{function.function_name}:{qualifier or LATEST}"
    return not_found(f"The function {name} doesn't have an EventInvokeConfig")
