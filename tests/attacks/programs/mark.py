"""The name that processes of an attack give themselves; the harness puts one of its own here and looks for it."""

# At most 15 characters, as the kernel keeps no more.
MARK = "ef-attack"
