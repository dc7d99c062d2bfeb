"""How large a function may grow."""

import pytest
from evenflow.control.v1 import control_pb2, resources_pb2

from services.control.versions import Versions
from services.shared.errors import EvenflowError, Reason
from tests.unit.control.kit import NAME, TENANT, Desk

PUBLISH = control_pb2.PublishVersionRequest(**NAME)


def _publish_a_change(desk: Desk) -> resources_pb2.FunctionVersion:
    """One more version."""

    def touch(function: resources_pb2.Function) -> None:
        function.latest.revision_id = desk.editor.new_uuid()

    desk.edit(touch)
    return desk.run(Versions(desk.editor).decide_publish, PUBLISH).published


def _refusal(desk: Desk) -> EvenflowError:
    with pytest.raises(EvenflowError) as refused:
        _publish_a_change(desk)
    assert refused.value.reason == Reason.ERROR_REASON_CODE_STORAGE_EXCEEDED
    return refused.value


def test_at_most_200_versions_are_kept_and_a_number_is_never_given_again() -> None:
    """The refusal says what to do; then there is room for one."""
    desk = Desk()
    assert [_publish_a_change(desk).version for _ in range(200)] == [str(n) for n in range(1, 201)]
    assert "200 versions, the most that are kept: delete versions" in str(_refusal(desk))
    for version in ("200", "17"):
        desk.run(lambda change, number: Versions(desk.editor).decide_delete(change, TENANT, "f", number), version)
    assert [_publish_a_change(desk).version for _ in range(2)] == ["201", "202"]
    assert desk.function.last_version == 202 and len(desk.function.versions) == 200


def test_a_function_with_its_versions_has_at_most_2_mib() -> None:
    """What would be more than one message to followers is refused."""
    desk = Desk(kept_fields=b"x" * 16_000)
    while desk.function.ByteSize() < (2 << 20) - 17_000:
        _publish_a_change(desk)
    count = len(desk.function.versions)
    assert "at most 2,097,152 are kept: delete versions" in str(_refusal(desk))
    assert len(desk.function.versions) == count and desk.function.ByteSize() <= 2 << 20
