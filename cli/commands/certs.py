"""`evenflow certs`: who is who between machines."""

from pathlib import Path
from typing import Annotated

import typer

from cli.commands.options import JsonOption
from cli.failures import EXIT_USAGE, CliError
from cli.output import print_json, print_line
from services.shared.identity import ROLES

MAX_DAYS = 825
DEFAULT_DAYS = 90
DEFAULT_RENEW_DAYS = 30


def certs(
    holders: Annotated[
        list[str] | None,
        typer.Argument(metavar="ROLE[/NODE]...", help=f"Whom to make certificates for. Roles: {', '.join(ROLES)}."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", help="Folder to keep them in; a folder each, `ca` for the authority.")
    ] = Path("certs"),
    days: Annotated[int, typer.Option(help="How long a new certificate counts.")] = DEFAULT_DAYS,
    renew_days: Annotated[int, typer.Option(help="One with less time left is made anew.")] = DEFAULT_RENEW_DAYS,
    revoke: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE[/NODE]", help="Let its certificates count no more; may be given several times."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make, renew and revoke the certificates that services of a fleet on several machines show each other.

    Run it again whenever you like: what is good stays.
    """
    # Not at the top: loading it takes a tenth of a second.
    from cli.certificates.folder import CertificateFolder, parse_holders

    if not 1 <= days <= MAX_DAYS:
        raise CliError(f"--days must be within 1 to {MAX_DAYS}, not {days}", EXIT_USAGE)
    if not 0 <= renew_days < days:
        raise CliError(f"--renew-days must be within 0 to {days - 1}, not {renew_days}", EXIT_USAGE)
    wanted, unwanted = parse_holders(holders or []), parse_holders(revoke or [])
    if not wanted and not unwanted:
        raise CliError("name at least one role, such as `evenflow certs control frontend queue/queue-0`", EXIT_USAGE)
    folder = CertificateFolder(out)
    revoked = {str(holder): folder.revoke(holder) for holder in unwanted}
    outcomes = folder.ensure(wanted, days, renew_days)
    if as_json:
        print_json(
            {
                "revoked": {holder: [f"{serial:x}" for serial in serials] for holder, serials in revoked.items()},
                "certificates": [
                    {
                        "holder": str(one.holder),
                        "what": one.what,
                        "why": one.why,
                        "serial": f"{one.serial:x}",
                        "ends": one.ends.isoformat(timespec="seconds"),
                        "folder": str(out / one.holder.folder),
                    }
                    for one in outcomes
                ],
            }
        )
        return
    for holder, serials in revoked.items():
        print_line(f"revoked  {holder} ({len(serials)})")
    for one in outcomes:
        why = f" ({one.why})" if one.what == "renewed" else ""
        print_line(f"{one.what:8} {one.holder}, until {one.ends:%Y-%m-%d} in {out / one.holder.folder}{why}")
