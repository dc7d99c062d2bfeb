"""Findings become verdicts: what gets through shows, whatever else was stopped."""

from typing import Any

from tests.attacks import columns, report
from tests.attacks.attacks import BY_NUMBER
from tests.attacks.verdicts import Verdict, controls_missed, shown_by, surprises, variants_of, worst

SIGNALS = BY_NUMBER[4]
STRONG = columns.BY_NAME["c"]


def row(attack: Any, obtained: dict[str, list[str]], controls: bool = True) -> dict[str, Any]:
    names = {**{name: [] for name in attack.variants}, **obtained}
    return {
        "findings": {name: {"obtained": got, "refused": {}} for name, got in names.items()},
        "controls": {name: {"obtained": ["yes"] if controls else [], "refused": {}} for name in attack.controls},
        "neighbour": {"invocations": 9, "errors": 0, "p50_ms": 1.0, "p99_ms": 2.0},
    }


def test_one_variant_that_gets_through_is_the_attack() -> None:
    """It is named, and it is a surprise."""
    found = row(SIGNALS, {"kill": ["victim"]})
    verdicts = variants_of(SIGNALS, STRONG, found, {(4, name) for name in SIGNALS.controls})
    assert worst(verdicts) is Verdict.NOT_STOPPED and verdicts["named"] is Verdict.STOPPED
    assert len(surprises(SIGNALS, STRONG, found)) == 1 and "kill" in surprises(SIGNALS, STRONG, found)[0]


def test_what_happens_to_others_counts() -> None:
    """A neighbour's errors, a process left behind, a lost host: no attack is stopped with these."""
    for name in ("neighbours notice", "something is left", "the host is lost", "not carried out"):
        found = row(SIGNALS, {name: ["1"]})
        assert surprises(SIGNALS, STRONG, found)
        assert worst(variants_of(SIGNALS, STRONG, found, set())) is Verdict.NOT_STOPPED


def test_a_variant_that_was_not_tried_is_noticed() -> None:
    """A program that loses one on the way does not pass."""
    found = row(SIGNALS, {})
    del found["findings"]["kill"]
    assert "no finding" in surprises(SIGNALS, STRONG, found)[0]


def test_stopped_is_shown_only_by_a_plain_process_that_succeeds() -> None:
    """Without one the verdict says so, and the run has a fault."""
    found = row(SIGNALS, {}, controls=False)
    shown = shown_by({"c": {"attacks": {"4": found}}})
    assert shown == set()
    assert worst(variants_of(SIGNALS, STRONG, found, shown)) is Verdict.NOT_SHOWN
    assert len(controls_missed(SIGNALS, STRONG, found)) == len(SIGNALS.controls)


def test_what_is_by_design_depends_on_the_network() -> None:
    """The host's localhost is offered on its network, and a surprise on an isolated one."""
    network = BY_NUMBER[10]
    found = row(network, {"localhost": ["canary"]})
    isolated = columns.BY_NAME["c-isolated"]
    assert variants_of(network, STRONG, found, set())["localhost"] is Verdict.BY_DESIGN
    assert variants_of(network, isolated, found, set())["localhost"] is Verdict.NOT_STOPPED
    assert surprises(network, isolated, found) and not surprises(network, STRONG, found)


def test_the_table_says_what_is_not_supported_and_what_is_a_fault() -> None:
    """A host's own words for why; a gap that nobody wrote down is called a fault."""
    facts = {
        "command": "x",
        "machine": dict.fromkeys(("time", "commit", "kernel", "cpu", "file_system", "python"), "x")
        | {"landlock": 6, "cgroups": 2, "cores": 2},
        "columns": {
            "c": {"supported": True, "tier": "c", "attacks": {"4": row(SIGNALS, {"kill": ["victim"]})}},
            "b": {"supported": False, "reason": "no cgroups here"},
        },
    }
    text = report.table(facts)
    assert "no cgroups here" in text and "| not supported | **not stopped**: kill [1] |" in text
    assert "4 signal others, kill: a fault" in text
