"""What a server asks of a certificate, call by call: that it counts still, and that its role may call this."""

import asyncio
import contextvars
import inspect
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from services.shared.call_rules import may_call
from services.shared.errors import EvenflowError, Reason, abort
from services.shared.identity import Identity, identity_of
from services.shared.revocation import Revoked

# Certificates read once and remembered; a fleet has tens.
MAX_KNOWN = 4_096
# How often open calls are looked at for certificates that ended or were revoked meanwhile.
SWEEP_SECONDS = 1.0
_caller: contextvars.ContextVar[Identity | None] = contextvars.ContextVar("evenflow caller", default=None)


def current_caller() -> Identity | None:
    """Who makes the call that is being served; None: over a unix socket, where the fleet's token says enough."""
    return _caller.get()


class CertificateGate(grpc.aio.ServerInterceptor):
    """Refuses what a caller's role may not call, and callers whose certificates ended or were revoked.

    TLS itself refuses other authorities' certificates and those that ended, at the handshake. This one sees to what
    comes after it: UNAUTHENTICATED (no identity of a fleet, ended, revoked), ACCESS_DENIED (not for this role). Calls
    that are open when a certificate is revoked or ends are ended, too.
    """

    def __init__(self, revoked: Revoked, wall_seconds: Callable[[], float] = time.time) -> None:
        self._revoked = revoked
        self._wall_seconds = wall_seconds
        self._known: OrderedDict[bytes, Identity] = OrderedDict()
        self._open: dict[asyncio.Task[Any], Identity] = {}
        self._ended: dict[asyncio.Task[Any], EvenflowError] = {}

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """The method's own handler, behind the look at the certificate."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        shape = (handler.request_streaming, handler.response_streaming)
        inner = getattr(handler, _INNER[shape])
        return _MAKE[shape](
            self._guard(inner, handler_call_details.method),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _guard(self, inner: Callable[[Any, Any], Any], method: str) -> Callable[[Any, Any], Awaitable[Any]]:
        async def guarded(request: Any, context: Any) -> Any:
            task = asyncio.current_task()
            assert task is not None
            try:
                identity = self.admit(context.auth_context(), method)
            except EvenflowError as e:
                await abort(context, e)
            self._open[task] = identity
            _caller.set(identity)
            try:
                return await _run(inner, request, context)
            except asyncio.CancelledError:
                refusal = self._ended.pop(task, None)
                if refusal is None:
                    raise
                task.uncancel()
                await abort(context, refusal)
            finally:
                self._ended.pop(task, None)
                del self._open[task]

        return guarded

    def admit(self, auth_context: Any, method: str) -> Identity:
        """Who calls. EvenflowError: refused."""
        pems = list(auth_context.get("x509_pem_cert", ()))
        if len(pems) != 1:
            raise EvenflowError(Reason.ERROR_REASON_UNAUTHENTICATED, "inner calls need a certificate of the fleet")
        identity = self._identity(pems[0])
        refusal = self._refusal(identity)
        if refusal is not None:
            raise refusal
        if not may_call(identity.role, method):
            text = f"a certificate of role {identity.role} may not call {method.removeprefix('/')}"
            raise EvenflowError(Reason.ERROR_REASON_ACCESS_DENIED, text)
        return identity

    async def sweep_forever(self) -> None:
        """End open calls of certificates that count no more."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.sweep()

    def sweep(self) -> None:
        """Read the revoked ones again; end the calls of those that count no more."""
        self._revoked.reload()
        for task, identity in list(self._open.items()):
            refusal = self._refusal(identity)
            if refusal is not None and task not in self._ended:
                self._ended[task] = refusal
                task.cancel()

    def _refusal(self, identity: Identity) -> EvenflowError | None:
        if identity.serial in self._revoked.serials:
            return EvenflowError(Reason.ERROR_REASON_UNAUTHENTICATED, f"the certificate of {identity} is revoked")
        if not identity.not_before <= self._wall_seconds() <= identity.not_after:
            return EvenflowError(
                Reason.ERROR_REASON_UNAUTHENTICATED, f"the certificate of {identity} has ended, or not begun"
            )
        return None

    def _identity(self, pem: bytes) -> Identity:
        identity = self._known.get(pem)
        if identity is None:
            try:
                identity = identity_of(pem)
            except ValueError as e:
                raise EvenflowError(Reason.ERROR_REASON_UNAUTHENTICATED, str(e)) from None
            self._known[pem] = identity
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        return identity


async def _run(inner: Callable[[Any, Any], Any], request: Any, context: Any) -> Any:
    """A handler in either of gRPC's styles: one that yields its answers, or one that writes or returns them."""
    answer = inner(request, context)
    if inspect.isasyncgen(answer):
        answers: AsyncIterator[Any] = answer
        async for message in answers:
            await context.write(message)
        return None
    return await answer if inspect.isawaitable(answer) else answer


_INNER = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}
_MAKE: dict[tuple[bool, bool], Any] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
