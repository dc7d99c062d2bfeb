"""The loop of a sandbox: load the handler, then one frame in, one call, one frame out."""

import fcntl
import gc
import importlib
import json
import logging
import os
import resource
import socket
import sys
import termios
import time
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NoReturn, Protocol

from . import failures, frames
from .context import LambdaContext, facts_of_function

CHANNEL_FD = 3
_RECEIVE_BYTES = 262_144
_NO_BYTES = bytes(4)
_REHEARSED_VARIABLES = 24
_REHEARSED_SOURCE = "import os\ndef handler(event, context):\n    return {'event': event}\n"
_REHEARSED_EVENT = b'{"text": "a", "numbers": [1, 2.5], "nothing": null}'
Handler = Callable[[Any, LambdaContext], Any]
_request_id = ""


def rehearse() -> None:
    """Do what every sandbox does from its assignment to its first answer, once, for nothing.

    In a fresh fork each page that is written to is copied first: here, before there is a function, nobody waits for it.
    """
    _prepare_output()
    os.environ.update({f"EVENFLOW_REHEARSAL_{n}": "x" * 40 for n in range(_REHEARSED_VARIABLES)})
    os.environ.clear()
    try:
        load_handler("evenflow_rehearsal.handler")
    except failures.Fault:
        # There is no such module.
        compile(_REHEARSED_SOURCE, "app.py", "exec")
    frame = frames.pack_invoke(bytes(16), 1, b"arn", b"", b"", _REHEARSED_EVENT)
    for whole in frames.Assembler().feed(frame):
        _run(lambda event, _context: event, frames.parse_invoke(whole), facts_of_function())
    frames.pack_ready(0, _max_rss_kb())


class Snapshot(Protocol):
    """What comes between loading a handler and running it; see snapshot.py."""

    def take(self, channel: socket.socket) -> int: ...


def serve(handler_name: str, snapshot: "Snapshot | None" = None) -> NoReturn:
    """Load the handler and run what comes until the host closes the channel; never returns.

    snapshot: with the handler loaded, this process only forks, and each fork goes on from there with a channel of its
    own.
    """
    channel = socket.socket(fileno=CHANNEL_FD)
    status = 1
    try:
        started = time.monotonic_ns()
        try:
            handler = load_handler(handler_name)
            if snapshot is not None:
                started = snapshot.take(channel)
        except Exception as e:
            _report_init_error(channel, e)
        else:
            gc.enable()
            init_us = (time.monotonic_ns() - started) // 1_000
            channel.sendall(frames.pack_ready(init_us, _max_rss_kb()))
            _loop(channel, handler)
            status = 0
    except SystemExit as e:
        status = _exit_status(e)
    except BaseException as e:
        # KeyboardInterrupt and the like out of a handler end the process as they end awslambdaric.
        _write_log(failures.as_log_text(failures.of_exception(e, _request_id)))
    finally:
        flush_output()
        os._exit(status)


def load_handler(name: str) -> Handler:
    """The function of "module.function". Fault: malformed name, import failure, syntax error, no such function."""
    module_name, dot, function_name = name.rpartition(".")
    if not dot:
        raise failures.Fault(
            "Runtime.MalformedHandlerName", f"Bad handler '{name}': not enough values to unpack (expected 2, got 1)"
        )
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as e:
        raise failures.Fault("Runtime.ImportModuleError", f"Unable to import module '{module_name}': {e}") from e
    except SyntaxError as e:
        where = [f'  File "{e.filename}" Line {e.lineno}\n    {e.text}']
        raise failures.Fault(
            "Runtime.UserCodeSyntaxError", f"Syntax error in module '{module_name}': {e}", where
        ) from e
    try:
        handler: Handler = getattr(module, function_name)
    except AttributeError:
        raise failures.Fault(
            "Runtime.HandlerNotFound", f"Handler '{function_name}' missing on module '{module_name}'"
        ) from None
    return handler


def _loop(channel: socket.socket, handler: Handler) -> None:
    global _request_id  # noqa: PLW0603 - one run at a time in this process; the log handler names it
    assembler = frames.Assembler()
    environ = os.environ
    waiting: deque[frames.Invoke] = deque()
    is_output_taken = True
    trace_header = b""
    # Before the handler's first run: what it does to its environment is its own affair.
    facts = facts_of_function()
    while True:
        while not waiting or (waiting[0].is_ahead and not is_output_taken):
            data = channel.recv(_RECEIVE_BYTES)
            if not data:
                return
            for frame in assembler.feed(data):
                if frames.kind_of(frame) == frames.GO:
                    is_output_taken = True
                else:
                    waiting.append(frames.parse_invoke(frame))
        invoke = waiting.popleft()
        _request_id = text_of_id(invoke.request_id)
        if invoke.trace_header != trace_header:
            trace_header = invoke.trace_header
            environ["_X_AMZN_TRACE_ID"] = trace_header.decode()
        result, has_output = _run(handler, invoke, facts)
        is_output_taken = not has_output
        channel.sendall(result)


def _run(handler: Handler, invoke: frames.Invoke, facts: "dict[str, str | None]") -> "tuple[bytes, bool]":
    error: failures.ErrorObject | None = None
    payload = b""
    started_ns = time.time_ns()
    started = time.monotonic_ns()
    try:
        try:
            event = json.loads(invoke.payload)
        except (ValueError, RecursionError) as e:
            raise failures.Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: {e}") from None
        deadline_ms = started_ns // 1_000_000 + invoke.timeout_ms
        context = LambdaContext(facts, _request_id, invoke.client_context, deadline_ms, invoke.arn.decode())
        result = handler(event, context)
        payload = _marshal(result)
    except Exception as e:
        error = failures.of_exception(e, _request_id)
    duration_us = (time.monotonic_ns() - started) // 1_000
    if error is not None:
        _write_log(failures.as_log_text(error))
        payload = error.payload
    flush_output()
    has_output = is_output_waiting()
    result = frames.pack_result(
        invoke.request_id,
        started_ns,
        duration_us,
        _max_rss_kb(),
        payload,
        error.error_type if error is not None else "",
        error.message if error is not None else "",
        has_output=has_output,
    )
    return result, has_output


def text_of_id(request_id: bytes) -> str:
    """A request id as AWS writes it."""
    digits = request_id.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def is_output_waiting() -> bool:
    """Whether something that this run wrote is still in the pipe to the host."""
    try:
        return fcntl.ioctl(1, termios.FIONREAD, _NO_BYTES) != _NO_BYTES
    except OSError:
        # The handler closed its output.
        return False


def _default(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


_encode = json.JSONEncoder(default=_default, allow_nan=False, ensure_ascii=False).encode


def _marshal(result: object) -> bytes:
    if result is None:
        return b"null"
    try:
        payload = _encode(result).encode()
    except (TypeError, ValueError, RecursionError) as e:
        raise failures.Fault("Runtime.MarshalError", f"Unable to marshal response: {e}") from None
    if len(payload) > frames.MAX_RESPONSE_BYTES:
        raise failures.Fault(
            "Function.ResponseSizeTooLarge",
            f"Response payload size ({len(payload)} bytes) exceeded maximum allowed payload size "
            f"({frames.MAX_RESPONSE_BYTES} bytes).",
        )
    return payload


def _report_init_error(channel: socket.socket, error: Exception) -> None:
    found = failures.of_exception(error, "")
    _write_log(failures.as_log_text(found))
    flush_output()
    channel.sendall(frames.pack_failure(frames.INIT_ERROR, found.error_type, found.message, found.payload))


class _LambdaLogs(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            record.aws_request_id = _request_id
            sys.stdout.write(self.format(record) + "\n")
        except Exception:
            self.handleError(record)


def _prepare_output() -> None:
    # Line by line, so that a crash loses nothing that was printed before.
    for name, fd in (("stdout", 1), ("stderr", 2)):
        stream = open(  # noqa: SIM115 - lives as long as the process
            fd, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    handler = _LambdaLogs()
    formatter = logging.Formatter(
        "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)


def _write_log(text: str) -> None:
    try:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
    except (OSError, ValueError):
        # The handler closed its own output: the error is still in the outcome.
        pass


def flush_output() -> None:
    """Give the kernel what the handler wrote."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass


def _exit_status(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    _write_log(str(error.code))
    return 1


def _max_rss_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
