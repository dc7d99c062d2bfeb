"""What a payload, a client context and a token may look like. Pure; ValueError carries a sentence for the caller."""

import base64
import binascii
import json
from typing import Any, NoReturn

MAX_SYNC_PAYLOAD_BYTES = 6_291_456
MAX_ASYNC_PAYLOAD_BYTES = 1_048_576
# The 2014 form of InvokeAsync kept its first limit.
MAX_OLD_ASYNC_PAYLOAD_BYTES = 262_144
# Counted as AWS counts it: the base64 text.
MAX_CLIENT_CONTEXT_BYTES = 3_583
MAX_CLIENT_TOKEN_CHARACTERS = 128
# Services of the fleet make tokens from an id and a destination's ARN.
MAX_FLEET_TOKEN_CHARACTERS = 2_200
MAX_CHAIN_DEPTH = 16
MAX_SOURCE_BYTES = 32
EMPTY_PAYLOAD = b"{}"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_decode: Any = json.JSONDecoder(parse_constant=_refuse_constant).decode


def check_json(payload: bytes) -> None:
    """Pass when the payload is JSON in UTF-8. ValueError: it is not, or it is nested too deep to be read."""
    try:
        _decode(payload.decode())
    except UnicodeDecodeError as e:
        raise ValueError(f"invalid UTF-8 at byte {e.start}") from None
    except json.JSONDecodeError as e:
        raise ValueError(f"{e.msg} at line {e.lineno}, column {e.colno}") from None
    except RecursionError:
        raise ValueError("nested too deep") from None


def decode_client_context(header: bytes) -> str:
    """The client context's JSON text from its base64 header. ValueError: too long, no base64, no JSON object."""
    if len(header) > MAX_CLIENT_CONTEXT_BYTES:
        raise ValueError(f"Client context must be no more than {MAX_CLIENT_CONTEXT_BYTES} bytes when base64-encoded.")
    wrong = "Client context must be a valid Base64-encoded JSON object."
    try:
        text = base64.b64decode(header, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError(wrong) from None
    check_client_context(text)
    return text


def check_client_context(text: str) -> None:
    """Pass when the text is a JSON object of at most 3,583 bytes. ValueError: it is not."""
    if len(text.encode(errors="replace")) > MAX_CLIENT_CONTEXT_BYTES:
        raise ValueError(f"Client context must be no more than {MAX_CLIENT_CONTEXT_BYTES} bytes.")
    try:
        found = _decode(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError("Client context must be a valid Base64-encoded JSON object.")


def check_client_token(token: str, limit: int = MAX_CLIENT_TOKEN_CHARACTERS) -> None:
    """Pass when the token has at most `limit` printable characters. ValueError: it has not."""
    if len(token) > limit:
        raise ValueError(f"client_token has {len(token)} characters; at most {limit} are allowed")
    if not token.isprintable():
        raise ValueError("client_token must be printable text")
