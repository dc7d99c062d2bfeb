"""What may not change between two versions of a contract, so that callers of the old one are still understood.

The same as `buf breaking` with its FILE rules for what these protos use, but without Node.js: a field, value, message,
enum, service or call that was there is there, with its number, name, type and shape.
"""

from collections.abc import Iterator

from google.protobuf import descriptor_pb2

Files = descriptor_pb2.FileDescriptorSet
Facts = dict[str, tuple[object, ...]]


def facts_of(files: Files) -> Facts:
    """Everything of Evenflow's own files that somebody may rely on: where it stands, and what it is."""
    found: Facts = {}
    for file in files.file:
        if file.package.startswith("evenflow."):
            found[f"package {file.package}"] = (file.name,)
            for message in file.message_type:
                found.update(_of_message(message, file.package))
            for enum in file.enum_type:
                found.update(_of_enum(enum, file.package))
            for service in file.service:
                found[f"service {file.package}.{service.name}"] = ()
                for method in service.method:
                    shape = (method.input_type, method.output_type, method.client_streaming, method.server_streaming)
                    found[f"call {file.package}.{service.name}.{method.name}"] = shape
    return found


def _of_message(message: descriptor_pb2.DescriptorProto, scope: str) -> Iterator[tuple[str, tuple[object, ...]]]:
    name = f"{scope}.{message.name}"
    yield f"message {name}", (message.options.map_entry,)
    for field in message.field:
        # One that may be unset and one in a choice are told apart from a plain one by whether they are there.
        choice = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
        yield (
            f"field {name} number {field.number}",
            (field.name, field.json_name, field.type, field.label, field.type_name, choice, field.proto3_optional),
        )
    for nested in message.nested_type:
        yield from _of_message(nested, name)
    for enum in message.enum_type:
        yield from _of_enum(enum, name)


def _of_enum(enum: descriptor_pb2.EnumDescriptorProto, scope: str) -> Iterator[tuple[str, tuple[object, ...]]]:
    yield f"enum {scope}.{enum.name}", ()
    for value in enum.value:
        yield f"value {scope}.{enum.name} number {value.number}", (value.name,)


def breaks(old: Files, new: Files) -> list[str]:
    """What of the old contract the new one does not keep, one sentence each; empty: it may be released."""
    before, now = facts_of(old), facts_of(new)
    found = [f"{what} is gone" for what in before if what not in now]
    kept = [what for what in before if what in now]
    found += [f"{what} was {before[what]} and is {now[what]}" for what in kept if now[what] != before[what]]
    return sorted(found)
