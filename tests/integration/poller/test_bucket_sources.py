"""Bucket sources on real folders, inotify and journals; answers and, where it counts, time are the test's."""

import asyncio
import hashlib
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote_plus

import pytest
from evenflow.control.v1 import control_pb2, resources_pb2
from evenflow.frontend.v1 import frontend_pb2

from services.poller.settings import PollerSettings
from services.poller.sources import announcer, bucket_source, bucket_sources, look, watch
from services.poller.sources.bucket_sources import BucketSources
from services.poller.sources.event_sources import EventSources
from services.shared.clock import Clock, FakeClock, SystemClock
from services.shared.config_view import ConfigView
from services.shared.errors import EvenflowError, Reason
from services.shared.metrics import Metrics
from tests.kit.waiting import eventually

BUCKET = "podcast-in"
SOURCE_ID = "source-1"
LEASE_MS = 6_000
Done = Callable[[EvenflowError | None], None]


class FakeDoor:
    """Takes submissions; `answer` says what each gets, at once, or Ellipsis for none yet."""

    def __init__(self) -> None:
        self.events: list[frontend_pb2.EventSubmission] = []
        self.waiting: list[Done] = []
        self.answer: Callable[[str], Any] = lambda key: None

    def submit(self, event: frontend_pb2.EventSubmission, within_ms: float, done: Done) -> None:
        assert within_ms > 0
        self.events.append(event)
        answer = self.answer(key_of(event))
        if answer is ...:
            self.waiting.append(done)
        else:
            done(answer)

    @property
    def keys(self) -> list[str]:
        return [key_of(event) for event in self.events]


def record_of(event: frontend_pb2.EventSubmission) -> dict[str, Any]:
    [record] = json.loads(event.payload)["Records"]
    assert isinstance(record, dict)
    return record


def key_of(event: frontend_pb2.EventSubmission) -> str:
    return unquote_plus(record_of(event)["s3"]["object"]["key"])


def writer(path: Path, mode: str = "w") -> IO[str]:
    return open(path, mode)


def has_submitted(rig: "Rig", count: int) -> bool:
    return len(rig.door.events) == count


def refusal(reason: "Reason.ValueType") -> EvenflowError:
    return EvenflowError(reason, "refused by the test")


@dataclass
class Rig:
    data_dir: Path
    clock: Clock = field(default_factory=SystemClock)
    view: ConfigView = field(default_factory=ConfigView)
    door: FakeDoor = field(default_factory=FakeDoor)
    overrides: dict[str, Any] = field(default_factory=dict)
    started: list[tuple[EventSources, Metrics]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.buckets: BucketSources
        self.bucket.mkdir(parents=True)
        fleet = resources_pb2.Fleet(fleet_id="f" * 32, account_id="123456789012", region="us-east-1")
        self.view.upsert(resources_pb2.Resource(key="fleet", fleet=fleet))
        self.map(SOURCE_ID, "clean")

    @property
    def bucket(self) -> Path:
        return self.data_dir / "buckets" / BUCKET

    def map(self, source_id: str, function_name: str, prefix: str = "", suffix: str = "") -> None:
        bucket = resources_pb2.BucketSource(
            bucket=BUCKET, events=["s3:ObjectCreated:*"], key_prefix=prefix, key_suffix=suffix
        )
        source = resources_pb2.EventSource(
            source_id=source_id, tenant_id="default", function_name=function_name, bucket=bucket
        )
        self.view.upsert(resources_pb2.Resource(key=f"source/{source_id}", source=source))
        self.view.revision += 1

    def start(self, *source_ids: str, epoch: int = 1) -> EventSources:
        settings = PollerSettings(
            node_id="poller-0", data_dir=str(self.data_dir), run_dir=str(self.data_dir), token_file="", **self.overrides
        )
        metrics = Metrics("poller", settings)
        self.buckets = BucketSources(
            settings, submit=self.door.submit, clock=self.clock, metrics=metrics, draw=lambda: 0.999
        )
        sources = EventSources([self.buckets], view=lambda: self.view, clock=self.clock)
        self.started.append((sources, metrics))
        for source_id in source_ids or (SOURCE_ID,):
            sources.on_lease(lease(source_id, epoch))
        return sources

    async def stop(self) -> None:
        while self.started:
            sources, metrics = self.started.pop()
            await sources.stop()
            metrics.shutdown()

    async def restart(self) -> EventSources:
        """As after a crash: what the door knows is gone from this side, the files stay."""
        await self.stop()
        self.door.events.clear()
        self.door.waiting.clear()
        return self.start()

    def put(self, key: str, content: str = "sound") -> Path:
        path = self.bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    async def announced(self, *keys: str, within_seconds: float = 5.0) -> None:
        """Until exactly these keys were submitted, in any order, each once."""
        wanted = sorted(keys)
        await eventually(
            lambda: sorted(self.door.keys) == wanted, within_seconds, f"{wanted}, not {sorted(self.door.keys)[:50]}"
        )

    async def fence(self, name: str) -> None:
        """Put one more object and wait for its event: all notices before it were looked at."""
        self.put(name)
        await eventually(lambda: name in self.door.keys, what=name)

    async def rounds(self) -> None:
        """Until every ticker came round twice: what is due by the fake clock was begun."""
        ends = [(sources, sources.rounds + 2) for sources, _ in self.started]
        await eventually(lambda: all(sources.rounds >= end for sources, end in ends))

    async def at_rest(self) -> None:
        """Until nothing is under way in any source: scans, looks, journal."""
        await eventually(lambda: all(is_at_rest(s) for sources, _ in self.started for s in sources._running.values()))


def is_at_rest(source: Any) -> bool:
    return source._scanner is not None and source._errands.is_idle and not source.pending


def lease(source_id: str = SOURCE_ID, epoch: int = 1, lease_ms: int = 600_000) -> control_pb2.SourceLease:
    return control_pb2.SourceLease(source_id=source_id, epoch=epoch, lease_ms=lease_ms)


@pytest.fixture
async def rig(run_dir: Path) -> AsyncIterator[Rig]:
    rig = Rig(run_dir)
    yield rig
    await rig.stop()
    names = [thread.name for thread in threading.enumerate()]
    assert not [n for n in names if n.startswith(("sources", "large-objects", "InotifyFD"))], names


# --- which files are objects


async def test_a_new_object_is_one_s3_event(rig: Rig) -> None:
    """A file put into the bucket is submitted once, in S3's shape, with the file's own size and MD5."""
    rig.start()
    await rig.at_rest()
    path = rig.put("shows/erste Folge ü+1.wav", "content")
    await rig.announced("shows/erste Folge ü+1.wav")
    [event] = rig.door.events
    record = record_of(event)
    assert (event.function_name, event.tenant_id, event.source) == ("clean", "default", "bucket")
    assert len(event.client_token) == 64
    assert record["eventName"] == "ObjectCreated:Put"
    assert record["s3"]["bucket"]["arn"] == f"arn:aws:s3:::{BUCKET}"
    assert record["s3"]["configurationId"] == SOURCE_ID
    stored = record["s3"]["object"]
    assert stored["key"] == "shows/erste+Folge+%C3%BC%2B1.wav"
    assert stored["size"] == path.stat().st_size
    assert stored["eTag"] == hashlib.md5(b"content").hexdigest()
    await rig.fence("last")
    assert len(rig.door.events) == 2


async def test_a_file_is_announced_when_its_writer_closes_it(rig: Rig) -> None:
    """Half a file is no object, however long its writer takes; the closed file is."""
    rig.start()
    await rig.at_rest()
    with writer(rig.bucket / "slow.wav") as file:
        file.write("half")
        file.flush()
        await rig.fence("other")
        assert rig.door.keys == ["other"]
        file.write(" and half")
    await rig.announced("other", "slow.wav")
    assert record_of(rig.door.events[1])["s3"]["object"]["size"] == len("half and half")


async def test_a_file_that_is_open_when_the_source_starts_waits_for_its_close(rig: Rig) -> None:
    """Catching up does not announce what somebody still writes, even when he pauses."""
    with writer(rig.bucket / "slow.wav") as file:
        file.write("half")
        file.flush()
        rig.put("done.wav")
        rig.start()
        await rig.announced("done.wav")
        await rig.at_rest()
        file.write(" and half")
    await rig.announced("done.wav", "slow.wav")


async def test_of_two_writers_the_last_close_counts(rig: Rig) -> None:
    """While a second writer has the file open it is not announced; then once, whole."""
    rig.start()
    await rig.at_rest()
    first, second = writer(rig.bucket / "two.wav"), writer(rig.bucket / "two.wav", "a")
    first.write("first")
    first.close()
    await rig.fence("other")
    assert rig.door.keys == ["other"]
    second.write(" second")
    second.close()
    await rig.announced("other", "two.wav")
    assert record_of(rig.door.events[1])["s3"]["object"]["size"] == len("first second")


async def test_a_rewrite_is_a_new_event_and_a_touchless_close_is_none(rig: Rig) -> None:
    """The same key with new content is announced again under another token; opened and closed unchanged it is not."""
    rig.start()
    path = rig.put("a.wav", "one")
    await rig.announced("a.wav")
    await rig.at_rest()
    with writer(path, "a"):
        pass
    await rig.fence("other")
    assert rig.door.keys == ["a.wav", "other"]
    rig.put("a.wav", "two")
    await rig.announced("a.wav", "other", "a.wav")
    tokens = {event.client_token for event in rig.door.events}
    sequencers = [record_of(e)["s3"]["object"]["sequencer"] for e in rig.door.events if key_of(e) == "a.wav"]
    assert len(tokens) == 3
    assert sequencers == sorted(sequencers)


async def test_a_hidden_file_becomes_an_object_by_its_rename(rig: Rig) -> None:
    """Names with a dot in front are nobody's business, in hidden folders too; the rename to a plain name is the put."""
    rig.start()
    await rig.at_rest()
    hidden = rig.put(".unfinished")
    rig.put(".cache/inner.wav")
    rig.put("shows/.tmp/inner.wav")
    await rig.fence("fence")
    hidden.rename(rig.bucket / "whole.wav")
    await rig.announced("fence", "whole.wav")


async def test_links_pipes_and_folders_are_no_objects(rig: Rig, run_dir: Path) -> None:
    """Symbolic links are not followed, to files or to folders; pipes hold nobody up; a hard link is a file."""
    outside = run_dir / "outside"
    outside.mkdir()
    (outside / "secret.wav").write_text("secret")
    os.symlink(outside, rig.bucket / "linked-before")
    rig.start()
    await rig.at_rest()
    os.symlink(outside, rig.bucket / "linked-folder")
    os.symlink(outside / "secret.wav", rig.bucket / "linked.wav")
    os.mkfifo(rig.bucket / "pipe.wav")
    (rig.bucket / "folder.wav").mkdir()
    os.link(outside / "secret.wav", rig.bucket / "hard.wav")
    await rig.announced("hard.wav")
    (outside / "later.wav").write_text("later")
    await rig.fence("fence")
    assert sorted(rig.door.keys) == ["fence", "hard.wav"]


async def test_files_in_fresh_folders_are_found(rig: Rig) -> None:
    """Folders made and filled faster than they can be watched lose nothing and double nothing."""
    rig.start()
    await rig.at_rest()
    keys = [f"y{a}/m{b}/d{c}.wav" for a in range(5) for b in range(5) for c in range(4)]
    await asyncio.to_thread(lambda: [rig.put(key) for key in keys])
    await rig.announced(*keys)
    rig.put("y0/m0/late.wav")
    await rig.announced(*keys, "y0/m0/late.wav")


async def test_a_folder_that_moves_takes_its_objects_along(rig: Rig, run_dir: Path) -> None:
    """A folder moved in, or renamed, has new keys; what is put into it later is found under the new name only."""
    rig.start()
    await rig.at_rest()
    album = run_dir / "album"
    (album / "cd1").mkdir(parents=True)
    (album / "cd1" / "a.wav").write_text("a")
    album.rename(rig.bucket / "album")
    await rig.announced("album/cd1/a.wav")
    (rig.bucket / "album").rename(rig.bucket / "renamed")
    await rig.announced("album/cd1/a.wav", "renamed/cd1/a.wav")
    await rig.at_rest()
    rig.put("renamed/cd1/b.wav")
    await rig.announced("album/cd1/a.wav", "renamed/cd1/a.wav", "renamed/cd1/b.wav")


async def test_sources_of_one_bucket_see_their_own_keys(rig: Rig) -> None:
    """Two functions on a bucket get what their prefix and suffix let pass, each its own event."""
    rig.map("source-2", "index", prefix="shows/", suffix=".wav")
    rig.start(SOURCE_ID, "source-2")
    await rig.at_rest()
    rig.put("shows/a.wav")
    rig.put("shows/a.txt")
    rig.put("b.wav")
    await rig.announced("shows/a.wav", "shows/a.wav", "shows/a.txt", "b.wav")
    assert [key_of(e) for e in rig.door.events if e.function_name == "index"] == ["shows/a.wav"]
    assert len({e.client_token for e in rig.door.events}) == 4


async def test_names_that_are_no_keys_are_passed_over(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """A name that is not UTF-8 is logged and stops nothing."""
    Path(os.fsdecode(bytes(rig.bucket) + b"/bad-\xff.wav")).write_text("x")
    rig.start()
    await rig.fence("good.wav")
    await rig.at_rest()
    Path(os.fsdecode(bytes(rig.bucket) + b"/bad-\xfe.wav")).write_text("x")
    await rig.fence("better.wav")
    assert sorted(rig.door.keys) == ["better.wav", "good.wav"]
    assert "1 names are no keys" in caplog.text


# --- nothing lost, nothing twice


async def test_what_came_while_nobody_looked_is_announced_and_the_rest_is_not(rig: Rig) -> None:
    """After downtime only the objects that are new are announced; a second start announces nothing."""
    rig.start()
    rig.put("before.wav")
    await rig.announced("before.wav")
    await rig.at_rest()
    await rig.stop()
    rig.put("deep/down/while-down.wav")
    await rig.restart()
    await rig.announced("deep/down/while-down.wav")
    await rig.at_rest()
    await rig.restart()
    await rig.fence("fence")
    assert rig.door.keys == ["fence"]


async def test_an_unanswered_submission_is_repeated_to_the_byte(rig: Rig) -> None:
    """When the answer never came the object is announced again after a restart: same token, same payload."""
    rig.door.answer = lambda key: ...
    rig.start()
    rig.put("a.wav")
    await rig.announced("a.wav")
    first = rig.door.events[0]
    await rig.restart()
    await rig.announced("a.wav")
    assert rig.door.events[0].client_token == first.client_token
    assert rig.door.events[0].payload == first.payload


async def test_a_token_that_was_used_is_an_announced_object(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """The shard knows the token with another body (times changed meanwhile): the event is there, that is all."""
    rig.door.answer = lambda key: refusal(Reason.ERROR_REASON_TOKEN_REUSED)
    rig.start()
    rig.put("a.wav")
    await rig.announced("a.wav")
    await rig.at_rest()
    assert "refused" not in caplog.text
    await rig.restart()
    await rig.at_rest()
    assert rig.door.keys == []


async def test_a_refusal_for_now_is_repeated_later(rig: Rig) -> None:
    """A retryable refusal is tried again after a growing wait, by the monotonic clock, until it is taken."""
    clock = rig.clock = FakeClock()
    full = refusal(Reason.ERROR_REASON_TENANT_QUEUE_FULL)
    rig.door.answer = lambda key: full
    rig.start()
    rig.put("a.wav")
    for tries in range(1, 5):
        await rig.announced(*["a.wav"] * tries)
        wait_ms = announcer.RETRY_BASE_MS * 2 ** (tries - 1)
        clock.advance(wait_ms * 0.99)
        await rig.rounds()
        assert len(rig.door.events) == tries
        clock.advance(wait_ms * 0.01)
    rig.door.answer = lambda key: None
    await rig.announced(*["a.wav"] * 5)
    await rig.at_rest()
    clock.advance(announcer.RETRY_CAP_MS)
    await rig.fence("fence")
    assert len(rig.door.events) == 6


async def test_the_door_may_say_how_long_to_wait(rig: Rig) -> None:
    """A refusal's own wait counts when it is longer than the back-off."""
    clock = rig.clock = FakeClock()
    rig.door.answer = lambda key: EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, "down", retry_after_ms=5_000)
    rig.start()
    rig.put("a.wav")
    await rig.announced("a.wav")
    clock.advance(4_999)
    await rig.rounds()
    assert len(rig.door.events) == 1
    clock.advance(1)
    await rig.announced("a.wav", "a.wav")


async def test_a_refusal_for_good_is_noted_and_logged_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Objects of a function that is gone are refused once each, logged once, and not submitted again, ever."""
    rig.door.answer = lambda key: refusal(Reason.ERROR_REASON_FUNCTION_NOT_FOUND)
    rig.start()
    rig.put("a.wav")
    rig.put("b.wav")
    await rig.announced("a.wav", "b.wav")
    await rig.at_rest()
    assert caplog.text.count("refused for good") == 1
    await rig.restart()
    await rig.at_rest()
    assert rig.door.keys == []


async def test_a_refusal_of_the_poller_itself_is_not_the_objects_fault(rig: Rig) -> None:
    """A wrong token of the fleet is tried again: the object is not given up for it."""
    clock = rig.clock = FakeClock()
    rig.door.answer = lambda key: refusal(Reason.ERROR_REASON_UNAUTHENTICATED)
    rig.start()
    rig.put("a.wav")
    await rig.announced("a.wav")
    rig.door.answer = lambda key: None
    clock.advance(announcer.RETRY_BASE_MS)
    await rig.announced("a.wav", "a.wav")


async def test_lost_notices_are_made_good_by_a_scan(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """More notices than are kept: the folder is scanned, and every object is announced once."""
    monkeypatch.setattr(watch, "MAX_NOTICES", 4)
    rig.start()
    await rig.at_rest()
    keys = [f"{n}.wav" for n in range(60)]
    for key in keys:
        # No turn of the loop in between: nobody takes the notices.
        rig.put(key)
    await rig.announced(*keys)


async def test_more_objects_than_the_backlog_holds_are_all_announced(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What finds no room stays in the folder and is found again, before and after the start."""
    monkeypatch.setattr(announcer, "MAX_BACKLOG", 5)
    early = [f"early/{n}.wav" for n in range(40)]
    for key in early:
        rig.put(key)
    rig.start()
    late = [f"late/{n}.wav" for n in range(40)]
    await asyncio.to_thread(lambda: [rig.put(key) for key in late])
    await rig.announced(*early, *late)


async def test_so_many_are_under_way_at_once_and_no_more(rig: Rig) -> None:
    """source.in_flight bounds what is submitted and not answered."""
    rig.overrides["source_in_flight"] = 3
    rig.door.answer = lambda key: ...
    rig.start()
    keys = [f"{n}.wav" for n in range(10)]
    for key in keys:
        rig.put(key)
    await eventually(lambda: len(rig.door.events) == 3)
    await rig.rounds()
    for answered in range(1, 11):
        await eventually(lambda: rig.door.waiting)
        assert len(rig.door.waiting) <= 3
        rig.door.waiting.pop(0)(None)
        wanted = min(10, answered + 3)
        await eventually(partial(has_submitted, rig, wanted))
    await rig.announced(*keys)


async def test_a_bucket_has_a_bound_and_says_so(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Past source.max_objects new objects wait; when others are removed they are announced."""
    rig.overrides.update(source_max_objects=3, source_rescan_seconds=0.05)
    rig.start()
    for name in ("a", "b", "c"):
        rig.put(name)
    await rig.announced("a", "b", "c")
    await rig.at_rest()
    rig.put("d")
    await eventually(lambda: "source.max_objects" in caplog.text)
    assert len(rig.door.events) == 3
    (rig.bucket / "a").unlink()
    await rig.announced("a", "b", "c", "d")


async def test_a_large_object_is_read_whole(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object for the reading threads gets the MD5 of all its bytes."""
    monkeypatch.setattr(look, "LARGE_BYTES", 1_000)
    rig.start()
    content = "0123456789" * 400_000
    rig.put("large.wav", content)
    await rig.announced("large.wav")
    stored = record_of(rig.door.events[0])["s3"]["object"]
    assert (stored["eTag"], stored["size"]) == (hashlib.md5(content.encode()).hexdigest(), len(content))


async def test_a_damaged_journal_is_begun_anew(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """The source works on; what it announced before is announced again under the same token."""
    rig.start()
    rig.put("a.wav")
    await rig.announced("a.wav")
    await rig.at_rest()
    token = rig.door.events[0].client_token
    await rig.stop()
    [journal] = (rig.data_dir / "poller" / "sources").glob("*.db")
    journal.write_bytes(b"no database at all" * 1_000)
    await rig.restart()
    await rig.announced("a.wav")
    assert rig.door.events[0].client_token == token
    assert "is damaged" in caplog.text


# --- where the kernel does not help


async def test_without_word_from_the_kernel_a_file_has_to_settle(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody tells who writes, a file that a scan found is announced when it stayed the same for a while."""
    clock = rig.clock = FakeClock()
    monkeypatch.setattr(look, "has_writer", lambda fd: None)
    path = rig.put("found.wav", "half and half")
    rig.start()
    await eventually(lambda: settling(rig), what="a first look")
    # As a writer does it that keeps the file open: no close is noticed.
    os.truncate(path, 4)
    clock.advance(announcer.SETTLE_MS)
    await eventually(lambda: settling(rig, at_ms=clock.monotonic_ms() + announcer.SETTLE_MS), what="a second look")
    clock.advance(announcer.SETTLE_MS - 1)
    await rig.rounds()
    assert rig.door.keys == []
    clock.advance(1)
    await rig.announced("found.wav")
    # A close before our eyes needs no time.
    rig.put("seen-closing.wav")
    await rig.announced("found.wav", "seen-closing.wav")


async def test_without_inotify_scans_find_everything(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """No notifier: the bucket is scanned often enough that new objects are found all the same."""
    monkeypatch.setattr(bucket_sources, "_notifier", lambda: None)
    monkeypatch.setattr(bucket_source, "UNWATCHED_RESCAN_MS", 20.0)
    rig.start()
    await rig.at_rest()
    rig.put("a/b.wav")
    await rig.announced("a/b.wav")


async def test_a_bucket_without_folder_is_waited_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder may come later, go, and come again; its objects are announced, and the old ones are not forgotten."""
    monkeypatch.setattr(bucket_source, "UNWATCHED_RESCAN_MS", 20.0)
    rig.bucket.rmdir()
    rig.start()
    await rig.rounds()
    rig.put("a.wav")
    await rig.announced("a.wav")
    away = rig.data_dir / "away"
    rig.bucket.rename(away)
    await rig.rounds()
    away.rename(rig.bucket)
    rig.put("b.wav")
    await rig.announced("a.wav", "b.wav")
    await rig.at_rest()
    rig.put("c.wav")
    await rig.announced("a.wav", "b.wav", "c.wav")


# --- the lease


async def test_nothing_is_submitted_after_the_lease(rig: Rig) -> None:
    """A lease that ends by the monotonic clock stops the source; a new one catches up."""
    clock = rig.clock = FakeClock()
    sources = rig.start()
    sources.on_lease(lease(lease_ms=LEASE_MS))
    await rig.fence("first.wav")
    clock.jump_wall(3_600_000)
    clock.advance(LEASE_MS - 1)
    await rig.fence("second.wav")
    clock.advance(1)
    rig.put("third.wav")
    await rig.rounds()
    assert rig.door.keys == ["first.wav", "second.wav"]
    assert not sources._running
    sources.on_lease(lease(epoch=2, lease_ms=LEASE_MS))
    await rig.announced("first.wav", "second.wav", "third.wav")


@pytest.mark.parametrize("is_revoked", [True, False])
async def test_an_object_whose_look_outlasts_the_lease_is_left_to_the_next_owner(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, is_revoked: bool
) -> None:
    """The lease ends while a thread reads the object: it is not submitted, nor noted as announced."""
    clock = rig.clock = FakeClock()
    began, may_end = threading.Event(), threading.Event()
    real = look.look_at

    def slow_look(*args: Any, **named: Any) -> look.Look:
        found = real(*args, **named)
        began.set()
        assert may_end.wait(10)
        return found

    monkeypatch.setattr("services.poller.sources.announcer.look_at", slow_look)
    sources = rig.start()
    rig.put("a.wav")
    await eventually(began.is_set)
    if is_revoked:
        sources.on_revoked(control_pb2.SourceRevoked(source_id=SOURCE_ID, epoch=1))
    else:
        clock.advance(600_000)
    # No turn of the loop between the end of the lease and the end of the look.
    may_end.set()
    await eventually(lambda: not (sources._running or sources._retired or sources._closing))
    assert rig.door.keys == []
    sources.on_lease(lease(epoch=2))
    await rig.announced("a.wav")


async def test_a_renewed_lease_goes_on_without_a_break(rig: Rig) -> None:
    """Renewals count from their receipt; a lease of an older epoch changes nothing."""
    clock = rig.clock = FakeClock()
    sources = rig.start(epoch=7)
    for n in range(5):
        sources.on_lease(lease(epoch=7, lease_ms=LEASE_MS))
        clock.advance(LEASE_MS // 3)
        await rig.fence(f"{n}.wav")
    sources.on_lease(lease(epoch=6, lease_ms=10 * LEASE_MS))
    clock.advance(LEASE_MS)
    rig.put("late.wav")
    await rig.rounds()
    assert len(rig.door.events) == 5


async def test_a_revoked_source_stops_and_its_answers_still_count(rig: Rig) -> None:
    """After a revocation nothing new is submitted, but what was on its way is noted when the answer comes."""
    rig.door.answer = lambda key: ...
    sources = rig.start(epoch=4)
    rig.put("a.wav")
    await rig.announced("a.wav")
    sources.on_revoked(control_pb2.SourceRevoked(source_id=SOURCE_ID, epoch=3))
    rig.put("b.wav")
    await rig.announced("a.wav", "b.wav")
    sources.on_revoked(control_pb2.SourceRevoked(source_id=SOURCE_ID, epoch=4))
    rig.put("c.wav")
    await rig.rounds()
    for done in rig.door.waiting:
        done(None)
    await eventually(lambda: not sources._retired and not sources._closing)
    assert sorted(rig.door.keys) == ["a.wav", "b.wav"]
    rig.door.answer = lambda key: None
    sources.on_lease(lease(epoch=5))
    await rig.announced("a.wav", "b.wav", "c.wav")


async def test_a_source_moves_between_two_pollers(rig: Rig) -> None:
    """The next owner goes on where the last one stopped: the journal belongs to the source."""
    first = rig.start(epoch=1)
    await rig.fence("a.wav")
    await rig.at_rest()
    first.on_revoked(control_pb2.SourceRevoked(source_id=SOURCE_ID, epoch=1))
    rig.start(epoch=2)
    await rig.fence("b.wav")
    await rig.at_rest()
    assert rig.door.keys == ["a.wav", "b.wav"]


async def test_a_lease_may_come_before_the_source_is_known(rig: Rig) -> None:
    """The lease waits until the view has the source."""
    sources = rig.start("source-9")
    rig.put("shows/a.wav")
    await rig.rounds()
    assert rig.door.keys == []
    rig.map("source-9", "index", prefix="shows/")
    sources.follow()
    await rig.announced("shows/a.wav")


async def test_a_changed_source_begins_anew(rig: Rig) -> None:
    """New rules count from the change on; objects that were announced stay so."""
    sources = rig.start()
    await rig.fence("a.wav")
    await rig.at_rest()
    rig.map(SOURCE_ID, "clean", suffix=".mp3")
    sources.follow()
    rig.put("b.wav")
    await rig.fence("c.mp3")
    assert rig.door.keys == ["a.wav", "c.mp3"]


async def test_the_journal_goes_with_its_source(rig: Rig) -> None:
    """A source that was deleted leaves nothing behind; an old view of the fleet deletes nothing."""
    sources = rig.start()
    await rig.fence("a.wav")
    await rig.at_rest()
    folder = rig.data_dir / "poller" / "sources"
    assert list(folder.glob("*.db"))
    await rig.stop()
    newest, rig.view = rig.view, ConfigView()
    rig.view.fleet, rig.view.revision = newest.fleet, newest.revision - 1
    sources = rig.start("source-2")
    await eventually(lambda: rig.buckets._swept_revision == rig.view.revision and rig.buckets._dropping is None)
    assert list(folder.glob("*.db"))
    rig.view.revision = newest.revision + 1
    sources.follow()
    await eventually(lambda: not list(folder.iterdir()))


async def test_draining_waits_for_answers(rig: Rig) -> None:
    """Drain takes up nothing new and returns when what was submitted is answered and noted."""
    rig.door.answer = lambda key: ...
    sources = rig.start()
    rig.put("a.wav")
    await rig.announced("a.wav")
    draining = asyncio.create_task(sources.drain())
    await rig.rounds()
    rig.put("b.wav")
    assert not draining.done()
    rig.door.waiting.pop()(None)
    await draining
    assert rig.door.keys == ["a.wav"]
    rig.door.answer = lambda key: None
    await rig.restart()
    await rig.announced("b.wav")


async def test_metrics_tell_what_sources_do(rig: Rig) -> None:
    """Announced, refused and pending objects are counted by bucket."""
    rig.start()
    rig.door.answer = lambda key: (
        ... if key == "c" else refusal(Reason.ERROR_REASON_REQUEST_TOO_LARGE) if key == "b" else None
    )
    for key in ("a", "b", "c"):
        rig.put(key)
    await rig.announced("a", "b", "c")
    telemetry = rig.buckets._around.means.telemetry
    names = {"bucket": BUCKET, "function": "clean", "tenant": "default"}
    assert (telemetry._announced.value(**names), telemetry._refused.value(**names)) == (1, 1)
    await eventually(lambda: rig.buckets._pending() == [(BUCKET, 1)])


def settling(rig: Rig, at_ms: float = 0.0) -> bool:
    """Whether something waits for a further look, at that time or later."""
    [source] = rig.buckets._begun
    return any(due_ms >= at_ms for due_ms, _, _ in source._backlog._later)
