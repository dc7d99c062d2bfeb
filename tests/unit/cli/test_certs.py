"""`evenflow certs`: one run makes, the next keeps, and what must change changes."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.certificates.folder import CertificateFolder, parse_holders
from cli.failures import CliError
from services.shared.identity import identity_of
from services.shared.revocation import parse
from tests.kit.fleet import run_cli

NAMES = ["control", "queue/queue-0", "runtime"]
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def ensure(folder: Path, now: datetime = NOW, names: list[str] = NAMES, days: int = 90) -> dict[str, tuple[str, str]]:
    """By holder: what was done, and why."""
    made = CertificateFolder(folder, now).ensure(parse_holders(names), days, 30)
    return {str(one.holder): (one.what, one.why) for one in made}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    """Everything is there after the first, for its owner alone; the second leaves each byte."""
    assert set(ensure(tmp_path).values()) == {("made", "there was none")}
    before = contents(tmp_path)
    each = {"ca.crt", "node.crt", "node.key", "fleet.token", "revoked"}
    assert {path.name for path in (tmp_path / "queue-0").iterdir()} == each
    assert len({before[f"{name}/fleet.token"] for name in ("ca", "control", "queue-0", "runtime")}) == 1
    for path in tmp_path.rglob("*"):
        secret = path.is_dir() or path.suffix in (".key", ".token", ".json")
        assert not secret or path.stat().st_mode & 0o077 == 0, path
    assert set(ensure(tmp_path, NOW + timedelta(days=59)).values()) == {("kept", "")}
    assert contents(tmp_path) == before


def test_what_will_not_do_is_made_anew(tmp_path: Path) -> None:
    """Soon over, damaged, another's, another authority's: each is told, the rest stays."""
    ensure(tmp_path)
    assert ensure(tmp_path, NOW + timedelta(days=61))["control"] == ("renewed", "it had less than 30 days left")
    (tmp_path / "runtime" / "node.key").write_text("nonsense")
    assert ensure(tmp_path, NOW + timedelta(days=61)) == {
        "control": ("kept", ""),
        "queue/queue-0": ("kept", ""),
        "runtime": ("renewed", "its files were damaged"),
    }
    for name in ("node.crt", "node.key"):
        (tmp_path / "runtime" / name).write_bytes((tmp_path / "control" / name).read_bytes())
    assert ensure(tmp_path, NOW + timedelta(days=61))["runtime"] == ("renewed", "it was for control")
    other = tmp_path / "other"
    ensure(other)
    for name in ("node.crt", "node.key"):
        (tmp_path / "control" / name).write_bytes((other / "control" / name).read_bytes())
    assert ensure(tmp_path)["control"] == ("renewed", "it was another authority's")


def test_revoking_reaches_every_folder_and_covers_renewals(tmp_path: Path) -> None:
    """All certificates of a holder that have not ended are on the list; the next run makes a new one."""
    ensure(tmp_path)
    first = identity_of((tmp_path / "queue-0" / "node.crt").read_bytes()).serial
    later = NOW + timedelta(days=70)
    ensure(tmp_path, later)
    second = identity_of((tmp_path / "queue-0" / "node.crt").read_bytes()).serial
    [holder] = parse_holders(["queue/queue-0"])
    assert CertificateFolder(tmp_path, later).revoke(holder) == [first, second]
    made = ensure(tmp_path, later)
    assert made["queue/queue-0"] == ("renewed", "it is revoked") and made["control"] == ("kept", "")
    for name in ("control", "queue-0", "runtime"):
        assert parse((tmp_path / name / "revoked").read_text()) == {first, second}
    with pytest.raises(CliError, match="no certificate of poller was made"):
        CertificateFolder(tmp_path, later).revoke(parse_holders(["poller"])[0])


def test_the_end_of_the_authority_is_told_in_time(tmp_path: Path) -> None:
    """It signs nothing that would outlive it."""
    ensure(tmp_path)
    with pytest.raises(CliError, match="need a new one"):
        ensure(tmp_path, NOW + timedelta(days=3_600))


@pytest.mark.parametrize(
    "names", [["king"], ["queue/"], ["queue/UP"], ["queue/a/b"], ["queue/ca"], ["queue", "poller/queue"]]
)
def test_names_are_checked_first(names: list[str]) -> None:
    """No such role, no such node, two in one folder."""
    with pytest.raises(CliError):
        parse_holders(names)


def test_the_command(tmp_path: Path) -> None:
    """As a one-shot service runs it; and what it says of bad options."""
    out = str(tmp_path / "certs")
    done = run_cli("certs", "--out", out, *NAMES)
    assert done.returncode == 0 and done.stdout.count("made ") == 3, done.stderr
    found = json.loads(run_cli("certs", "--out", out, *NAMES, "--revoke", "runtime", "--json").stdout)
    assert [one["what"] for one in found["certificates"]] == ["kept", "kept", "renewed"]
    assert list(found["revoked"]) == ["runtime"] and len(found["revoked"]["runtime"]) == 1
    for arguments in (["--days", "0", "control"], ["--renew-days", "90", "control"], [], ["king"]):
        refused = run_cli("certs", "--out", out, *arguments)
        assert refused.returncode == 2 and refused.stderr.startswith("error: "), arguments
    os.chmod(tmp_path / "certs" / "ca" / "ca.key", 0o600)
    (tmp_path / "certs" / "ca" / "ca.key").write_text("nonsense")
    assert "is unusable" in run_cli("certs", "--out", out, "control").stderr
