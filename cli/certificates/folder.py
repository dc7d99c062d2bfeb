"""The folder that `evenflow certs` keeps: the authority apart, and one folder for each node with all that it needs."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cli.certificates.authority import Authority
from cli.failures import EXIT_USAGE, CliError
from cli.fleet_folder import TOKEN_NAME, prepare_token
from services.shared import revocation
from services.shared.identity import identity_of, uri_of
from services.shared.tls import Material

AUTHORITY_FOLDER = "ca"
CA_NAME, CERTIFICATE_NAME, KEY_NAME, REVOKED_NAME = "ca.crt", "node.crt", "node.key", "revoked"
CA_KEY_NAME = "ca.key"
ISSUED_NAME = "issued.json"
MAX_NAMES = 1_024


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a certificate is for: `ROLE/NODE`, or `ROLE` for any node of that role."""

    role: str
    node_id: str = ""

    @classmethod
    def parse(cls, text: str) -> "Holder":
        """CliError: that is none."""
        role, slash, node_id = text.partition("/")
        try:
            uri_of(role, node_id)
        except ValueError as e:
            raise CliError(f"{text!r}: {e}; ROLE or ROLE/NODE is expected, such as queue/queue-0", EXIT_USAGE) from None
        if (slash and not node_id) or (node_id or role) == AUTHORITY_FOLDER:
            raise CliError(f"{text!r}: ROLE or ROLE/NODE is expected, such as queue/queue-0", EXIT_USAGE)
        return cls(role, node_id)

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return self.node_id or self.role

    def __str__(self) -> str:
        return f"{self.role}/{self.node_id}" if self.node_id else self.role


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done about one holder: "kept", "made" or "renewed", with the reason of a renewal."""

    holder: Holder
    what: str
    serial: int
    ends: datetime
    why: str = ""


class CertificateFolder:
    """Everything below one folder. Certificates are put in place whole; running it again changes what must change."""

    def __init__(self, folder: Path, now: datetime | None = None) -> None:
        """Makes the authority and the fleet's token where there are none. CliError: a file is unusable."""
        self._folder = folder
        self._now = now or datetime.now(UTC)
        self._home = folder / AUTHORITY_FOLDER
        try:
            _private_folder(self._home)
            self._authority = self._find_authority()
            self._token = prepare_token(self._home).read_bytes()
        except OSError as e:
            raise CliError(f"{e.filename or folder}: {e.strerror}") from None

    def revoke(self, holder: Holder) -> list[int]:
        """Count its certificates, all that have not ended, no more; their serial numbers. CliError: there is none."""
        found = [one for one in self._issued() if one["holder"] == str(holder)]
        serials = [int(one["serial"], 16) for one in found]
        if not serials:
            raise CliError(f"no certificate of {holder} was made in {self._folder}")
        known = self._revoked()
        for serial in serials:
            known.setdefault(serial, f"{holder}, {self._now:%Y-%m-%d}")
        _write(self._home / REVOKED_NAME, revocation.render(known.items()).encode(), 0o644)
        return serials

    def ensure(self, holders: Iterable[Holder], days: int, renew_days: int) -> list[Outcome]:
        """A certificate for each with at least `renew_days` left, and in each folder all that a node needs.

        CliError: two of them have the same folder; the authority ends too soon.
        """
        wanted = {holder.folder: holder for holder in holders}
        if self._authority.not_after < self._now + timedelta(days=days):
            raise CliError(
                f"the authority in {self._home} ends {self._authority.not_after:%Y-%m-%d}: certificates for {days} "
                "days need a new one. Stop the fleet, move the folder away and run this again"
            )
        try:
            outcomes = [self._ensure_one(holder, days, renew_days) for holder in wanted.values()]
            self.spread()
        except OSError as e:
            raise CliError(f"{e.filename or self._folder}: {e.strerror}") from None
        return outcomes

    def spread(self) -> None:
        """Bring authority, token and revoked serial numbers into every holder's folder."""
        revoked = revocation.render(self._revoked().items()).encode()
        for path in sorted(self._folder.iterdir()):
            if path.name != AUTHORITY_FOLDER and (path / CERTIFICATE_NAME).is_file():
                _write(path / CA_NAME, self._authority.pem, 0o644)
                _write(path / TOKEN_NAME, self._token, 0o600)
                _write(path / REVOKED_NAME, revoked, 0o644)

    def _ensure_one(self, holder: Holder, days: int, renew_days: int) -> Outcome:
        folder = self._folder / holder.folder
        _private_folder(folder)
        why = self._unfit(holder, folder, renew_days)
        has_one = (folder / CERTIFICATE_NAME).exists()
        if why:
            issued = self._authority.issue(holder.role, holder.node_id, self._now, days)
            identity = identity_of(issued.certificate)
            # Noted first: what is not noted could not be revoked.
            self._note(holder, identity.serial, self._now + timedelta(days=days))
            # A server that looks between the two finds that they do not fit and goes on with what it has.
            _write(folder / KEY_NAME, issued.key, 0o600)
            _write(folder / CERTIFICATE_NAME, issued.certificate, 0o644)
        else:
            identity = identity_of((folder / CERTIFICATE_NAME).read_bytes())
        what = "kept" if not why else ("renewed" if has_one else "made")
        return Outcome(holder, what, identity.serial, datetime.fromtimestamp(identity.not_after, UTC), why)

    def _unfit(self, holder: Holder, folder: Path, renew_days: int) -> str:
        """Why the certificate that is there will not do; empty: it does."""
        try:
            pem, key = (folder / CERTIFICATE_NAME).read_bytes(), (folder / KEY_NAME).read_bytes()
        except FileNotFoundError:
            return "there was none"
        try:
            identity = identity_of(pem)
            Material(self._authority.pem, pem, key).check()
        except ValueError:
            return "its files were damaged"
        if (identity.role, identity.node_id) != (holder.role, holder.node_id):
            return f"it was for {identity}"
        if not self._authority.has_signed(pem):
            return "it was another authority's"
        if identity.serial in self._revoked():
            return "it is revoked"
        if identity.not_after < (self._now + timedelta(days=renew_days)).timestamp():
            return f"it had less than {renew_days} days left"
        return ""

    def _find_authority(self) -> Authority:
        certificate, key = self._home / CA_NAME, self._home / CA_KEY_NAME
        if not key.exists():
            authority, made = Authority.make(self._now)
            # The key last: without it the next run begins anew.
            _write(certificate, made.certificate, 0o644)
            _write(key, made.key, 0o600)
            return authority
        try:
            return Authority(certificate.read_bytes(), key.read_bytes())
        except ValueError as e:
            raise CliError(f"the authority in {self._home} is unusable: {e}") from None

    # --- what was issued and revoked

    def _issued(self) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = json.loads((self._home / ISSUED_NAME).read_text())
        except FileNotFoundError:
            return []
        except ValueError as e:
            raise CliError(f"{self._home / ISSUED_NAME} is damaged: {e}") from None
        return [one for one in found if datetime.fromisoformat(one["ends"]) > self._now]

    def _note(self, holder: Holder, serial: int, ends: datetime) -> None:
        entry = {"holder": str(holder), "serial": f"{serial:x}", "ends": ends.isoformat(timespec="seconds")}
        text = json.dumps([*self._issued(), entry], indent=1)
        _write(self._home / ISSUED_NAME, text.encode(), 0o600)

    def _revoked(self) -> dict[int, str]:
        """Serial numbers with their comments."""
        try:
            text = (self._home / REVOKED_NAME).read_text()
            serials = revocation.parse(text)
        except FileNotFoundError:
            return {}
        except ValueError as e:
            raise CliError(f"{self._home / REVOKED_NAME}: {e}") from None
        comments = {line.partition("#")[0].strip(): line.partition("#")[2].strip() for line in text.splitlines()}
        return {serial: comments.get(f"{serial:x}", "") for serial in sorted(serials)}


def parse_holders(texts: Iterable[str]) -> list[Holder]:
    """Holders as the command takes them. CliError: one is none, they are too many, or two share a folder."""
    holders = [Holder.parse(text) for text in dict.fromkeys(texts)]
    if len(holders) > MAX_NAMES:
        raise CliError(f"at most {MAX_NAMES} certificates at once", EXIT_USAGE)
    by_folder: dict[str, Holder] = {}
    for holder in holders:
        other = by_folder.setdefault(holder.folder, holder)
        if other != holder:
            raise CliError(f"{other} and {holder} would share the folder {holder.folder}", EXIT_USAGE)
    return holders


def _private_folder(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Put a file in place whole; one that says the same already stays."""
    try:
        if path.read_bytes() == data and path.stat().st_mode & 0o777 == mode:
            return
    except FileNotFoundError:
        pass
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
