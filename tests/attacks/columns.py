"""The columns of the table: isolation tier x network mode, and as whom the host runs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """user: "ordinary" or "root"; isolation and network are the host's settings of that name."""

    name: str
    title: str
    user: str
    isolation: str
    network: str

    @property
    def tier(self) -> str:
        """The tier that must be in force."""
        return "0" if self.isolation == "auto" else self.isolation


def _both(name: str, title: str, user: str, isolation: str) -> tuple[Column, Column]:
    return (
        Column(name, title, user, isolation, "host"),
        Column(f"{name}-isolated", f"{title}, isolated network", user, isolation, "isolated"),
    )


COLUMNS: tuple[Column, ...] = (
    *_both("0", "0", "ordinary", "0"),
    *_both("0n", "0 + user namespaces", "ordinary", "auto"),
    *_both("a", "a", "root", "a"),
    *_both("b", "b", "root", "b"),
    *_both("c", "c", "root", "c"),
)
BY_NAME = {column.name: column for column in COLUMNS}
