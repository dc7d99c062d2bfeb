"""Notices by real inotify."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent, InotifyFD, Mask, WatchDescriptor

from services.poller.sources import watch as watch_module
from services.poller.sources.watch import BucketWatch, Notices
from tests.kit.waiting import wait_until


class Watched:
    """A watched bucket that gathers what is noticed."""

    def __init__(self, notifier: InotifyFD | None, root: Path) -> None:
        self.root = root
        self.woken = threading.Semaphore(0)
        self.watch = BucketWatch(notifier, str(root), self.woken.release)
        self.seen = Notices()

    def enter(self, path: str = "") -> None:
        self.watch.enter(path, (self.root / path).stat().st_ino)

    def files(self) -> dict[str, bool]:
        self._gather()
        return self.seen.files

    def folders(self) -> list[str]:
        self._gather()
        return list(self.seen.folders)

    def is_lost(self) -> bool:
        self._gather()
        return self.seen.is_lost

    def _gather(self) -> None:
        notices = self.watch.take()
        self.seen.files.update(notices.files)
        self.seen.folders.update(notices.folders)
        self.seen.is_lost = self.seen.is_lost or notices.is_lost


@pytest.fixture
def notifier() -> Iterator[InotifyFD]:
    notifier = InotifyFD()
    notifier.start()
    yield notifier
    notifier.stop()
    notifier.join(5)


@pytest.fixture
def watched(notifier: InotifyFD, run_dir: Path) -> Iterator[Watched]:
    root = run_dir / "bucket"
    root.mkdir()
    watched = Watched(notifier, root)
    watched.enter()
    yield watched
    watched.watch.close()


def test_closed_moved_and_linked_files_are_noticed(watched: Watched) -> None:
    """Closed and moved files are whole; a link may be; an open file and a hidden one are not noticed."""
    (watched.root / "closed").write_text("x")
    (watched.root / ".hidden").write_text("x")
    (watched.root / ".hidden").rename(watched.root / "moved")
    os.link(watched.root / "moved", watched.root / "linked")
    with open(watched.root / "open", "w"):
        (watched.root / "last").write_text("x")
        wait_until(lambda: watched.files().get("last"))
        found = watched.files()
    assert {k: found[k] for k in ("closed", "moved", "linked", "last")} == {
        "closed": True,
        "moved": True,
        "linked": False,
        "last": True,
    }
    assert found.keys() == {"closed", "moved", "linked", "last"}


def test_a_new_folder_is_noticed_and_watched_when_entered(watched: Watched) -> None:
    """Its files are noticed under their whole path."""
    (watched.root / "a").mkdir()
    wait_until(lambda: watched.folders() == ["a"])
    watched.enter("a")
    (watched.root / "a" / "b").write_text("x")
    wait_until(lambda: watched.files() == {"a/b": True})


def test_a_folder_that_left_is_watched_no_more(watched: Watched, run_dir: Path) -> None:
    """What happens in it elsewhere is not taken for the bucket's; when it comes back it is a new folder."""
    inner = watched.root / "a" / "b"
    inner.mkdir(parents=True)
    for path in ("a", "a/b"):
        watched.enter(path)
    (watched.root / "a").rename(run_dir / "away")
    wait_until(lambda: list(watched.watch._folders) == [""])
    (run_dir / "away" / "b" / "x").write_text("x")
    (run_dir / "away").rename(watched.root / "c")
    (watched.root / "last").write_text("x")
    wait_until(lambda: "last" in watched.files())
    assert watched.files().keys() == {"last"}
    assert watched.folders()[-1:] == ["c"]


def test_a_folder_made_anew_is_watched_anew(watched: Watched) -> None:
    """Another folder under a known name has its own watch."""
    (watched.root / "a").mkdir()
    watched.enter("a")
    (watched.root / "a").rmdir()
    # As the bucket source does it: it enters what it was told of, and the end of the old one was told before. The new
    # one may have the old one's inode.
    wait_until(lambda: "a" not in watched.watch._folders)
    (watched.root / "a").mkdir()
    watched.enter("a")
    (watched.root / "a" / "x").write_text("x")
    wait_until(lambda: "a/x" in watched.files())


def test_the_end_of_the_bucket_itself_is_a_loss(watched: Watched) -> None:
    """The bucket's folder was removed: only a scan can tell what is there now."""
    watched.root.rmdir()
    wait_until(watched.is_lost)


def test_the_kernels_overflow_is_a_loss(watched: Watched, notifier: InotifyFD) -> None:
    """When the kernel's queue ran over, everything is to be scanned."""
    overflow = InotifyEvent(WatchDescriptor(-1), Mask(InotifyConstants.IN_Q_OVERFLOW), 0, b"")
    notifier.handle_event(overflow)
    assert watched.is_lost()


def test_too_many_notices_are_a_loss_and_cost_no_memory(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound notices are dropped and the loss is told; it goes on after that."""
    monkeypatch.setattr(watch_module, "MAX_NOTICES", 10)
    for n in range(50):
        (watched.root / f"{n}").write_text("x")
    wait_until(lambda: watched.watch._notices.is_lost)
    assert len(watched.watch._notices.files) <= 11
    assert watched.is_lost()
    monkeypatch.undo()
    (watched.root / "after").write_text("x")
    wait_until(lambda: "after" in watched.files())


def test_the_loop_is_woken_once_for_many(watched: Watched) -> None:
    """The first notice wakes; further ones wait with it until they are taken."""
    for n in range(20):
        (watched.root / f"{n}").write_text("x")
    wait_until(lambda: "19" in watched.watch._notices.files)
    assert watched.woken.acquire(blocking=False)
    assert not watched.woken.acquire(blocking=False)
    watched.watch.take()
    (watched.root / "more").write_text("x")
    assert watched.woken.acquire(timeout=5)


def test_folders_beyond_the_bound_make_the_watch_incomplete(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so once, and is known to be incomplete."""
    monkeypatch.setattr(watch_module, "MAX_WATCHED_FOLDERS", 2)
    assert watched.watch.is_complete
    for name in ("a", "b", "c"):
        (watched.root / name).mkdir()
        watched.enter(name)
    assert not watched.watch.is_complete
    assert caplog.text.count("can be watched") == 1


def test_a_system_without_room_for_watches_makes_it_incomplete(
    watched: Watched, notifier: InotifyFD, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel's limit is named in the log; nothing fails."""

    def refuse(*_: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(notifier, "add_callback", refuse)
    (watched.root / "a").mkdir()
    watched.enter("a")
    assert not watched.watch.is_complete
    assert "max_user_watches" in caplog.text


def test_a_link_to_a_folder_is_not_watched(watched: Watched, run_dir: Path) -> None:
    """Also when it takes the place of a folder between the list and the watch."""
    outside = run_dir / "outside"
    outside.mkdir()
    os.symlink(outside, watched.root / "a")
    watched.watch.enter("a", 1)
    assert list(watched.watch._folders) == [""]
