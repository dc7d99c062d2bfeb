"""One trace from the door to the settle: the table of expected parents and children."""

import io
import wave
from collections.abc import Iterable
from typing import Any

import pytest

from cli.commands.trace import settled_spans
from cli.trace_tree import build, walk
from tests.kit.fleet import Fleet

pytestmark = pytest.mark.fleet
NONE = ""
# parent -> child, and which service the child belongs to. The contract of docs/architecture.md's "An event's way".
ACCEPT = {
    ("frontend.invoke_async", "queue.enqueue", "evenflow-queue"),
    ("frontend.invoke_async", "queue.wait", "evenflow-queue"),
    ("frontend.invoke_async", "poller.attempt", "evenflow-poller"),
    ("frontend.invoke_async", "queue.settle", "evenflow-queue"),
    ("poller.attempt", "runtime.invoke", "evenflow-runtime"),
    ("runtime.invoke", "sandbox.handler", "evenflow-runtime"),
}
ROOT = {(NONE, "frontend.invoke_async", "evenflow-frontend")}
COLD = {("runtime.invoke", "sandbox.init", "evenflow-runtime")}
DELIVERY = {
    ("poller.attempt", "poller.deliver", "evenflow-poller"),
    ("poller.deliver", "frontend.invoke_async", "evenflow-frontend"),
}
# Times of the shard are whole milliseconds.
ROUNDING_NS = 1_000_000


def edges(spans: Iterable[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """Every (parent's name, child's name, child's service)."""
    return {
        (parent.span["name"] if parent else NONE, branch.span["name"], branch.span["service"])
        for parent, branch in walk(build(spans))
    }


def check_times(spans: Iterable[dict[str, Any]]) -> None:
    """Nothing begins before its parent, nothing ends before it begins."""
    for parent, branch in walk(build(spans)):
        span = branch.span
        assert span["end_unix_nano"] >= span["start_unix_nano"], span
        if parent is not None:
            assert span["start_unix_nano"] >= parent.span["start_unix_nano"] - ROUNDING_NS, (parent.span, span)


def test_an_async_event_and_its_destination_are_one_trace(fleet: Fleet) -> None:
    """Each hop has its parent; the accept, attempt and settle of the chained event hang below the delivery."""
    fleet.deploy("traced-last", "def handler(event, context): return event['responsePayload']")
    fleet.deploy(
        "traced-first",
        "def handler(event, context): return {'n': 1}",
        **{"async": {"on_success": {"function": "traced-last"}}},
    )
    request_id = fleet.cli("invoke", "traced-first", "--async").strip()
    fleet.cli("event", request_id, "--wait", "--within", "20")
    fleet.wait_drained()
    spans = settled_spans(fleet.data / "traces", (request_id,), 5.0)
    assert edges(spans) == ROOT | ACCEPT | COLD | DELIVERY
    assert len({span["trace_id"] for span in spans}) == 1
    names = [span["name"] for span in spans]
    assert names.count("frontend.invoke_async") == 2
    assert names.count("poller.attempt") == 2
    actions = [span["attributes"]["action"] for span in spans if span["name"] == "queue.settle"]
    assert sorted(actions) == ["ack", "ack", "handover"]
    check_times(spans)

    # What a person sees has the same hops, found by request id, with or without dashes, or by trace id.
    shown = fleet.cli("trace", request_id)
    assert all(name in shown for name in set(names))
    trace_id = fleet.cli_json("event", request_id)["trace_id"]
    assert spans[0]["trace_id"] == trace_id
    for same in (trace_id, request_id.replace("-", "")):
        assert len(fleet.cli_json("trace", same)) == len(spans)


def test_every_attempt_of_an_event_is_in_its_trace_with_its_error(fleet: Fleet) -> None:
    """Three attempts, numbered, each with the handler's own words."""
    fleet.deploy("traced-failing", "def handler(event, context): raise ValueError('no good')")
    request_id = fleet.cli("invoke", "traced-failing", "--async").strip()
    fleet.cli("event", request_id, "--wait", "--within", "20")
    spans = settled_spans(fleet.data / "traces", (request_id,), 5.0)
    assert edges(spans) == ROOT | ACCEPT | COLD
    attempts = sorted((s for s in spans if s["name"] == "poller.attempt"), key=lambda s: s["start_unix_nano"])
    assert [span["attributes"]["evenflow.attempt"] for span in attempts] == [1, 2, 3]
    assert all("no good" in span["error"] for span in attempts)
    actions = [span["attributes"]["action"] for span in spans if span["name"] == "queue.settle"]
    assert sorted(actions) == ["dead_letter", "release", "release"]


@pytest.mark.long
def test_a_file_that_is_no_wav_ends_in_the_dead_letters_with_its_reason(fleet: Fleet) -> None:
    """The podcast example: a WAV becomes catalogue line, audio and picture; a text file a dead letter that says why."""
    fleet.cli("deploy", "examples/podcast")
    bucket = fleet.data / "buckets" / "podcast-in"
    (bucket / "notes.wav").write_text("not a sound")
    (bucket / "tone.wav").write_bytes(tone())
    wait = ["--wait", "--within", "25"]
    found = wait_for_events(fleet, "clean", 2)
    ended = {fleet.cli_json("event", one["request_id"], *wait)["state"]: one["request_id"] for one in found}
    assert set(ended) == {"succeeded", "dead"}

    (letter,) = fleet.cli_json("dlq", "list", "--function", "clean")
    assert (letter["request_id"], letter["error_type"], letter["attempts"]) == (ended["dead"], "NotAWavFile", 3)
    assert "notes.wav is no WAV file" in letter["error_message"]
    payload = fleet.cli_json("dlq", "show", ended["dead"])["payload"]
    assert '"notes.wav"' in payload and '"ObjectCreated:Put"' in payload
    assert "NotAWavFile" in fleet.cli("logs", "clean")

    fleet.wait_drained()
    out = fleet.data / "buckets" / "podcast-out"
    assert (out / "cleaned" / "tone.wav").is_file() and (out / "waveforms" / "tone.wav.png").is_file()
    assert "tone" in (out / "catalogue.jsonl").read_text().lower()

    # Put back, it fails again; deleted, it is gone.
    assert fleet.cli("dlq", "redrive", ended["dead"]).strip() == "redriven: 1"
    assert fleet.cli_json("event", ended["dead"], *wait)["state"] == "dead"
    assert fleet.cli("dlq", "purge", "--function", "clean", "--yes").strip() == "purged: 1"
    assert fleet.cli_json("dlq", "list", "--function", "clean") == []


def wait_for_events(fleet: Fleet, function: str, count: int) -> list[dict[str, Any]]:
    """The function's events, once there are so many."""
    from cli.commands.events import as_dictionary, list_events, state_name
    from tests.kit.waiting import wait_until

    def look() -> list[dict[str, Any]]:
        with fleet.connect() as connection:
            found = list_events(connection, function, "", 100)
        return [as_dictionary(one, state_name(one)) for one in found] if len(found) >= count else []

    return wait_until(look, 15.0, f"{count} events of {function}")


def tone() -> bytes:
    """One second of a square wave at 16 kHz."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(
            b"".join((3_000 if n // 20 % 2 else -3_000).to_bytes(2, "little", signed=True) for n in range(16_000))
        )
    return buffer.getvalue()
