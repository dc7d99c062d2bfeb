"""What a host gives to sandboxes when nothing is set."""

from pathlib import Path

from services.runtime.memory_budget import budget_mb, limit_files, of_this_machine

GIB = 1 << 30


def test_what_is_set_is_the_budget() -> None:
    """Also beyond the machine: a memory size is a limit, most sandboxes use a part of it."""
    assert budget_mb(6_400, 4 * GIB, [GIB]) == 6_400


def test_else_it_is_a_part_of_the_least() -> None:
    """Physical memory, or the limit of any cgroup above."""
    assert budget_mb(0, 16 * GIB, []) == 12_288
    assert budget_mb(0, 16 * GIB, [8 * GIB, 4 * GIB]) == 3_072
    assert budget_mb(0, 16 * GIB, [64 << 20]) == 128


def test_every_cgroup_above_may_limit() -> None:
    """Version 2, and version 1's memory controller; other controllers are not asked."""
    assert limit_files("0::/a/b\n") == [
        Path("/sys/fs/cgroup/a/b/memory.max"),
        Path("/sys/fs/cgroup/a/memory.max"),
        Path("/sys/fs/cgroup/memory.max"),
    ]
    assert limit_files("4:cpu,memory:/x\n1:cpu:/y\n") == [
        Path("/sys/fs/cgroup/memory/x/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    ]


def test_a_path_that_leads_out_of_the_namespace_is_not_followed() -> None:
    """The root that can be seen is all there is."""
    assert limit_files("0::/../../x\n") == [Path("/sys/fs/cgroup/memory.max")]


def test_this_machine_has_a_budget() -> None:
    """Whatever files are there."""
    assert of_this_machine(0) >= 128
