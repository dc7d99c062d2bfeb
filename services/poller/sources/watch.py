"""Notices of what changes in a bucket's folder, from inotify by way of watchdog.

Each folder of the bucket has a watch of its own. Notices only say where to look: a look decides, and a scan finds what
no notice told. So a lost notice costs time, never an object.
"""

import itertools
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from watchdog.observers.inotify_c import CallbackId, InotifyConstants, InotifyEvent, InotifyFD, Mask, WatchDescriptor

from services.policy.s3_events import is_hidden

# Notices that wait for the loop, of one bucket; beyond that they are dropped and the folder is scanned instead.
MAX_NOTICES = 16_384
# Folders of one bucket that are watched; what is put into others is found by scans.
MAX_WATCHED_FOLDERS = 20_000
_C = InotifyConstants
_MASK = Mask(
    _C.IN_CREATE
    | _C.IN_CLOSE_WRITE
    | _C.IN_MOVED_TO
    | _C.IN_MOVED_FROM
    | _C.IN_MOVE_SELF
    | _C.IN_DELETE_SELF
    | _C.IN_ONLYDIR
    | _C.IN_DONT_FOLLOW
    | _C.IN_EXCL_UNLINK
)
# One file system object may be registered twice for a moment, under its old and its new name.
_registrations = itertools.count(1)
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Notices:
    """Where to look: `files` by path, True when they were closed or moved in whole; `folders` that are new.

    `is_lost`: some notices are missing, only a scan of everything helps.
    """

    files: dict[str, bool] = field(default_factory=dict)
    folders: dict[str, None] = field(default_factory=dict)
    is_lost: bool = False


class BucketWatch:
    """Watches the folders that it is told to enter; used by scanning threads, watchdog's thread and the loop."""

    def __init__(self, notifier: InotifyFD | None, root: str, wake: Callable[[], None]) -> None:
        """`wake`: called from another thread when there are notices again. No notifier: there are none ever."""
        self._notifier = notifier
        self._root = root
        self._wake = wake
        self._lock = threading.Lock()
        self._folders: dict[str, _FolderWatch] = {}
        self._notices = Notices()
        self._is_closed = False
        self.is_complete = notifier is not None

    def enter(self, path: str, inode: int) -> None:
        """Watch this folder (path below the root) unless it is watched already."""
        with self._lock:
            if self._is_closed or self._notifier is None:
                return
            known = self._folders.get(path)
            if known is not None:
                if known.inode == inode:
                    return
                self._leave_one(path)
            if len(self._folders) >= MAX_WATCHED_FOLDERS:
                self._incomplete("more than %d folders", MAX_WATCHED_FOLDERS)
                return
            watch = _FolderWatch(self, path, inode, CallbackId(next(_registrations)))
            try:
                full_path = os.fsencode(f"{self._root}/{path}" if path else self._root)
                watch.descriptor = self._notifier.add_callback(full_path, _MASK, watch, watch.registration)
            except (FileNotFoundError, NotADirectoryError):
                # Gone again; were it back, a notice of its parent would say so.
                return
            except OSError as e:
                self._incomplete("%s (see the sysctl fs.inotify.max_user_watches)", e)
                return
            if watch.descriptor == -1:
                self._incomplete("no permission for %r", path)
                return
            self._folders[path] = watch

    def take(self) -> Notices:
        """What was noticed since the last call."""
        with self._lock:
            notices, self._notices = self._notices, Notices()
            return notices

    def close(self) -> None:
        """Watch no more."""
        with self._lock:
            self._is_closed = True
            for path in list(self._folders):
                self._leave_one(path)

    # --- from watchdog's thread

    def notice(self, watch: "_FolderWatch", event: InotifyEvent) -> None:
        """Something happened in or to a watched folder."""
        name = os.fsdecode(event.name)
        if not name:
            # The folder itself: its parent tells, but for the root.
            if not watch.path and event.mask & (_C.IN_MOVE_SELF | _C.IN_DELETE_SELF):
                self.lose()
            return
        if is_hidden(name):
            return
        path = f"{watch.path}/{name}" if watch.path else name
        if event.mask & _C.IN_ISDIR:
            self._notice_folder(path, is_there=not event.mask & _C.IN_MOVED_FROM)
        elif event.mask & (_C.IN_CLOSE_WRITE | _C.IN_MOVED_TO):
            self._notice_file(path, is_whole=True)
        elif event.mask & _C.IN_CREATE and _may_be_whole(f"{self._root}/{path}"):
            self._notice_file(path, is_whole=False)

    def forget(self, watch: "_FolderWatch") -> None:
        """The kernel ended a watch: its folder is gone."""
        with self._lock:
            if self._folders.get(watch.path) is watch:
                del self._folders[watch.path]
            is_lost = not watch.path and not self._is_closed
        if is_lost:
            self.lose()

    def lose(self) -> None:
        """Notices are missing."""
        self._add(lambda notices: None, is_lost=True)

    def _notice_folder(self, path: str, *, is_there: bool) -> None:
        if not is_there:
            with self._lock:
                # It may have left the bucket with all that is in it; where it arrives within, that is a notice too.
                for inner in [p for p in self._folders if p == path or p.startswith(f"{path}/")]:
                    self._leave_one(inner)
            return
        self._add(lambda notices: notices.folders.setdefault(path))

    def _notice_file(self, path: str, *, is_whole: bool) -> None:
        self._add(lambda notices: notices.files.update({path: is_whole or notices.files.get(path, False)}))

    def _add(self, change: Callable[[Notices], None], *, is_lost: bool = False) -> None:
        with self._lock:
            if self._is_closed:
                return
            notices = self._notices
            was_empty = not (notices.files or notices.folders or notices.is_lost)
            change(notices)
            if is_lost or len(notices.files) + len(notices.folders) > MAX_NOTICES:
                self._notices = Notices(is_lost=True)
        if was_empty:
            self._wake()

    def _leave_one(self, path: str) -> None:
        watch = self._folders.pop(path, None)
        if watch is not None and self._notifier is not None:
            try:
                self._notifier.remove_callbacks([(watch.descriptor, watch.registration)])
            except OSError as e:
                log.debug("a watch could not be removed: %s", e)

    def _incomplete(self, text: str, *parts: object) -> None:
        if self.is_complete:
            self.is_complete = False
            reason = text % parts
            log.warning("not all of %s can be watched: %s; it is scanned more often instead", self._root, reason)


class _FolderWatch:
    """What watchdog calls for one folder."""

    __slots__ = ("_owner", "descriptor", "inode", "path", "registration")

    def __init__(self, owner: BucketWatch, path: str, inode: int, registration: CallbackId) -> None:
        self._owner = owner
        self.path = path
        self.inode = inode
        self.registration = registration
        self.descriptor = WatchDescriptor(-1)

    def on_event(self, event: InotifyEvent) -> None:
        self._owner.notice(self, event)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        self._owner.forget(self)

    def on_queue_overflow(self) -> None:
        self._owner.lose()


def _may_be_whole(full_path: str) -> bool:
    """Whether a name that just appeared may be of a file that was written before: a link, not a fresh file.

    A fresh file is noticed when it is closed.
    """
    try:
        status = os.lstat(full_path)
    except OSError:
        return False
    return status.st_nlink > 1 or status.st_size > 0
