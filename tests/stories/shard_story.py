"""The commands of the stories of a shard: a real file, a fake clock, pollers by name, events by name."""

from collections.abc import Callable
from pathlib import Path

from evenflow.common.v1.event_pb2 import Condition, Event
from evenflow.queue.v1 import queue_pb2

from services.queue import dead_letters
from services.queue.domain import Action, Attempt, Call, Cause, Settle
from services.queue.outcomes import facts_from
from services.queue.states import Place, State, stored_state
from services.shared.errors import EvenflowError, Reason
from tests.stories.runner import Command, StoryError, listed, span_ms
from tests.unit.queue.kit import Bench

RAN = Attempt(started_at_ms=1, duration_us=1, counts=True, executed_version="$LATEST", sandbox_id="runtime-0/1")
DESTINATION = "arn:aws:lambda:us-east-1:000000000000:function:next"


class ShardStory:
    """One shard for one story. Every command prints its answer, then which events changed their state."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._bench: Bench | None = None
        self._events: dict[str, Event] = {}
        self._leases: dict[str, list[queue_pb2.Lease]] = {}
        self._states: dict[str, State] = {}
        self._incarnations: dict[str, int] = {}
        self._limits: dict[tuple[str, str], int | None] = {}
        self._commands: dict[str, Callable[[Command], list[str]]] = {
            "shard": self._open,
            "send": self._send,
            "lease": self._lease,
            "ack": self._settle,
            "release": self._settle,
            "handover": self._settle,
            "dead-letter": self._settle,
            "extend": self._settle,
            "wait": self._wait,
            "set-clock": self._set_clock,
            "crash": self._crash,
            "restart-poller": self._restart_poller,
            "limit": self._limit,
            "fill-disk": self._fill_disk,
            "free-disk": self._free_disk,
            "redrive": self._call_dead_letters,
            "purge": self._call_dead_letters,
            "status": self._status,
            "stats": self._stats,
        }

    @property
    def bench(self) -> Bench:
        """The shard, opened with the usual settings unless a `shard` command came first."""
        if self._bench is None:
            self._bench = Bench(self._directory)
        return self._bench

    def close(self) -> None:
        """Close the file."""
        if self._bench is not None:
            self._bench.shard.database.close()

    def run(self, command: Command) -> list[str]:
        """Run one command. StoryError: there is none of that name, or it does not fit."""
        if command.name not in self._commands:
            raise StoryError(f"line {command.line}: no command {command.name}; there are {', '.join(self._commands)}")
        printed = self._commands[command.name](command)
        return [*printed, *self._changes(command.name)] or ["ok"]

    def _open(self, command: Command) -> list[str]:
        if self._bench is not None:
            raise StoryError(f"line {command.line}: shard comes first")
        self._bench = Bench(self._directory, **{name: int(value) for name, value in command.options.items()})
        return []

    def _send(self, command: Command) -> list[str]:
        """send NAME... [tenant= function= payload= payload_bytes= token= age=]: a known name alone: sent as it was."""
        for name in command.words:
            if name not in self._events or command.options:
                event = self.bench.event(
                    command.text("function", "f"),
                    command.text("tenant", "t"),
                    command.text("payload", "{}").encode().ljust(command.number("payload_bytes", 0)),
                    command.text("token", ""),
                    command.span_ms("age", "6h"),
                )
                self._events[name] = event
        result = self.bench.enqueue(*(self._events[name] for name in command.words))
        if result.refusal is not None:
            return [_refused(result.refusal)]
        refusals = dict(result.event_refusals)
        answers: dict[str, list[str]] = {}
        for index, name in enumerate(command.words):
            answer = "duplicate" if index in result.duplicate_indexes else "stored"
            answers.setdefault(_refused(refusals[index]) if index in refusals else answer, []).append(name)
        return [f"{listed(names)}: {answer}" for answer, names in answers.items()]

    def _lease(self, command: Command) -> list[str]:
        """lease COUNT [poller=]: the poller asks for so many, once."""
        poller = command.text("poller", "poller-0")
        session = self.bench.poller(poller, str(self._incarnations.setdefault(poller, 0)))
        for key, limit in self._limits.items():
            session.set_limit(key, limit)
        self.bench.credit(session, int(command.words[0]) if command.words else 1)
        session.clear_credit()
        plain: list[str] = []
        printed: list[str] = []
        for lease in self.bench.take(poller):
            name = self._name(lease.event.request_id)
            self._leases.setdefault(name, []).append(lease)
            facts = _facts(lease)
            if facts:
                printed += [", ".join(plain)] if plain else []
                printed.append(f"{name}: {', '.join(facts)}")
                plain = []
            else:
                plain.append(name)
        printed += [", ".join(plain)] if plain else []
        return printed or ["nothing"]

    def _settle(self, command: Command) -> list[str]:
        """ack, release, handover, dead-letter, extend NAME... [lease=N: an earlier lease] [condition= cause= delay=]"""
        actions = {"ack": Action.ACK, "release": Action.RELEASE, "handover": Action.HANDOVER}
        actions |= {"dead-letter": Action.DEAD_LETTER, "extend": Action.EXTEND}
        action = actions[command.name]
        cause = Cause[command.text("cause", "UNSTARTED")]
        usual = "SUCCESS" if action in (Action.ACK, Action.HANDOVER) else "RETRIES_EXHAUSTED"
        condition = Condition.Value(f"CONDITION_{command.text('condition', usual)}")
        ends_run = action is not Action.EXTEND and (action is not Action.RELEASE or cause is Cause.FUNCTION_ERROR)
        handover = queue_pb2.Handover(condition=condition, destination_arn=DESTINATION)
        settles: list[Settle] = []
        for index, name in enumerate(command.words):
            if name not in self._leases:
                raise StoryError(f"line {command.line}: {name} was never leased")
            lease = self._leases[name][command.number("lease", len(self._leases[name])) - 1]
            receipt = lease.receipt
            # What is expired or in handover was leased to be ended, not to be run.
            has_run = ends_run and not lease.expired and self._states[name] is not State.HANDOVER
            settles.append(
                Settle(
                    index,
                    receipt.sequence,
                    receipt.fence,
                    action,
                    RAN if has_run else None,
                    condition=condition,
                    destination_arn=DESTINATION if self._states[name] is State.HANDOVER else "",
                    delay_ms=command.span_ms("delay", "0s"),
                    cause=cause,
                    error_type=command.text("error", ""),
                    payload=handover.SerializeToString() if action is Action.HANDOVER else b"",
                )
            )
        result = self.bench.settle(*settles)
        if result.refusal is not None:
            return [_refused(result.refusal)]
        refusals = dict(result.refusals)
        return [f"{name}: {_refused(refusals[i])}" for i, name in enumerate(command.words) if i in refusals]

    def _wait(self, command: Command) -> list[str]:
        """wait 90s: time passes for everybody."""
        self.bench.clock.advance(span_ms(command.words[0], command.line))
        self.bench.drain()
        return []

    def _set_clock(self, command: Command) -> list[str]:
        """set-clock +1h: somebody sets the machine's clock; no time passes."""
        self.bench.clock.jump_wall(span_ms(command.words[0], command.line))
        self.bench.drain()
        return []

    def _crash(self, _command: Command) -> list[str]:
        """crash: the node's process is killed and starts again on the same file."""
        self.bench.crash()
        self.bench.drain()
        return []

    def _restart_poller(self, command: Command) -> list[str]:
        """restart-poller NAME: a new process says hello under the old name."""
        (poller,) = command.words
        self._incarnations[poller] = self._incarnations.get(poller, 0) + 1
        self.bench.poller(poller, str(self._incarnations[poller]))
        return []

    def _limit(self, command: Command) -> list[str]:
        """limit FUNCTION N [tenant=]: pollers may hold so many of its leases; `none` lifts it."""
        function, limit = command.words
        self._limits[command.text("tenant", "t"), function] = None if limit == "none" else int(limit)
        return []

    def _fill_disk(self, _command: Command) -> list[str]:
        """fill-disk: the volume has no page left."""
        database = self.bench.shard.database
        database.connection.execute(f"PRAGMA max_page_count = {database.value('PRAGMA page_count')}")
        return []

    def _free_disk(self, _command: Command) -> list[str]:
        """free-disk: there is room again."""
        self.bench.shard.database.connection.execute("PRAGMA max_page_count = 1000000")
        return []

    def _call_dead_letters(self, command: Command) -> list[str]:
        """redrive, purge [NAME] [tenant= function=]: up to 100 dead letters."""
        request_id = self._events[command.words[0]].request_id if command.words else b""
        chosen = dead_letters.Filter(command.text("tenant", "t"), request_id, command.text("function", ""))
        run = dead_letters.redrive if command.name == "redrive" else dead_letters.purge
        answers: list[tuple[object, BaseException | None]] = []
        call = Call(lambda s: run(s, chosen, 100), lambda result, error: answers.append((result, error)), writes=True)
        self.bench.drain(call)
        ((count, error),) = answers
        return [_refused(error) if isinstance(error, EvenflowError) else f"{count} dead letters"]

    def _status(self, command: Command) -> list[str]:
        """status NAME...: what the shard tells of an event."""
        printed: list[str] = []
        for name in command.words:
            event = self._events[name]
            status = self.bench.status(event.request_id, event.tenant_id)
            if status is None:
                printed.append(f"{name}: unknown")
                continue
            facts = [queue_pb2.EventState.Name(status.state).removeprefix("EVENT_STATE_")]
            for counter in ("attempts", "function_errors", "throttles", "deliveries"):
                value = getattr(status, counter)
                facts += [f"{counter} {value}"] if value else []
            if status.condition:
                facts.append(Condition.Name(status.condition).removeprefix("CONDITION_"))
            if status.available_at_ms:
                facts.append(f"due in {(status.available_at_ms - self.bench.shard.now_ms) / 1_000:g} s")
            printed.append(f"{name}: {', '.join(facts)}")
        return printed

    def _stats(self, _command: Command) -> list[str]:
        """stats: the shard's numbers."""
        stats = self.bench.shard.stats()
        names = ("depth", "leased", "delayed", "handovers", "dead_letters", "accepted_total", "finished_total")
        return [", ".join(f"{name} {getattr(stats, name)}" for name in names)]

    def _name(self, request_id: bytes) -> str:
        return next(name for name, event in self._events.items() if event.request_id == request_id)

    def _changes(self, command: str) -> list[str]:
        """Which events changed their state; that a sent one waits and a leased one is leased goes without saying."""
        moved: dict[str, list[str]] = {}
        # Two names of one event, by its token, are told of once.
        firsts = {event.request_id: name for name, event in reversed(self._events.items())}
        for name, event in self._events.items():
            if firsts[event.request_id] != name:
                continue
            before, after = self._states.get(name, State.GONE), self._state_of(event.request_id)
            self._states[name] = after
            obvious = (command == "send" and before is State.GONE) or (command == "lease" and after.is_leased)
            if after is not before and not obvious:
                moved.setdefault(f"{before.name} -> {after.name}", []).append(name)
        return [f"{listed(names)}: {change}" for change, names in moved.items()]

    def _state_of(self, request_id: bytes) -> State:
        shard = self.bench.shard
        for entry in (*shard.leases.values(), *shard.expired):
            if entry.request_id == request_id:
                return entry.state
        database = shard.database
        for place in (Place.EVENTS, Place.DELAYED):
            sql = f"SELECT handover IS NOT NULL FROM {place.value} WHERE request_id = ?"
            for (has_handover,) in database.rows(sql, (request_id,)):
                return stored_state(place, has_handover=bool(has_handover))
        if database.rows("SELECT 1 FROM dead_letters WHERE request_id = ?", (request_id,)):
            return State.DEAD
        for bucket_id in shard.outcomes.bucket_ids:
            sql = f"SELECT facts FROM outcomes_{bucket_id} WHERE request_id = ?"
            for (facts,) in database.rows(sql, (request_id,)):
                return State.SUCCEEDED if facts_from(facts).state == State.SUCCEEDED.reported else State.FAILED
        return State.GONE


def _facts(lease: queue_pb2.Lease) -> list[str]:
    facts = ["expired"] if lease.expired else []
    for counter in ("attempts", "function_errors", "throttles", "deliveries"):
        value = getattr(lease, counter)
        facts += [f"{counter} {value}"] if value else []
    if lease.HasField("handover"):
        facts.append(f"handover, failed deliveries {lease.handover.delivery_failures}")
    return facts


def _refused(error: EvenflowError) -> str:
    return f"refused, {Reason.Name(error.reason).removeprefix('ERROR_REASON_')}: {error}"
