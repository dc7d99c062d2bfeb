"""What is out of bounds, told by the name of its option and not of its field. Pure."""

import re
from collections.abc import Mapping

# As messages of the specs begin: "fail_rate must be within 0 to 1, not 2".
_FIELD = re.compile(r"([a-z]+(?:_[a-z]+)*)(?= (?:must be|is at least|is success)\b)")


def by_option(message: str, others: Mapping[str, str]) -> str:
    """The message with its first word, a field's name, as the option is called; others: those called something else."""
    found = _FIELD.match(message)
    if found is None:
        return message
    option = others.get(found[1], found[1].replace("_", "-"))
    return f"--{option}{message[found.end() :]}"
