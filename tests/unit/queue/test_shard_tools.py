"""Repair, export and check of real files, damaged in every way, as `python -m services.queue.offline` does them."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from services.queue import install, offline, verification
from services.queue.domain import Cause
from services.queue.identity import Manifest, ShardDamaged, open_verified
from services.queue.paths import shard_path, sync_directory
from services.shared import ids
from tests.unit.queue.kit import Bench, ack, bury, hand_over, release
from tests.unit.queue.test_damage_at_start import PAGE, crashed_with_wal, note, overwrite, pages_of

Told = dict[str, Any]


class Life:
    """A shard with events in every state, and what is to be found of them."""

    def __init__(self, folder: Path, events: int = 400) -> None:
        self.bench = bench = Bench(folder)
        self.folder = folder
        # Payloads in the row's page, beside it, and in many overflow pages.
        sizes = [20, 700, 9_000, 300]
        made = [bench.event(f"f{n % 3}", payload=b'"%d%s"' % (n, b"x" * sizes[n % 4])) for n in range(events)]
        made.append(bench.event("f0", payload=b"\xff\xfe", token="once"))
        for at in range(0, len(made), 50):
            bench.enqueue(*made[at : at + 50])
        leases = bench.lease(40)
        bench.settle(
            *(ack(lease) for lease in leases[:10]),
            *(bury(lease) for lease in leases[10:20]),
            *(release(lease, Cause.FUNCTION_ERROR, 60_000) for lease in leases[20:30]),
            *(hand_over(lease) for lease in leases[30:40]),
        )
        self.ended = {lease.event.request_id for lease in leases[:10]}
        self.states: dict[bytes, str] = {event.request_id: "available" for event in made}
        for lease in leases[:10]:
            del self.states[lease.event.request_id]
        for state, part in (("dead", leases[10:20]), ("delayed", leases[20:30]), ("handover", leases[30:40])):
            self.states.update({lease.event.request_id: state for lease in part})
        self.payloads = {event.request_id: event.payload for event in made}
        note(bench)

    def crash(self) -> None:
        """Die; the WAL is copied first, so that damage to the file is damage."""
        self.bench.shard.database.checkpoint(truncate=True)
        self.bench.shard.database.close()

    def found(self) -> dict[bytes, str]:
        """Open the shard as the node does; every event's state by id."""
        self.bench.open()
        connection = self.bench.shard.database.connection
        states = {row[0]: "handover" if row[1] else "available" for row in connection.execute(_LIVE)}
        states |= {row[0]: "delayed" for row in connection.execute("SELECT request_id FROM delayed")}
        states |= {row[0]: "dead" for row in connection.execute("SELECT request_id FROM dead_letters")}
        return states


_LIVE = "SELECT request_id, handover IS NOT NULL FROM events"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Told, str]:
    """(exit code, answer, stderr) of one command of the tool."""
    code = offline.main(arguments)
    done = capsys.readouterr()
    told = json.loads(done.out) if done.out.startswith("{") and done.out.count("\n") == 1 else {}
    return code, told["shards"][0] if "shards" in told else told, done.err


def place(folder: Path) -> list[str]:
    """Which shard."""
    return ["--directory", str(folder), "--shard", "0"]


def test_a_whole_shard_is_whole_and_its_repair_changes_nothing(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    life = Life(run_dir)
    life.crash()
    code, told, _ = run(capsys, "check", *place(run_dir), "--full")
    assert (code, told["findings"]) == (0, [])
    assert told["rows"] == {"events": 371, "delayed": 10, "dead_letters": 10, "outcomes": 10}
    code, told, _ = run(capsys, "repair", *place(run_dir))
    assert code == 0 and told["kept"] == {"lanes": 3, "events": 371, "delayed": 10, "dead_letters": 10, "outcomes": 10}
    assert not told["lost_ids"] and not told["refused_rows"] and Path(told["old_file"]).exists()
    assert run(capsys, "check", *place(run_dir))[0] == 0
    assert life.found() == life.states
    bench = life.bench
    assert all(bench.status(request_id).state == 5 for request_id in life.ended)  # type: ignore[union-attr]
    again = [bench.lease(1)[0].event for _ in range(3)]
    assert all(event.payload == life.payloads[event.request_id] for event in again)
    (dead,) = bench.shard.database.rows("SELECT function_errors, attempts, error_type FROM dead_letters LIMIT 1")
    assert dead == (0, 1, "E")
    (delayed,) = bench.shard.database.rows("SELECT function_errors, attempts FROM delayed LIMIT 1")
    assert delayed == (1, 1)
    # The old file is an old copy now.
    bench.close()
    Path(told["old_file"]).replace(shard_path(run_dir, 0))
    with pytest.raises(ShardDamaged, match="an old copy"):
        open_verified(run_dir, 0, Manifest(run_dir), 1 << 20)


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        *(
            (table, kind)
            for table in ("events", "delayed", "dead_letters")
            for kind in ("internal", "leaf", "overflow")
        ),
        ("events_by_request_id", "internal"),
        ("events_by_request_id", "leaf"),
        ("lanes", "leaf"),
    ],
)
def test_a_repair_loses_only_what_stood_in_the_damaged_page(
    run_dir: Path, capsys: pytest.CaptureFixture[str], table: str, kind: str
) -> None:
    """And says which events those are; an interior page or an index costs no event at all."""
    life = Life(run_dir)
    life.crash()
    path = shard_path(run_dir, 0)
    numbers = pages_of(path, table).get(kind, [])
    assert numbers, "the table is too small for such pages"
    overwrite(path, (numbers[len(numbers) // 2] - 1) * PAGE, os.urandom(PAGE))
    code, told, _ = run(capsys, "repair", *place(run_dir))
    assert code == 0
    states = life.found()
    lost = {request_id: state for request_id, state in life.states.items() if request_id not in states}
    assert states == {request_id: life.states[request_id] for request_id in states}, "nothing made up, nothing moved"
    told_lost = {ids.from_text(text) for found in told["lost_ids"].values() for text in found}
    assert told_lost == set(lost)
    most = {"leaf": 40, "overflow": 1, "internal": 0}[kind]
    assert len(lost) <= (most if table in ("events", "delayed", "dead_letters") else 0), Counter(lost.values())
    assert verification.verify(path, 0, full=True, now_ms=0).findings == []
    leased = [lease.event.request_id for lease in life.bench.lease(500)]
    assert len(leased) == sum(state in ("available", "handover") for state in states.values())
    life.bench.shard.database.close()


def test_without_its_first_page_nothing_is_lost(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No header, no schema, no roots: rows are told by their form, and checked by the id in their event."""
    life = Life(run_dir)
    life.crash()
    overwrite(shard_path(run_dir, 0), 0, os.urandom(PAGE))
    code, told, _ = run(capsys, "repair", *place(run_dir))
    assert code == 0 and told["is_schema_lost"]
    assert life.found() == life.states
    assert life.bench.status(next(iter(life.ended))) is not None
    life.bench.shard.database.close()


@pytest.mark.parametrize("part", [0.3, 0.8])
def test_a_cut_file_keeps_what_is_left_of_it(run_dir: Path, capsys: pytest.CaptureFixture[str], part: float) -> None:
    life = Life(run_dir)
    life.crash()
    path = shard_path(run_dir, 0)
    os.truncate(path, int(path.stat().st_size * part))
    assert run(capsys, "check", *place(run_dir))[0] == 1
    code, told, _ = run(capsys, "repair", *place(run_dir))
    states = life.found()
    assert code == 0 and len(states) > len(life.states) * part / 3
    assert all(life.states.get(request_id) == state for request_id, state in states.items())
    assert told["last_known"]["depth"] == 381
    life.bench.shard.database.close()


def test_transactions_behind_rot_in_the_wal_are_kept(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SQLite would drop 15 of 20 events that were answered as durable."""
    log = crashed_with_wal(run_dir)
    overwrite(log, 32 + 8 * (PAGE + 24) + 1_000, b"\xa5\x5a")
    code, told, _ = run(capsys, "check", *place(run_dir))
    code, told, _ = run(capsys, "repair", *place(run_dir))
    assert code == 0 and told["is_wal_damaged"] and told["kept"]["events"] == 20
    # The old WAL went aside with its file: it is none of the new one's.
    assert Path(f"{told['old_file']}-wal").exists() and not log.exists()
    bench = Bench(run_dir)
    assert bench.shard.depth == 20
    bench.close()


def test_rows_of_other_shards_and_torn_events_are_left_out(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    life = Life(run_dir)
    c = life.bench.shard.database.connection
    broken = c.execute("SELECT request_id FROM events WHERE length(event) < 300 LIMIT 1").get
    c.execute("UPDATE events SET event = x'ff' WHERE request_id = ?", (broken,))
    foreign = life.bench.event()
    foreign.request_id = ids.mint(1_800_000_000_000, 7)
    c.execute(
        "UPDATE events SET request_id = ?, event = ? WHERE sequence = (SELECT max(sequence) FROM events)",
        (foreign.request_id, foreign.SerializeToString()),
    )
    life.crash()
    code, told, _ = run(capsys, "check", *place(run_dir), "--full")
    assert code == 1 and any("ids of other shards" in finding for finding in told["findings"])
    assert any(f"{ids.to_text(broken)} in events does not decode" in finding for finding in told["findings"])
    code, told, _ = run(capsys, "repair", *place(run_dir))
    assert code == 0 and told["refused_rows"] == {"events": 2} and told["kept"]["events"] == 369


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("DELETE FROM expiry_zones", "no expiry zone"),
        ("UPDATE expiry_zones SET expires_at_ms = 9000000000000000", "later than the events"),
        ("DELETE FROM lanes WHERE lane_id = 2", "a lane that does not exist"),
        ("UPDATE meta SET value = 3 WHERE key = 'shard_id'", "it says that it is shard 3"),
        ("INSERT INTO outcome_buckets VALUES (99, 1)", "outcomes_99 is missing"),
        ("DELETE FROM outcome_buckets", "of no bucket"),
        (
            "UPDATE delayed SET request_id = (SELECT request_id FROM events LIMIT 1) "
            "WHERE delayed_id = (SELECT max(delayed_id) FROM delayed)",
            "both in events and in delayed",
        ),
    ],
)
def test_a_check_knows_what_must_hold(run_dir: Path, capsys: pytest.CaptureFixture[str], sql: str, words: str) -> None:
    """Each invariant of the shard's own, broken in a file that SQLite finds in order."""
    life = Life(run_dir, events=50)
    life.bench.shard.database.connection.execute(sql)
    life.crash()
    code, told, _ = run(capsys, "check", *place(run_dir))
    assert code == 1 and any(words in finding for finding in told["findings"]), told
    assert any("unfinished events and 10 dead letters" in finding for finding in told["findings"])


def test_an_old_or_foreign_file_needs_consent(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    life = Life(run_dir)
    path = shard_path(run_dir, 0)
    life.bench.close()
    old = path.read_bytes()
    life.bench.open()
    life.bench.close()
    path.write_bytes(old)
    for command in ("check", "repair"):
        code, told, err = run(capsys, command, *place(run_dir))
        assert code == 1 and "an old copy: generation 1, the manifest says 2" in str(told) + err
    assert "--accept-old-copy" in err and path.read_bytes() == old
    assert run(capsys, "repair", *place(run_dir), "--accept-old-copy")[0] == 0
    assert life.found() == life.states
    life.bench.shard.database.close()


def test_a_missing_file_is_given_up_only_on_request(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    life = Life(run_dir)
    life.crash()
    path = shard_path(run_dir, 0)
    kept = path.rename(run_dir / "elsewhere")
    code, _, err = run(capsys, "repair", *place(run_dir))
    assert code == 1 and "381 unfinished events and 10 dead letters" in err and "--start-empty" in err
    code, told, _ = run(capsys, "repair", *place(run_dir), "--start-empty")
    assert code == 0 and told["last_known"]["depth"] == 381
    assert life.found() == {}
    life.bench.close()
    kept.replace(path)
    with pytest.raises(ShardDamaged, match="foreign file"):
        open_verified(run_dir, 0, Manifest(run_dir), 1 << 20)


def test_a_lost_manifest_is_rebuilt_shard_by_shard(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And never by making an empty shard for one whose file is gone."""
    life = Life(run_dir)
    life.bench.close()
    (run_dir / "manifest.json").unlink()
    code, _, err = run(capsys, "repair", *place(run_dir))
    assert code == 1 and "--accept-old-copy" in err
    assert run(capsys, "repair", *place(run_dir), "--accept-old-copy")[0] == 0
    assert life.found() == life.states
    life.bench.close()
    with pytest.raises(ShardDamaged, match="manifest was lost"):
        open_verified(run_dir, 1, Manifest(run_dir), 1 << 20)
    assert offline.main(["repair", "--directory", str(run_dir), "--shard", "1", "--start-empty"]) == 0
    open_verified(run_dir, 1, Manifest(run_dir), 1 << 20).close()


def test_a_served_shard_is_left_alone(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from services.queue.identity import lock

    life = Life(run_dir, events=1)
    held = lock(run_dir / "shard-0000.lock")
    for command in ("check", "repair", "export"):
        code, _, err = run(capsys, command, *place(run_dir))
        assert code == 1 and "another process serves or repairs this shard" in err
    os.close(held)
    life.bench.shard.database.close()


@pytest.mark.parametrize("step", range(12))
def test_a_repair_that_dies_anywhere_is_finished_or_undone(
    run_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Each rename, sync and removal of the exchange fails in turn, as if the process had died there."""
    life = Life(run_dir, events=30)
    life.crash()
    left = step

    def dying(act: Any) -> Any:
        def wrapped(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return act(*arguments, **more)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dying(Path.replace))
        patch.setattr(install, "sync_directory", dying(sync_directory))
        patch.setattr(install, "sync_file", dying(install.sync_file))
        try:
            offline.main(["repair", *place(run_dir)])
            life.bench.manifest = Manifest(run_dir)
        except KeyboardInterrupt:
            pass
    capsys.readouterr()
    assert life.found() == life.states
    life.bench.close()
    assert run(capsys, "check", *place(run_dir))[0] == 0
    assert not list(run_dir.glob("*.pending.json"))


def test_an_export_has_every_event_with_its_payload(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Text as text, other bytes as base64; of a damaged file what is readable, and exit 1."""
    life = Life(run_dir)
    life.crash()
    before = {path.name: path.read_bytes() for path in run_dir.iterdir()}
    out = run_dir / "out.jsonl"
    assert offline.main(["export", *place(run_dir), "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {ids.from_text(row["request_id"]): row["state"] for row in rows} == life.states
    for row in rows:
        expected = life.payloads[ids.from_text(row["request_id"])]
        if "payload" in row:
            assert row["payload"].encode() == expected
        else:
            assert (row["payload_base64"], expected) == ("//4=", b"\xff\xfe")
    dead = next(row for row in rows if row["state"] == "dead")
    assert (dead["error_type"], dead["response_payload"], dead["condition"]) == ("E", "out", "retries_exhausted")
    assert {name: data for name, data in before.items() if not name.endswith(".lock")} == {
        path.name: path.read_bytes() for path in run_dir.iterdir() if path.suffix not in (".jsonl", ".lock")
    }
    capsys.readouterr()
    leaf = pages_of(shard_path(run_dir, 0), "events")["leaf"][3]
    overwrite(shard_path(run_dir, 0), (leaf - 1) * PAGE, os.urandom(PAGE))
    assert offline.main(["export", *place(run_dir)]) == 1
    done = capsys.readouterr()
    assert len(rows) - 40 < done.out.count("\n") < len(rows) and json.loads(done.err)["is_damaged"]
    assert offline.main(["export", *place(run_dir), "--out", str(out)]) == 1
    assert "exists" in capsys.readouterr().err


def test_a_shard_after_a_crash_is_checked_and_exported_with_its_wal(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is copied from it or cut off it by that."""
    log = crashed_with_wal(run_dir)
    size = log.stat().st_size
    code, told, _ = run(capsys, "check", *place(run_dir))
    assert code == 0 and told["rows"]["events"] == 20
    assert offline.main(["export", *place(run_dir)]) == 0
    assert capsys.readouterr().out.count("\n") == 20 and log.stat().st_size == size
