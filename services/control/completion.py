"""What an older Evenflow stored, with what it did not know yet; done once, before anybody follows."""

from evenflow.control.v1 import resources_pb2

from services.control.async_configs import is_default
from services.control.changes import Change
from services.control.editor import FunctionEditor


def decide_completion(change: Change, editor: FunctionEditor) -> None:
    """Give every $LATEST a revision id and times. Sources were all made by deploys, before PutSource was there."""
    for function in list(editor.state.functions.values()):
        config = function.async_config
        if not function.latest.revision_id or not (config.modified_at_ms or is_default(config)):
            fresh = editor.copy(function.tenant_id, function.function_name)
            if not is_default(config):
                fresh.async_config.modified_at_ms = config.modified_at_ms or fresh.modified_at_ms
            fresh.latest.revision_id = fresh.latest.revision_id or editor.new_uuid()
            fresh.latest.modified_at_ms = fresh.latest.modified_at_ms or fresh.modified_at_ms
            editor.store(change, fresh)
    for source in editor.state.sources.values():
        if not source.created_at_ms:
            made = resources_pb2.EventSource()
            made.CopyFrom(source)
            made.is_of_deploy = True
            made.created_at_ms = made.modified_at_ms = editor.now_ms()
            change.upserts.append(resources_pb2.Resource(key=f"source/{source.source_id}", source=made))
