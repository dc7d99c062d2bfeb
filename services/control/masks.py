"""Taking the fields that an update mask names from one message into another of its type."""

from collections.abc import Collection, Iterable
from typing import Any

from services.shared.errors import invalid

MAX_PATHS = 64


def take_fields(target: Any, source: Any, paths: Iterable[str], allowed: Collection[str]) -> None:
    """Copy the named fields; one that is unset in the source is cleared, lists and maps are replaced whole.

    A path goes into a sub-message by a dot. EvenflowError INVALID_PARAMETER: a path that is not among the allowed ones.
    """
    named = list(paths)
    if len(named) > MAX_PATHS:
        raise invalid(f"update_mask has {len(named)} paths; at most {MAX_PATHS} are taken", field="update_mask")
    for path in named:
        if path not in allowed:
            text = f"update_mask: {path[:80]!r} cannot be changed; {', '.join(sorted(allowed))} can"
            raise invalid(text, field="update_mask")
        _take_field(target, source, path)


def _take_field(target: Any, source: Any, path: str) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        target, source = getattr(target, parent), getattr(source, parent)
    target.ClearField(name)
    field = source.DESCRIPTOR.fields_by_name[name]
    if field.is_repeated:
        getattr(target, name).MergeFrom(getattr(source, name))
    elif field.message_type is not None:
        if source.HasField(name):
            getattr(target, name).CopyFrom(getattr(source, name))
    elif not field.has_presence or source.HasField(name):
        setattr(target, name, getattr(source, name))
