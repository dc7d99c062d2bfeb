"""What else belongs to a function: its tags, its URLs, whether chains through it go on."""

import base64
from collections.abc import MutableMapping

from evenflow.control.v1 import control_pb2, resources_pb2

from services.control.changes import Change
from services.control.editor import FunctionEditor, conflict, not_found, refusal, require_qualifier
from services.control.masks import take_fields
from services.control.sources import Sources
from services.policy.arns import LATEST
from services.policy.rules import RuleBroken
from services.policy.tag_rules import check_tags
from services.policy.url_rules import INVOKE_MODES, CorsSpec, check_url
from services.shared.errors import invalid

URL_ID_BYTES = 20
CHANGEABLE_OF_URL = frozenset(("auth_type", "invoke_mode", "cors"))


class Belongings:
    """Decides changes of them; each `decide_…` fills a change in its turn."""

    def __init__(self, editor: FunctionEditor, sources: Sources) -> None:
        self._editor = editor
        self._sources = sources

    def decide_tags(self, change: Change, request: control_pb2.ChangeTagsRequest) -> control_pb2.ChangeTagsResponse:
        """Set and remove tags. EvenflowError: see the contract; INVALID_PARAMETER: too many, or a rule is broken."""
        match request.WhichOneof("target"):
            case "function_name":
                function = self._editor.copy(request.tenant_id, request.function_name)
                _retag(function.tags, request)
                self._editor.store(change, function)
                return control_pb2.ChangeTagsResponse(tags=function.tags)
            case "source_id":
                source = self._sources.copy(request.tenant_id, request.source_id)
                _retag(source.tags, request)
                self._sources.store(change, source)
                return control_pb2.ChangeTagsResponse(tags=source.tags)
        raise invalid("target: name a function or an event source", field="target")

    def decide_recursion(
        self, change: Change, request: control_pb2.PutRecursionRequest
    ) -> control_pb2.PutRecursionResponse:
        """See the contract. EvenflowError FUNCTION_NOT_FOUND."""
        function = self._editor.copy(request.tenant_id, request.function_name)
        function.allows_recursion = request.allows_recursion
        self._editor.store(change, function)
        return control_pb2.PutRecursionResponse()

    def decide_put_url(self, change: Change, request: control_pb2.PutUrlRequest) -> control_pb2.PutUrlResponse:
        """Create, replace or change a URL. EvenflowError: see the contract; INVALID_PARAMETER: a rule is broken."""
        function = self._editor.copy(request.tenant_id, request.function_name)
        qualifier = _require_alias(function, request.url.qualifier)
        before = next((one for one in function.urls if one.qualifier == qualifier), None)
        if before is None and request.mode == control_pb2.PUT_MODE_CHANGE:
            raise not_found("The resource you requested does not exist.")
        if before is not None and request.mode == control_pb2.PUT_MODE_CREATE:
            raise conflict("FunctionUrlConfig exists for this Lambda function")
        now_ms = self._editor.now_ms()
        if before is None:
            url_id = base64.b32encode(self._editor.random_bytes(URL_ID_BYTES)).decode().lower()
            before = function.urls.add(qualifier=qualifier, url_id=url_id, created_at_ms=now_ms)
        url = resources_pb2.FunctionUrl()
        url.CopyFrom(before)
        is_change = request.mode == control_pb2.PUT_MODE_CHANGE
        paths = request.update_mask.paths if is_change else CHANGEABLE_OF_URL
        take_fields(url, request.url, paths, CHANGEABLE_OF_URL)
        url.invoke_mode = url.invoke_mode or INVOKE_MODES[0]
        _check_url(url)
        if url != before:
            url.modified_at_ms = now_ms
            before.CopyFrom(url)
            function.urls.sort(key=lambda one: one.qualifier)
            self._editor.store(change, function)
        return control_pb2.PutUrlResponse(url=url)

    def decide_delete_url(self, change: Change, request: control_pb2.DeleteUrlRequest) -> control_pb2.DeleteUrlResponse:
        """See the contract."""
        function = self._editor.copy(request.tenant_id, request.function_name)
        qualifier = _require_alias(function, request.qualifier)
        left = [one for one in function.urls if one.qualifier != qualifier]
        if len(left) == len(function.urls):
            raise not_found("The resource you requested does not exist.")
        del function.urls[:]
        function.urls.extend(left)
        self._editor.store(change, function)
        return control_pb2.DeleteUrlResponse()


def _retag(tags: MutableMapping[str, str], request: control_pb2.ChangeTagsRequest) -> None:
    for key in request.removed_keys:
        tags.pop(key, None)
    tags.update(request.tags)
    try:
        check_tags(tags)
    except RuleBroken as e:
        raise refusal(e) from None


def _require_alias(function: resources_pb2.Function, qualifier: str) -> str:
    named = require_qualifier(function, qualifier)
    if named.isdecimal():
        text = f"qualifier: a URL invokes {LATEST} or an alias: make an alias of version {named}"
        raise invalid(text, field="qualifier")
    return named


def _check_url(url: resources_pb2.FunctionUrl) -> None:
    cors = url.cors
    spec = CorsSpec(
        allow_headers=list(cors.allow_headers),
        allow_methods=list(cors.allow_methods),
        allow_origins=list(cors.allow_origins),
        expose_headers=list(cors.expose_headers),
        max_age_seconds=cors.max_age_seconds,
    )
    try:
        check_url(url.auth_type, url.invoke_mode, spec)
    except RuleBroken as e:
        raise refusal(e) from None
