"""Which functions of a host start from a template: made, kept while they are used, made again after a crash."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from services.policy.backoff import exponential_ms
from services.runtime.census import Census
from services.runtime.cgroups import Cgroups
from services.runtime.environment import INITIALIZATION_TYPE, SNAP_START
from services.runtime.fork_tmps import ForkTmps
from services.runtime.forks_at_hand import ForksAtHand
from services.runtime.functions import HostedFunction, VersionKey
from services.runtime.kept_seats import KeptSeats
from services.runtime.parents import PreparedParent
from services.runtime.sandbox import namespaces, snapshot
from services.runtime.sandboxes import Sandbox
from services.runtime.seats import Seat
from services.runtime.templates import Template
from services.runtime.tiers import Isolation
from services.shared.clock import Clock

# A fork that took longer to be restored is given up; AWS's bound.
RESTORE_SECONDS = 10.0
# A template without forks ends after so many times the idle time of a sandbox: making it anew costs an init.
IDLE_FACTOR = 6
# When a template crashed, or could not be made, sandboxes load the handler themselves for this long; longer with every
# time, until there was none for the longest of these.
BACK_OFF_MS = 500.0
MAX_BACK_OFF_MS = 60_000.0
# Functions whose log was told that this host has no snapshots; told again when there were more.
MAX_TOLD = 1_024
MAX_TEMPLATES = 64
log = logging.getLogger(__name__)

Request = Callable[[HostedFunction, Sandbox, Seat], dict[str, Any]]


class Snapshots:
    """Templates by version of a function, at most one of each and MAX_TEMPLATES in all."""

    def __init__(
        self,
        isolation: Isolation,
        seats: KeptSeats,
        cgroups: Cgroups | None,
        census: Census,
        clock: Clock,
        idle_seconds: float,
        max_output_bytes: int,
        on_room: Callable[[HostedFunction], None],
        at_hand: ForksAtHand,
    ) -> None:
        """on_room: a template of this function is gone, and its memory free."""
        self.at_hand = at_hand
        self._on_room = on_room
        self.missing = missing_for(isolation)
        self._seats = seats
        self._cgroups = cgroups
        self._census = census
        self._clock = clock
        self._idle_ms = idle_seconds * 1_000 * IDLE_FACTOR
        self._max_output_bytes = max_output_bytes
        self._templates: dict[VersionKey, Template] = {}
        # Those that still exist, retired ones included.
        self._all: set[Template] = set()
        # How many there were, and until when no other is made.
        self._failures: dict[VersionKey, tuple[int, float]] = {}
        self._told: set[VersionKey] = set()
        self._removing: set[asyncio.Task[None]] = set()
        self._has_gone = asyncio.Event()
        self._stopping = False

    def wants_template(self, function: HostedFunction, free_mb: int) -> bool:
        """Whether one is to be made before the function's next sandbox; see `make`.

        free_mb: memory that sandboxes and templates may have in all, of which two sizes of the function must fit.
        """
        if not self._is_asked_for(function):
            return False
        template = self._of(function)
        if template is not None:
            return not template.is_ready
        if self._stopping or self._clock.monotonic_ms() < self._failures.get(function.version_key, (0, 0.0))[1]:
            return False
        has_room = 2 * function.version.memory_mb <= free_mb - self._census.templates_mb
        return has_room and len(self._all) < MAX_TEMPLATES

    async def make(
        self,
        function: HostedFunction,
        parent: PreparedParent,
        take_blank: Callable[[PreparedParent, HostedFunction], Sandbox],
        request_of: Request,
        init_seconds: float,
    ) -> Template | None:
        """The function's template, ready or failed; None: it cannot be made here, so sandboxes load the handler.

        OSError: there is no blank sandbox for it. ValueError: the configuration is too large.
        """
        template = self._of(function)
        if template is not None:
            # For another entry of the book, forgotten meanwhile.
            await template.settled.wait()
            return template
        seat = self._seats.take_empty()
        if seat is None:
            self._back_off(function.version_key)
            return None
        tmps: ForkTmps | None = None
        try:
            tmps = await asyncio.to_thread(ForkTmps, seat, snapshot.MAX_FORKS)
            if self._stopping:
                raise ConnectionAbortedError("the host stops")
            sandbox = take_blank(parent, function)
            template = Template(
                function,
                parent,
                sandbox,
                seat,
                tmps,
                self._max_output_bytes,
                self._on_ending,
                self._on_gone,
                self._clock.monotonic_ms,
            )
            self._begun(template)
            template.start(self._request(request_of(function, sandbox, seat)), init_seconds)
        except (OSError, ValueError):
            self._back_off(function.version_key)
            if template is not None:
                template.end("stopped")
            else:
                if tmps is not None:
                    tmps.remove()
                self._seats.give_back(seat)
            raise
        await template.settled.wait()
        if template.is_ready:
            self.at_hand.keep(template)
        return template

    def take(self, function: HostedFunction) -> Sandbox | None:
        """A blank fork of the function's template; None: a sandbox of its own has to load the handler.

        OSError: it cannot be made.
        """
        if not self._is_asked_for(function):
            return None
        template = self._of(function)
        if template is None or not template.is_ready:
            return None
        # The book may have forgotten the function in between.
        template.function = function
        return self.at_hand.take(template)

    def end_idle(self, lacking_mb: int, wanted_by: Iterable[HostedFunction]) -> int:
        """End unused templates of other functions until so much memory comes free; returns how much.

        Unused for longest first.
        """
        wanted = {function.version_key for function in wanted_by}
        freed_mb = 0
        for template in sorted(self._templates.values(), key=lambda one: one.idle_since_ms):
            if freed_mb >= lacking_mb:
                break
            may_end = template.is_ready and not template.is_ending and not self._is_used(template)
            if may_end and template.function.version_key not in wanted:
                freed_mb += template.memory_mb
                self._retire(template, "memory")
        return freed_mb

    def tick(self) -> None:
        """End what is not used, or was of an older revision, once its forks are gone."""
        now_ms = self._clock.monotonic_ms()
        for key, (_, until_ms) in list(self._failures.items()):
            if now_ms - until_ms > MAX_BACK_OFF_MS:
                del self._failures[key]
        for template in list(self._all):
            if not template.is_ready or template.is_ending or self._is_used(template):
                continue
            function = template.function
            if self._templates.get(function.version_key) is not template or template.code_key != function.code_key:
                self._retire(template, "replaced")
            elif now_ms - template.idle_since_ms >= self._idle_ms:
                self._retire(template, "idle")

    async def stop(self) -> None:
        """End all; after every fork."""
        self._stopping = True
        self.at_hand.stop()
        while self._all:
            self._has_gone.clear()
            for template in self._all:
                template.end("stopped")
            await self._has_gone.wait()
        await asyncio.gather(*self._removing, return_exceptions=True)

    def sandboxes(self) -> list[Sandbox]:
        """Of the templates that have a function already."""
        return [template.sandbox for template in self._all if template.sandbox.function is not None]

    def _begun(self, template: Template) -> None:
        template.sandbox.hand_over(template)
        self._all.add(template)
        self._templates[template.function.version_key] = template
        self._census.template_begun(template.memory_mb)

    @staticmethod
    def _request(request: dict[str, Any]) -> dict[str, Any]:
        request["environment"][INITIALIZATION_TYPE] = SNAP_START
        # It counts by user, whose processes are those of all forks; of each, its cgroup counts.
        request["limits"]["nproc"] *= snapshot.MAX_FORKS + 1
        return request

    def _is_asked_for(self, function: HostedFunction) -> bool:
        if not function.version.snap_start or function.launch is None:
            return False
        missing = self.missing if function.launch.is_forked else "its runtime is not a Python that is forked"
        if missing and function.version_key not in self._told:
            if len(self._told) >= MAX_TOLD:
                self._told.clear()
            self._told.add(function.version_key)
            text = f"SnapStart is not used for this function, every sandbox loads its handler: {missing}"
            log.warning("%s", text, extra={"function_name": function.key[1]})
            function.log.append(f"[evenflow] {text}\n".encode())
        return not missing

    def _of(self, function: HostedFunction) -> Template | None:
        template = self._templates.get(function.version_key)
        if template is None or template.is_ending:
            return None
        if template.code_key != function.code_key:
            del self._templates[function.version_key]
            self.at_hand.forget(template)
            return None
        return template

    def _retire(self, template: Template, cause: str) -> None:
        if self._templates.get(template.function.version_key) is template:
            del self._templates[template.function.version_key]
        template.end(cause)

    def _is_used(self, template: Template) -> bool:
        return template.used_forks > 0

    def _on_ending(self, template: Template) -> None:
        self.at_hand.forget(template)
        self._census.template_ends(template.memory_mb)

    def _on_gone(self, template: Template) -> None:
        """Nothing of it is left: its uid may be another's."""
        group = template.sandbox.group
        if self._cgroups is not None and group is not None:
            if self._cgroups.was_out_of_memory(group):
                text = "a template was out of memory: loading its handler takes more than the function has"
                log.warning("%s", text, extra={"function_name": template.function.key[1]})
            self._cgroups.give_back(group)
        if self._templates.get(template.function.version_key) is template:
            del self._templates[template.function.version_key]
        self._census.template_gone(template.memory_mb)
        if template.is_crashed:
            self._back_off(template.function.version_key)
            log.warning("a template ended by itself", extra={"function_name": template.function.key[1]})
        template.settled.set()
        self._on_room(template.function)
        task = asyncio.create_task(self._remove(template), name="remove a template")
        self._removing.add(task)
        task.add_done_callback(self._removing.discard)

    def _back_off(self, key: VersionKey) -> None:
        count = self._failures.get(key, (0, 0.0))[0] + 1
        wait_ms = exponential_ms(count, BACK_OFF_MS, MAX_BACK_OFF_MS)
        self._failures[key] = count, self._clock.monotonic_ms() + wait_ms

    async def _remove(self, template: Template) -> None:
        await template.remove()
        self._seats.give_back(template.seat)
        self._all.discard(template)
        self._has_gone.set()


def missing_for(isolation: Isolation) -> str:
    """What a host lacks for templates, in words; empty: nothing. Pure."""
    needed: Mapping[str, bool] = {
        "a user for each sandbox": isolation.has_uid,
        "cgroups": isolation.has_cgroup,
        "mount namespaces": isolation.has_mounts,
        "PID namespaces": namespaces.PID in isolation.namespaces,
        "root": not isolation.by_user_namespace,
        "seccomp": isolation.has_seccomp,
        "Landlock": bool(isolation.landlock),
    }
    lacking = [name for name, is_there in needed.items() if not is_there]
    return f"this host has no {', no '.join(lacking)} (isolation tier {isolation.tier})" if lacking else ""
