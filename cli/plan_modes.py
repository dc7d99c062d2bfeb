"""What `evenflow plan` does in each of its modes: measure, confirm, compare. `loadtest` is loaded only here."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import typer

from cli.commands.load import EXIT_VOID
from cli.failures import EXIT_FAILED, EXIT_USAGE, CliError, describe_refusal, from_rpc
from cli.load_packages import needs_load
from cli.output import print_line, span_of_ms
from cli.plan_options import Given
from cli.plan_watcher import bar

if TYPE_CHECKING:
    from loadtest.plan.cost import Prices
    from loadtest.plan.findings import Findings, PolicyOutcome
    from loadtest.plan.measured import Measured

EXIT_INTERRUPTED = 130
POLICY_SEEDS = 20
QUICK_POLICY_SEEDS = 5
POLICY_TENANTS = 1_000
POLICY_AGES = (0, 1, 10)


def measure(given: Given, out: Path, *, as_json: bool) -> None:
    """Make a plan. CliError: bad options, a fleet or driver that fails, Ctrl-C (what was measured is kept).

    typer.Exit: EXIT_VOID, when it is written and shows nothing of the fleet.
    """
    with needs_load():
        from cli.plan_options import asked_of, fleet_of, prices_of, targets_of
        from loadtest.plan import interruptible
        from loadtest.plan.measure import Measuring
        from loadtest.plan.report.headline import void_words, warning
        from loadtest.plan.rig import Rig
    _check_out(out)
    asked, fleet = asked_of(given), fleet_of(given)
    prices, targets = prices_of(given), targets_of(given)
    with tempfile.TemporaryDirectory(prefix="evenflow-plan-", dir="/tmp") as folder, bar() as shown:
        measuring = Measuring(asked, Rig(fleet, given.fleet), Path(folder), shown)
        with keeping(measuring.measured, out):
            measured = interruptible.run(measuring.run())
            shown.done(f"looking at the fleet took {100 * measuring.looking_part:.1f} % of a core")
            shown.doing("policies", 1.0)
            policies = _policies(measured, QUICK_POLICY_SEEDS if given.is_quick else POLICY_SEEDS)
            found = _conclude(measured, prices, targets, policies)
    for note in measuring.search.notes:
        print_line(f"note: {note}")
    with keeping(lambda: measured, out):
        _save(measured, found, out, as_json=as_json)
    if wrong := warning(found):
        print_line(wrong)
        raise typer.Exit(EXIT_VOID)
    print_line(void_words(found))


def confirm(path_json: Path, per_second: float, out: Path | None, *, as_json: bool) -> None:
    """Put a prediction to the test and add what came out to the plan; out: where to instead. CliError: as measure.

    typer.Exit: EXIT_VOID, when every run of a fleet was void.
    """
    with needs_load():
        from loadtest.bench import machine
        from loadtest.plan import files, interruptible
        from loadtest.plan.confirm import Confirming, announced, summary, unlike
        from loadtest.plan.rig import PlanError
    out = out or path_json.with_suffix(".html")
    _check_out(out)
    try:
        plan, found = files.load(path_json)
    except files.PlanFileError as e:
        raise CliError(str(e), EXIT_USAGE) from None
    with tempfile.TemporaryDirectory(prefix="evenflow-plan-", dir="/tmp") as folder, bar() as shown:
        notes = unlike(plan.machine, machine.describe_host(Path(folder)))
        for note in notes:
            shown.done(note)
        try:
            confirming = Confirming(plan, found, per_second, Path(folder), shown)
        except PlanError as e:
            raise CliError(str(e)) from None
        words = announced(confirming.trials, per_second)
        shown.done(f"{words}, about {span_of_ms(1_000 * round(confirming.seconds))}")
        with keeping(lambda: confirming.measured() if confirming.runs else None, out):
            measured = interruptible.run(confirming.run())
    with keeping(lambda: measured, out):
        targets = tuple(one.per_second for one in found.needed)
        prices = found.cost.prices if found.cost else None
        _write(measured, _conclude(measured, prices, targets, found.policies), out, as_json=as_json)
    came_out = summary(confirming.trials, confirming.runs)
    for line in (*notes, *came_out.lines):
        print_line(line)
    if not came_out.is_known:
        raise typer.Exit(EXIT_VOID)


@contextmanager
def keeping(told: "Callable[[], Measured | None]", out: Path) -> Iterator[None]:
    """Whatever ends it before its time, what was measured is written down and the error says where.

    CliError: for all that a user can meet; a fault of ours goes on as it is.
    """
    from loadtest.plan.interruptible import Interrupted
    from loadtest.plan.rig import PlanError

    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        raise CliError(f"interrupted; {_keep(told(), out)}", EXIT_INTERRUPTED) from None
    except CliError as e:
        raise CliError(f"{e.message}; {_keep(told(), out)}", e.exit_code) from None
    except grpc.RpcError as e:
        raise CliError(f"{describe_refusal(from_rpc(e))}; {_keep(told(), out)}", EXIT_FAILED) from None
    except OSError as e:
        words = f"{e.filename or 'a file'}: {e.strerror or e}"
        raise CliError(f"{words}; {_keep(told(), out)}", EXIT_FAILED) from None
    except (PlanError, ValueError) as e:
        raise CliError(f"{e}; {_keep(told(), out)}", EXIT_FAILED) from None
    except Exception:
        print_line(_keep(told(), out))
        raise


def compare(first: Path, second: Path, out: Path) -> None:
    """Two saved plans beside each other. CliError: one is none."""
    with needs_load():
        from loadtest.plan import compare as comparing
        from loadtest.plan.files import PlanFileError
    _check_out(out)
    try:
        print_line(comparing.run(first, second, out))
    except PlanFileError as e:
        raise CliError(str(e), EXIT_USAGE) from None


def _check_out(out: Path) -> None:
    # Before half an hour of measuring, not after it.
    if not out.absolute().parent.is_dir():
        raise CliError(f"--out {out}: there is no folder {out.parent}", EXIT_USAGE)
    if out.suffix != ".html":
        raise CliError(f"--out {out}: a name that ends with .html is expected", EXIT_USAGE)


def _policies(measured: "Measured", seeds: int) -> "Sequence[PolicyOutcome]":
    from loadtest.simulate.policies import compare as compare_policies

    tenants = max(POLICY_TENANTS, measured.spec.traffic.tenants)
    return compare_policies(measured.fleet.shards, tenants, stale_depths=POLICY_AGES, seeds=seeds, processes=1)


def _conclude(
    measured: "Measured",
    prices: "Prices | None",
    targets: Sequence[float],
    policies: "Sequence[PolicyOutcome]",
) -> "Findings":
    from loadtest.plan.findings import conclude

    try:
        return conclude(measured, prices=prices, targets_per_second=targets, policies=policies)
    except ValueError as e:
        raise CliError(str(e), EXIT_USAGE) from None


def _save(measured: "Measured", found: "Findings", out: Path, *, as_json: bool) -> None:
    from loadtest.plan.report.headline import chosen_slots, first_to_break, plan_with, title

    _write(measured, found, out, as_json=as_json)
    best = found.best
    print_line(f"{title(found)} ({best.held} of {best.repeats} runs)" if best.per_second else title(found))
    for line in (
        plan_with(measured, found) if best.per_second else "",
        first_to_break(found),
        chosen_slots(measured, found),
    ):
        if line:
            print_line(line)


def _write(measured: "Measured", found: "Findings", out: Path, *, as_json: bool) -> None:
    from loadtest.plan import files

    files.save(measured, found, out)
    if as_json:
        print_line(files.as_text(measured, found).rstrip())
    print_line(f"written: {out} and {out.with_suffix('.json')}")


def _keep(measured: "Measured | None", out: Path) -> str:
    """Write down what was measured so far; where it is, in words."""
    from loadtest.plan import files
    from loadtest.plan.findings import conclude

    if measured is None:
        return "nothing had been measured yet"
    path = out.with_suffix(".partial.json")
    try:
        files.write_whole(path, files.as_text(measured, conclude(measured)))
    except (OSError, ValueError) as e:
        return f"the {len(measured.runs)} runs so far could not be kept in {path}: {e}"
    return f"the {len(measured.runs)} runs so far are in {path}"
