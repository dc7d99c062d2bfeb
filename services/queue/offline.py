"""`python -m services.queue.offline`: looks after shard files that no node serves; `evenflow shards` runs it.

It takes the shard's lock first, so that it never touches a file that is served; the manifest is only read. Answers are
JSON on stdout. Exit codes: 0 done and whole, 1 refused or not whole, 2 wrong use.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import apsw

from services.queue import backup, export, identity, install, losses, repair, verification
from services.queue.database import require_safe_sqlite
from services.queue.identity import Manifest, ShardDamaged, ShardRecord
from services.queue.paths import shard_path
from services.queue.salvage import Salvage

EXIT_REFUSED = 1


class Refused(Exception):
    """One line for the user."""


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        require_safe_sqlite()
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except (Refused, repair.RepairRefused, ShardDamaged, ValueError, OSError, apsw.Error) as e:
        print(f"error: {e}", file=sys.stderr)
        return EXIT_REFUSED


def _check(options: argparse.Namespace) -> int:
    told = [_check_one(options, shard_id) for shard_id in options.shards]
    _print({"shards": told})
    return EXIT_REFUSED if any(one["findings"] for one in told) else 0


def _check_one(options: argparse.Namespace, shard_id: int) -> dict[str, Any]:
    with _locked(options, shard_id):
        record, is_pending = _record(options.directory, shard_id)
        if is_pending:
            install.finish_files(options.directory, shard_id)
        path = shard_path(options.directory, shard_id)
        now_ms = time.time_ns() // 1_000_000
        if not path.exists():
            verdict = verification.Verdict([f"{path.name} is missing"])
        else:
            verdict = verification.verify(path, shard_id, full=options.full, now_ms=now_ms)
            refusal = repair.judge(verdict.meta, record, shard_id)
            if refusal is not None and (verdict.meta or record is None):
                verdict.findings.append(refusal)
        if verdict.findings and record is not None:
            verdict.findings.append(losses.describe(record.known))
        return {
            "shard_id": shard_id,
            "findings": verdict.findings,
            "rows": verdict.rows,
            "pages": verdict.pages,
        }


def _repair(options: argparse.Namespace) -> int:
    with _locked(options, options.shard):
        directory, shard_id = options.directory, options.shard
        record, is_pending = _record(directory, shard_id)
        if is_pending:
            install.finish_files(directory, shard_id)
        path = shard_path(directory, shard_id)
        if options.start_empty:
            if path.exists():
                raise Refused(f"{path.name} is there: repair it without --start-empty, or move it away first")
            report, after = repair.build_empty(directory, shard_id, record)
        elif path.exists():
            report, after = repair.build(directory, shard_id, path, record, accept_old=options.accept_old_copy)
        else:
            lost = losses.describe(record.known) if record is not None else "the manifest does not name it"
            raise Refused(
                f"{path.name} is missing; {lost}: put the file or a backup back (evenflow shards restore), "
                "or give it up with --start-empty"
            )
        return _install(options, report, after, "repair")


def _restore(options: argparse.Namespace) -> int:
    with _locked(options, options.shard):
        directory, shard_id = options.directory, options.shard
        record, is_pending = _record(directory, shard_id)
        if is_pending:
            install.finish_files(directory, shard_id)
        source: Path = options.source
        note = backup.read_note(source)
        if note is not None and note.sha256 != backup.digest_of(source):
            raise Refused(f"{source} is not the file that {backup.note_path(source).name} describes: it was changed")
        if not options.accept_old_copy:
            known = losses.describe(record.known) if record is not None else "the manifest does not name the shard"
            held = (
                f"{note.depth} unfinished events and {note.dead_letters} dead letters" if note else "an earlier state"
            )
            raise Refused(
                f"a backup is an old copy: it holds {held}; of the shard now, {known}. Events accepted since then are "
                "lost, events finished since then run again. With --accept-old-copy it is taken"
            )
        report, after = repair.take_copy(directory, shard_id, source, record)
        if note is not None:
            report.notes.append(f"taken at {note.taken_at_ms} ms since the Unix epoch")
        report.notes.append("events accepted since then are lost, events finished since then run again")
        return _install(options, report, after, "restore")


def _install(options: argparse.Namespace, report: repair.Report, after: ShardRecord, what: str) -> int:
    at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    directory, shard_id = options.directory, options.shard
    aside = install.aside_path(directory, shard_id, at)
    if any(Path(f"{aside}{suffix}").exists() for suffix in install.SUFFIXES):
        raise Refused("another repair was done in this very second: try again")
    had_file = shard_path(directory, shard_id).exists()
    written = directory / f"shard-{shard_id:04d}.{what}-{at}.json"
    told = {**asdict(report), "old_file": str(aside) if had_file else "", "report": str(written)}
    with open(written, "w", opener=_private) as file:
        json.dump(told, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    install.stage(directory, shard_id, after, at)
    install.finish_files(directory, shard_id)
    told["lost_ids"] = {table: found[:10] for table, found in report.lost_ids.items()}
    told["damaged_pages"] = len(report.damaged_pages)
    _print(told)
    return 0


def _export(options: argparse.Namespace) -> int:
    if options.source is not None:
        return _write_lines(options.source, options.shard, options.out)
    with _locked(options, options.shard):
        return _write_lines(shard_path(options.directory, options.shard), options.shard, options.out)


def _write_lines(path: Path, shard_id: int, out: Path | None) -> int:
    if not path.exists():
        raise Refused(f"{path} is missing")
    count = 0
    salvage = Salvage(path, shard_id)
    try:
        with contextlib.ExitStack() as stack:
            target: TextIO = sys.stdout
            if out is not None:
                target = stack.enter_context(open(out, "x", encoding="utf-8", opener=_private))
            for line in export.lines(salvage):
                target.write(line + "\n")
                count += 1
    finally:
        salvage.close()
    found = salvage.losses
    told = {"events": count, "is_damaged": found.is_damaged, "refused_rows": found.refused_rows}
    # Not on stdout: that has the events.
    print(json.dumps(told), file=sys.stderr, flush=True)
    return EXIT_REFUSED if found.is_damaged or found.refused_rows else 0


@contextlib.contextmanager
def _locked(options: argparse.Namespace, shard_id: int) -> Iterator[None]:
    """The shard's lock. Refused: a node serves it."""
    if not options.directory.is_dir():
        raise Refused(f"{options.directory} is not there")
    try:
        descriptor = identity.lock(shard_path(options.directory, shard_id).with_suffix(".lock"))
    except ShardDamaged as e:
        raise Refused(f"shard {shard_id}: {e}") from e
    try:
        yield
    finally:
        os.close(descriptor)


def _record(directory: Path, shard_id: int) -> tuple[ShardRecord | None, bool]:
    """What the manifest says, or will say once a repair is taken over; True: it is such a one."""
    pending = install.read_note(directory, shard_id)
    if pending is not None:
        return ShardRecord(**pending), True  # type: ignore[arg-type]  # as asdict wrote it
    return Manifest(directory).records.get(shard_id), False


def _print(told: dict[str, Any]) -> None:
    print(json.dumps(told), flush=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.queue.offline", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, run in (("check", _check), ("repair", _repair), ("restore", _restore), ("export", _export)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("--directory", type=Path, required=name != "export", help="the node's folder of shards")
        if name != "check":
            command.add_argument("--shard", type=int, required=True)
        else:
            command.add_argument("--shard", dest="shards", type=int, nargs="+", required=True)
            command.add_argument("--full", action="store_true")
        if name in ("repair", "restore"):
            command.add_argument("--accept-old-copy", action="store_true")
        if name == "repair":
            command.add_argument("--start-empty", action="store_true")
        if name in ("restore", "export"):
            command.add_argument("--from", dest="source", type=Path, required=name == "restore")
        if name == "export":
            command.add_argument("--out", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
