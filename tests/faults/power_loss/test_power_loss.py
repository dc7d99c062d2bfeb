"""A small selection of `make crash`: recorded nodes, cut at some hundred points."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.power_loss import examine, recorder, report
from tests.faults.power_loss.__main__ import EXIT_UNUSABLE, main
from tests.faults.power_loss.disk import Disk, Model
from tests.faults.power_loss.mutants import MUTANTS
from tests.faults.power_loss.recorder import Kind, NoCompiler
from tests.faults.power_loss.recording import record
from tests.faults.power_loss.replay import FOLDER_PREFIX, choose, fast_folder, replay
from tests.faults.power_loss.rows import HEALTHY, HEALTHY_SEEDS, Plan, plans, run

SEED = 7
STEPS = 20
STATES = 200


@pytest.fixture
def folder() -> Iterator[Path]:
    """A private folder, in memory when there is a place for that."""
    made = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=fast_folder()))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def library(folder: Path) -> Path:
    """The compiled recorder."""
    try:
        return recorder.compile_recorder(folder)
    except NoCompiler as e:
        pytest.skip(str(e).splitlines()[0])


@pytest.mark.timeout(180)
async def test_a_power_cut_at_any_point_loses_nothing(folder: Path, library: Path) -> None:
    place = folder / "recording"
    place.mkdir()
    recording = await record(place, library, SEED, STEPS)
    tally = replay(recording, choose(recording, STATES), folder / "replay")
    assert tally.is_good, tally.samples
    assert tally.states.keys() == set(Model) and sum(tally.states.values()) == STATES
    # Every kind of place was reached, so that there was something to lose.
    assert recording.accepted > STEPS and set("".join(recording.answered)) >= set("AHXMD")


@pytest.mark.timeout(180)
async def test_what_synchronous_normal_loses_is_seen_and_reported(folder: Path, library: Path) -> None:
    row = await run(Plan("synchronous-normal", "a promise", STATES // 2, [SEED]), library, folder, STEPS)
    assert row.tally.lost > 0 and row.verdict == "caught" and row.is_right and row.states == STATES // 2
    assert "dropped" in row.tally.samples[0] or "torn" in row.tally.samples[0]
    heading, line = report.table([row]).splitlines()
    assert heading.split()[:2] == ["node", "states"] and line.split()[:2] == ["synchronous-normal", str(STATES // 2)]
    report.save([row], "make crash", folder / "docs")
    found = json.loads((folder / "docs" / "power_loss.json").read_text())
    assert (
        found["rows"][0]["lost"] == row.tally.lost
        and found["machine"]["evenflow_sqlite"]
        and found["command"] == "make crash"
    )
    assert "| synchronous-normal | 100 |" in (folder / "docs" / "power_loss.md").read_text()


_CHILD = """
import os, sys
root = sys.argv[1]
os.mkdir(f"{root}/d")
with open(f"{root}/d/a.new", "w") as file:
    file.write("one")
    file.flush()
    os.fsync(file.fileno())
    file.write("two")
os.replace(f"{root}/d/a.new", f"{root}/d/a")
descriptor = os.open(f"{root}/b", os.O_RDWR | os.O_CREAT)
os.pwrite(descriptor, b"xyz", 100)
os.ftruncate(descriptor, 101)
os.posix_fallocate(descriptor, 0, 4_000)
os.fdatasync(descriptor)
open(f"{root}/c", "w").close()
os.unlink(f"{root}/c")
open(f"{root}/d/a", "a").write("three")
for line in sys.argv[2:]:
    exec(line)
"""


def _run_recorded(folder: Path, library: Path, *lines: str) -> tuple[Path, Path]:
    root, log = folder / "root", folder / "log"
    root.mkdir()
    environment = {**os.environ, **recorder.environment(library, root, log, 0)}
    subprocess.run([sys.executable, "-c", _CHILD, str(root), *lines], env=environment, check=True)
    return root, log


def test_the_replayed_disk_is_the_real_one(folder: Path, library: Path) -> None:
    root, log = _run_recorded(folder, library)
    disk = Disk()
    for entry in recorder.read(log):
        disk.apply(entry)
    image = disk.image(Model.ALL, random.Random(0))
    assert image.folders == ["d"]
    assert image.files == {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert image.files["d/a"] == b"onetwothree" and len(image.files["b"]) == 4_000
    examine.write(image, folder / "copy")
    assert (folder / "copy" / "d" / "a").read_bytes() == b"onetwothree"


def test_marks_of_another_process_stand_in_the_same_order(folder: Path, library: Path) -> None:
    log = folder / "log"
    marks = recorder.Marks(log)
    marks.mark("before")
    _run_recorded(folder, library)
    marks.mark("after")
    marks.close()
    kinds = [entry.kind for entry in recorder.read(log)]
    assert kinds[0] is Kind.MARK and kinds[-1] is Kind.MARK and kinds.count(Kind.MARK) == 2
    assert Kind.SYNC in kinds and Kind.RENAME in kinds


def test_a_call_that_cannot_be_described_is_not_passed_over(folder: Path, library: Path) -> None:
    _, log = _run_recorded(folder, library, "os.writev(descriptor, [b'1', b'2'])")
    with pytest.raises(ValueError, match="writev"):
        recorder.read(log)


def test_a_log_that_was_cut_is_not_read(folder: Path, library: Path) -> None:
    _, log = _run_recorded(folder, library)
    log.write_bytes(log.read_bytes()[:-3])
    with pytest.raises(ValueError, match="middle"):
        recorder.read(log)


def test_no_compiler_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["--states", "10"]) == EXIT_UNUSABLE
    said = capsys.readouterr().err
    assert "no C compiler" in said and said.count("\n") == 1


def test_rows_are_the_healthy_node_and_every_mutant() -> None:
    rows = plans(10_000, 3)
    assert [row.name for row in rows] == [HEALTHY, *(mutant.name for mutant in MUTANTS)]
    assert rows[0].states == 10_000 and rows[0].seeds == list(range(3, 3 + HEALTHY_SEEDS))
    assert [row.name for row in plans(10, 1, "no-fencing")] == ["no-fencing"]
    with pytest.raises(ValueError, match="no row is called x: healthy, "):
        plans(10, 1, "x")
