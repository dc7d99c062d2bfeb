"""Published versions: made of $LATEST, never changed, deleted when no alias needs them."""

import base64
import uuid

from evenflow.control.v1 import control_pb2, resources_pb2

from services.control.changes import Change
from services.control.editor import FunctionEditor, conflict, refusal, require_revision
from services.policy.arns import LATEST
from services.policy.function_rules import MAX_DESCRIPTION_CHARACTERS
from services.policy.rules import RuleBroken, at_most
from services.shared.errors import EvenflowError, Reason, invalid

MAX_VERSIONS = 200


class Versions:
    """Decides changes of versions; each `decide_…` fills a change in its turn."""

    def __init__(self, editor: FunctionEditor) -> None:
        self._editor = editor

    def decide_publish(
        self, change: Change, request: control_pb2.PublishVersionRequest
    ) -> control_pb2.PublishVersionResponse:
        """See the contract. EvenflowError also INVALID_PARAMETER: $LATEST has other code than the caller expects."""
        function = self._editor.copy(request.tenant_id, request.function_name)
        latest = function.latest
        try:
            at_most("description", request.description, MAX_DESCRIPTION_CHARACTERS)
        except RuleBroken as e:
            raise refusal(e) from None
        require_revision(request.expected_revision_id, latest.revision_id, "GetFunction")
        if request.expected_code_sha256 not in (b"", latest.code_sha256):
            expected, found = (
                base64.b64encode(code[:32]).decode() for code in (request.expected_code_sha256, latest.code_sha256)
            )
            raise invalid(
                f"CodeSHA256 ({expected}) is different from current CodeSHA256 in {LATEST} ({found}). "
                f"Please try again with the CodeSHA256 in {LATEST}.",
                field="expected_code_sha256",
            )
        published = self.publish(function, request.description)
        self._editor.store(change, function)
        return control_pb2.PublishVersionResponse(function=function, published=published)

    def publish(self, function: resources_pb2.Function, description: str = "") -> resources_pb2.FunctionVersion:
        """Add a version of $LATEST to a function that may be changed; the last one where nothing changed since.

        EvenflowError CODE_STORAGE_EXCEEDED: it has 200 already.
        """
        last = function.versions[-1] if function.versions else None
        if last is not None and last.revision_id == _revision_id_of(function.latest, last.version):
            return last
        if len(function.versions) >= MAX_VERSIONS:
            text = (
                f"the function has {MAX_VERSIONS} versions, the most that are kept: delete versions that nobody needs"
            )
            raise EvenflowError(Reason.ERROR_REASON_CODE_STORAGE_EXCEEDED, text)
        function.last_version += 1
        fresh = function.versions.add()
        fresh.CopyFrom(function.latest)
        fresh.version = str(function.last_version)
        fresh.description = description or function.latest.description
        fresh.revision_id = _revision_id_of(function.latest, fresh.version)
        fresh.modified_at_ms = self._editor.now_ms()
        return fresh

    def decide_delete(self, change: Change, tenant_id: str, function_name: str, version: str) -> None:
        """Delete one version; one that is not there is no error.

        EvenflowError FUNCTION_NOT_FOUND, RESOURCE_CONFLICT: an alias needs it; INVALID_PARAMETER: it is no number.
        """
        function = self._editor.copy(tenant_id, function_name)
        if version == LATEST:
            raise invalid(f"{LATEST} version cannot be deleted without deleting the function.", field="version")
        if not version.isdecimal():
            raise invalid(
                "Deletion of functions by Alias is not currently supported: name a version's number.", field="version"
            )
        users = [a.name for a in function.aliases if version in (a.function_version, *a.additional_version_weights)]
        if users:
            raise conflict(f"version {version} is needed by alias {', '.join(users[:5])}: change or delete that first")
        left = [one for one in function.versions if one.version != version]
        if len(left) == len(function.versions):
            return
        del function.versions[:]
        function.versions.extend(left)
        drop_qualifier(function, version)
        self._editor.store(change, function)


def drop_qualifier(function: resources_pb2.Function, qualifier: str) -> None:
    """Take out what belongs to a version or alias that goes."""
    function.qualified_async_configs.pop(qualifier, None)
    function.provisioned.pop(qualifier, None)
    permissions = [one for one in function.permissions if one.qualifier != qualifier]
    del function.permissions[:]
    function.permissions.extend(permissions)
    urls = [one for one in function.urls if one.qualifier != qualifier]
    del function.urls[:]
    function.urls.extend(urls)


def _revision_id_of(latest: resources_pb2.FunctionVersion, version: str) -> str:
    """Of a version made of exactly this $LATEST: what is published again tells by it that nothing changed since."""
    return str(uuid.uuid5(uuid.UUID(latest.revision_id), version))
