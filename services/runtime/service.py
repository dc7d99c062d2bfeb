"""The host's door: translates between the contract and the dispatcher, nothing else."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from evenflow.common.v1 import event_pb2
from evenflow.runtime.v1 import runtime_pb2, runtime_pb2_grpc

from services.runtime import runs
from services.runtime.function_log import FunctionLog
from services.runtime.runs import Run
from services.runtime.usage import FOLDED_DAY, MAX_DAYS, NS_PER_DAY, UsageKey, UsageRow
from services.runtime.usage_files import day_text
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason, abort
from services.shared.ids import REQUEST_ID_BYTES
from services.shared.streams import Wakeup, queue_gap_ms, serve_stream

if TYPE_CHECKING:
    from services.runtime.host import SandboxHost

MAX_BATCH_RESULTS = 500
MAX_BATCH_BYTES = 3_670_016
MAX_PAYLOAD_BYTES = 6_291_456
MAX_CLIENT_CONTEXT_BYTES = 16_384
# Beyond what runs, so many wait here: the next run is at hand when one ends.
CREDITS_PER_SLOT = 2
EXTRA_CREDITS = 192
MAX_TAIL_LINES = 10_000
MAX_LOG_PART_BYTES = 65_536
MAX_USAGE_ROWS = 1_000


class _Caller:
    """One Invoke stream."""

    def __init__(self, host: "SandboxHost", clock: Clock) -> None:
        self.wakeup = Wakeup()
        self.owed = 0
        self.settled = asyncio.Event()
        self.settled.set()
        self._host = host
        self._clock = clock
        # Somebody waits for each result of a synchronous run: nothing is held back for company.
        self._is_waited_for = False
        self._said_hello = False
        self._credits = 0
        self._grant = host.settings.max_sandboxes * CREDITS_PER_SLOT + EXTRA_CREDITS
        self._granted_first = False
        self._results: deque[runtime_pb2.InvocationResult] = deque()
        # Without an outcome yet.
        self._open: set[Run] = set()

    def on_message(self, message: runtime_pb2.InvokeRequest) -> None:
        """A hello or a batch. EvenflowError: the caller does not keep to the contract."""
        kind = message.WhichOneof("kind")
        if kind == "hello":
            self._said_hello = True
            self.wakeup.set()
            return
        if kind != "batch" or not self._said_hello:
            raise EvenflowError(Reason.ERROR_REASON_INVALID_PARAMETER, "the first message is hello, then batches")
        received_ns = self._clock.wall_ns()
        for invocation in message.batch.invocations:
            run = Run(invocation, self._deliver, received_ns)
            self._is_waited_for = self._is_waited_for or run.is_sync
            self.owed += 1
            self._open.add(run)
            self.settled.clear()
            refusal = self._refusal_of(invocation)
            self._credits = max(0, self._credits - 1)
            if refusal is not None:
                self._deliver(run, runs.refused(refusal))
            else:
                self._host.dispatcher.submit(run)

    def gap_ms(self, response: runtime_pb2.InvokeResponse) -> float:
        """Shortest time between this message and the next."""
        return 0.0 if self._is_waited_for else queue_gap_ms(len(response.results))

    def leave(self) -> None:
        """The stream is over: what this caller wanted and has not begun need not begin."""
        self.settled.set()
        self._host.dispatcher.withdraw(self._open)

    def produce(self) -> runtime_pb2.InvokeResponse | None:
        """What came up since the last message."""
        if not self._granted_first:
            if not self._said_hello:
                return None
            self._granted_first = True
            self._credits = self._grant
            return runtime_pb2.InvokeResponse(credit_invocations=self._grant, load=load_of(self._host))
        if not self._results:
            return None
        results: list[runtime_pb2.InvocationResult] = []
        size = 0
        while self._results and len(results) < MAX_BATCH_RESULTS:
            size += len(self._results[0].outcome.response_payload) + 4_096
            if results and size > MAX_BATCH_BYTES:
                break
            results.append(self._results.popleft())
        self.owed -= len(results)
        if not self.owed:
            self.settled.set()
        credit = self._grant - self._credits - self.owed
        if credit > 0:
            self._credits += credit
        return runtime_pb2.InvokeResponse(results=results, credit_invocations=max(0, credit), load=load_of(self._host))

    def _deliver(self, run: Run, outcome: event_pb2.Outcome) -> None:
        self._open.discard(run)
        self._results.append(runtime_pb2.InvocationResult(invocation_id=run.invocation.invocation_id, outcome=outcome))
        self.wakeup.set()

    def _refusal_of(self, invocation: runtime_pb2.Invocation) -> EvenflowError | None:
        if self._credits <= 0:
            return EvenflowError(Reason.ERROR_REASON_CREDIT_EXCEEDED, "more invocations than the host granted", 100)
        if not invocation.invocation_id or len(invocation.request_id) != REQUEST_ID_BYTES:
            text = "invocation_id is not 0 and request_id has 16 bytes"
        elif len(invocation.payload) > MAX_PAYLOAD_BYTES:
            text = f"payload has {len(invocation.payload)} bytes; at most {MAX_PAYLOAD_BYTES} are possible"
        elif len(invocation.client_context) > MAX_CLIENT_CONTEXT_BYTES or len(invocation.invoked_function_arn) > 512:
            text = "client_context or invoked_function_arn is too long"
        else:
            return None
        return EvenflowError(Reason.ERROR_REASON_INVALID_PARAMETER, text)


class RuntimeServicer(runtime_pb2_grpc.RuntimeServiceServicer):
    """RuntimeService of runtime.proto."""

    def __init__(self, host: "SandboxHost", clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self._callers: set[_Caller] = set()

    async def drained(self) -> None:
        """Until every outcome has left."""
        await asyncio.gather(*(caller.settled.wait() for caller in self._callers))

    # The generated base class knows handlers that iterate only; grpc.aio takes this form too.
    async def Invoke(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        """See runtime.proto."""
        caller = _Caller(self._host, self._clock)
        self._callers.add(caller)
        try:
            await serve_stream(
                context,
                on_message=caller.on_message,
                produce=caller.produce,
                wakeup=caller.wakeup,
                is_owing=lambda: caller.owed > 0,
                gap_ms=caller.gap_ms,
            )
        finally:
            caller.leave()
            self._callers.discard(caller)

    async def ReadLogs(
        self, request: runtime_pb2.ReadLogsRequest, context: Any
    ) -> AsyncIterator[runtime_pb2.ReadLogsResponse]:
        """See runtime.proto."""
        try:
            log = self._host.logs.of(request.tenant_id, request.function_name)
        except ValueError as e:
            await abort(context, EvenflowError(Reason.ERROR_REASON_INVALID_PARAMETER, str(e)))
        # Taken together: nothing may come between the tail and what follows it.
        tail, position = log.tail(min(request.tail_lines, MAX_TAIL_LINES)), log.position()
        for part in _parts(tail):
            yield part
        if request.follow:
            async for data in _whole_lines(log, position):
                for part in _parts(data):
                    yield part

    async def ReadUsage(
        self, request: runtime_pb2.ReadUsageRequest, context: Any
    ) -> AsyncIterator[runtime_pb2.ReadUsageResponse]:
        """See runtime.proto."""
        if request.days > MAX_DAYS:
            text = f"days is {request.days}; at most {MAX_DAYS} are kept one by one, 0 reads everything"
            await abort(context, EvenflowError(Reason.ERROR_REASON_INVALID_PARAMETER, text))
        today = self._clock.wall_ns() // NS_PER_DAY
        rows = self._host.usage.rows(today - request.days + 1 if request.days else FOLDED_DAY)
        while part := list(islice(rows, MAX_USAGE_ROWS)):
            yield runtime_pb2.ReadUsageResponse(rows=[_usage_row(*one) for one in part])

    async def DescribeHost(
        self, request: runtime_pb2.DescribeHostRequest, context: Any
    ) -> runtime_pb2.DescribeHostResponse:
        """See runtime.proto."""
        host = self._host
        table = await host.runtimes.table() if request.wants_runtimes else host.runtimes.known()
        answer = runtime_pb2.DescribeHostResponse(
            host_id=host.settings.node_id,
            isolation_tier=host.tier,
            isolation=host.isolation.describe(),
            load=load_of(host),
            runtimes=table.names(),
        )
        for sandbox in host.dispatcher.nursery.sandboxes.values():
            tenant_id, function_name = sandbox.function.key
            answer.sandboxes.add(
                sandbox_id=sandbox.sandbox_id,
                tenant_id=tenant_id,
                function_name=function_name,
                version=sandbox.function.number,
                state=sandbox.state,
                pid=sandbox.pid,
                invocations=sandbox.invocations,
            )
        for limit_key, share in host.shares.items():
            answer.shares.add(limit_key=limit_key, share=share.target, in_use=share.in_use)
        return answer


def _usage_row(day: int, key: UsageKey, row: UsageRow) -> runtime_pb2.UsageRow:
    return runtime_pb2.UsageRow(
        tenant_id=key[0],
        function_name=key[1],
        day=day_text(day),
        invocations=row.invocations,
        billed_ms=row.billed_ms,
        mb_ms=row.mb_ms,
        request_units=row.request_units,
        errors=row.errors,
        init_ms=row.init_ms,
    )


def load_of(host: "SandboxHost") -> runtime_pb2.HostLoad:
    """Room of the host now."""
    dispatcher = host.dispatcher
    return runtime_pb2.HostLoad(slots=host.settings.max_sandboxes, busy=dispatcher.busy, waiting=dispatcher.waiting)


async def _whole_lines(log: FunctionLog, position: tuple[int, int]) -> AsyncIterator[bytes]:
    rest = b""
    async for data in log.follow(position):
        whole, newline, rest = (rest + data).rpartition(b"\n")
        if newline:
            yield whole + newline
        if len(rest) > MAX_LOG_PART_BYTES:
            yield rest
            rest = b""


def _parts(data: bytes) -> list[runtime_pb2.ReadLogsResponse]:
    # Cut between characters, each of which has four bytes at most.
    text, step = data.decode(errors="replace"), MAX_LOG_PART_BYTES // 4
    return [runtime_pb2.ReadLogsResponse(text=text[at : at + step]) for at in range(0, len(text), step)]
