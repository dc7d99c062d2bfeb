"""The contract of today keeps those of before; what would break them is found without buf."""

from collections.abc import Callable

import pytest
from google.protobuf import descriptor_pb2

from tests.contract.clients import IMAGES, MODULES, image
from tests.contract.descriptors import Files, breaks, facts_of

BASELINE = "baseline"


def today() -> Files:
    """The descriptors that the generated code has."""
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(descriptor: object) -> None:
        for needed in descriptor.dependencies:  # type: ignore[attr-defined]
            add(needed)
        made = descriptor_pb2.FileDescriptorProto()
        descriptor.CopyToProto(made)  # type: ignore[attr-defined]
        files.setdefault(made.name, made)

    for module in MODULES.values():
        add(module.DESCRIPTOR)
    return Files(file=[_with_json_names(file) for file in files.values()])


def _with_json_names(file: descriptor_pb2.FileDescriptorProto) -> descriptor_pb2.FileDescriptorProto:
    # Generated code leaves out what follows from the name.
    waiting = list(file.message_type)
    while waiting:
        message = waiting.pop()
        waiting += message.nested_type
        for field in message.field:
            head, *tail = field.name.split("_")
            field.json_name = field.json_name or head + "".join(part.capitalize() for part in tail)
    return file


@pytest.mark.parametrize("name", IMAGES)
def test_todays_contract_keeps_the_old_one(name: str) -> None:
    """Every field, value and call that an old caller may use is there, unchanged."""
    assert len(facts_of(image(name))) > 500
    assert breaks(image(name), today()) == []


def test_the_baseline_is_todays_contract() -> None:
    """What was added is guarded from now on: `make proto-baseline` takes it in, once `make contracts` has passed."""
    assert sorted(facts_of(today()).keys() - facts_of(image(BASELINE)).keys()) == []


def _message(files: Files, name: str) -> descriptor_pb2.DescriptorProto:
    return next(m for file in files.file for m in file.message_type if m.name == name)


def _remove_field(files: Files) -> None:
    del _message(files, "Lease").field[0]


def _renumber(files: Files) -> None:
    _message(files, "Lease").field[0].number = 99


def _retype(files: Files) -> None:
    _message(files, "LeaseCredit").field[1].type = descriptor_pb2.FieldDescriptorProto.TYPE_INT32


def _rename(files: Files) -> None:
    _message(files, "LeaseCredit").field[1].name = "octets"


def _repeat(files: Files) -> None:
    _message(files, "LeaseCredit").field[1].label = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED


def _leave_the_choice(files: Files) -> None:
    _message(files, "LeaseRequest").field[2].ClearField("oneof_index")


def _remove_value(files: Files) -> None:
    del next(e for file in files.file for e in file.enum_type if e.name == "ErrorReason").value[5]


def _remove_call(files: Files) -> None:
    del next(s for file in files.file for s in file.service if s.name == "QueueService").method[0]


def _stop_streaming(files: Files) -> None:
    next(s for file in files.file for s in file.service if s.name == "QueueService").method[0].client_streaming = False


def _remove_message(files: Files) -> None:
    file = next(file for file in files.file if file.package == "evenflow.queue.v1")
    file.message_type.remove(_message(files, "Extend"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_remove_field, "field evenflow.queue.v1.Lease number 1 is gone"),
        (_renumber, "field evenflow.queue.v1.Lease number 1 is gone"),
        (_retype, "field evenflow.queue.v1.LeaseCredit number 2 was"),
        (_rename, "field evenflow.queue.v1.LeaseCredit number 2 was"),
        (_repeat, "field evenflow.queue.v1.LeaseCredit number 2 was"),
        (_leave_the_choice, "field evenflow.queue.v1.LeaseRequest number 3 was"),
        (_remove_value, "value evenflow.common.v1.ErrorReason number 5 is gone"),
        (_remove_call, "call evenflow.queue.v1.QueueService.Enqueue is gone"),
        (_stop_streaming, "call evenflow.queue.v1.QueueService.Enqueue was"),
        (_remove_message, "message evenflow.queue.v1.Extend is gone"),
    ],
)
def test_what_would_break_callers_is_found(change: Callable[[Files], None], told: str) -> None:
    changed = today()
    change(changed)
    found = breaks(image(BASELINE), changed)
    assert any(text.startswith(told) for text in found), found


def test_what_is_added_breaks_nobody() -> None:
    files = today()
    _message(files, "Lease").field.add(name="more", json_name="more", number=99, type="TYPE_STRING", label=1)
    assert breaks(image(BASELINE), files) == []
