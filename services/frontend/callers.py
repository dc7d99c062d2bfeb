"""Who calls: from what a request carries to a tenant's key or a function, by the fleet's `auth.mode`.

open: a known key names its tenant, any other caller is the default tenant; nothing is proven. strict: every request is
signed (HTTP) or carries the secret (gRPC) of a known key or of a function. Credentials of functions are bound by what
their version allows in both modes. See docs/auth.md and ADR 20.
"""

import hmac
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Protocol, TypeVar

from evenflow.control.v1 import resources_pb2

from services.frontend.http_protocol import HttpRequest
from services.frontend.settings import STRICT
from services.frontend.targets import Configuration
from services.policy.accounts import DEFAULT_TENANT
from services.policy.arns import LATEST, function_arn
from services.policy.canonical_requests import query_pairs
from services.policy.permissions import Caller
from services.policy.signature_claims import Claim, SignatureMissing, SignatureRefused, read_claim
from services.policy.signatures import SigningKeys, check_signature
from services.shared.credentials import KEY_ID_PREFIX, function_of
from services.shared.errors import EvenflowError, Reason

K = TypeVar("K")
V = TypeVar("V")
SERVICE = "lambda"
MAX_REMEMBERED_CALLERS = 8_192
# Every character that ends an access key id in an Authorization header; real ones are far shorter than the bound.
MAX_ACCESS_KEY_BYTES = 128
SESSION_TOKEN_KEY = "x-amz-security-token"
_BEARER = "bearer "
_CREDENTIAL = b"Credential="
_QUERY_CREDENTIAL = b"X-Amz-Credential="


class WallClock(Protocol):
    """What is needed of the clock."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        ...


def check_reach(address: str, key: str, mode: str) -> None:
    """ValueError, saying what to do: an address beyond loopback on a door that lets everybody in."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        is_local = ip_address(host).is_loopback
    except ValueError:
        is_local = host == "localhost"
    if not is_local and mode != STRICT:
        raise ValueError(
            f"{key}={address} is reachable from other machines, and with auth.mode={mode} everybody who reaches it may "
            "do everything: set auth.mode=strict and make keys with `evenflow keys create`, or listen on 127.0.0.1"
        )


class Callers:
    """Finds callers. They are the same objects as long as the configuration stands: others remember by them."""

    def __init__(self, configuration: Configuration, clock: WallClock, secret: bytes, mode: str) -> None:
        """`secret`: what credentials of functions are derived from (services.shared.credentials)."""
        self._configuration = configuration
        self._clock = clock
        self._secret = secret
        self.is_strict = mode == STRICT
        self._signing_keys = SigningKeys()
        self._by_key: dict[str, Caller] = {}
        self._by_tenant: dict[str, Caller] = {}
        # With the secret that it signs with.
        self._functions: dict[tuple[str, str], tuple[Caller, str]] = {}
        configuration.subscribe(self._forget)

    def of_request(self, request: HttpRequest) -> Caller:
        """The caller of an HTTP request. EvenflowError: it is not proven, which open mode asks of functions only."""
        if self.is_strict:
            return self.proven(request)
        header = request.headers.get(b"authorization")
        if header is None:
            return self._of_url(request.url)
        start = header.find(_CREDENTIAL)
        if start < 0:
            return self.of_tenant(DEFAULT_TENANT)
        start += len(_CREDENTIAL)
        end = header.find(b"/", start, start + MAX_ACCESS_KEY_BYTES)
        key_id = header[start:end].decode("ascii", "replace") if end > 0 else ""
        caller = self._by_key.get(key_id)
        if caller is not None:
            return caller
        return self._named(key_id, request.headers.get(b"x-amz-security-token", b"").decode("latin-1"))

    def proven(self, request: HttpRequest) -> Caller:
        """The caller of a request that must be signed, whatever the mode.

        EvenflowError MISSING_AUTHENTICATION, INVALID_SIGNATURE; UNAUTHENTICATED: nobody's key; REQUEST_TOO_LARGE.
        """
        path, _, query = request.url.partition(b"?")
        claim = _claim_of(request, query)
        caller, secret = self._owner(claim.access_key_id, claim.session_token)
        if request.is_too_large:
            # What was dropped cannot be checked.
            raise EvenflowError(
                Reason.ERROR_REASON_REQUEST_TOO_LARGE,
                f"Request must be smaller than {request.limit_bytes} bytes for this operation",
                metadata={"limit": str(request.limit_bytes)},
            )
        try:
            check_signature(
                claim,
                self._signing_keys.derive(secret, claim.scope),
                method=request.method,
                raw_path=path,
                raw_query=query,
                headers=_signed_headers(request),
                body=request.body,
                service=SERVICE,
                now_ms=self._clock.wall_ms(),
            )
        except SignatureRefused as e:
            raise EvenflowError(Reason.ERROR_REASON_INVALID_SIGNATURE, str(e)) from None
        return caller

    def may_send(self, request: HttpRequest) -> bool:
        """Whether a body is worth keeping, from the headers alone: in strict mode, that of a known key."""
        if not self.is_strict:
            return True
        try:
            claim = _claim_of(request, request.url.partition(b"?")[2])
            self._owner(claim.access_key_id, claim.session_token)
        except EvenflowError:
            return False
        return True

    def of_metadata(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """The caller of a gRPC call: `authorization: Bearer KEYID:SECRET`. EvenflowError: as `of_request`."""
        given = token = ""
        for key, value in metadata:
            if key == "authorization" and isinstance(value, str) and value[: len(_BEARER)].lower() == _BEARER:
                given = value[len(_BEARER) :].strip()
            elif key == SESSION_TOKEN_KEY and isinstance(value, str):
                token = value
        key_id, _, secret = given.partition(":")
        if not self.is_strict:
            return self._named(key_id, token) if key_id else self.of_tenant(DEFAULT_TENANT)
        if not key_id:
            raise EvenflowError(
                Reason.ERROR_REASON_MISSING_AUTHENTICATION,
                "this door needs metadata `authorization: Bearer KEYID:SECRET` of an access key (evenflow keys create)",
            )
        caller, real = self._owner(key_id, token)
        if not hmac.compare_digest(secret.encode(errors="replace"), real.encode()):
            raise _nobody()
        return caller

    def of_tenant(self, tenant_id: str) -> Caller:
        """The tenant itself: who calls without a key in open mode, and whom the fleet calls for."""
        caller = self._by_tenant.get(tenant_id)
        if caller is None:
            account = self._configuration.view.account_of(tenant_id)
            caller = Caller(tenant_id, account, f"arn:aws:iam::{account}:root")
            _remember(self._by_tenant, tenant_id, caller)
        return caller

    def _of_url(self, url: bytes) -> Caller:
        if _QUERY_CREDENTIAL not in url:
            return self.of_tenant(DEFAULT_TENANT)
        pairs = dict(query_pairs(url.partition(b"?")[2]))
        credential = pairs.get(b"X-Amz-Credential", b"").decode("ascii", "replace")
        return self._named(
            credential.partition("/")[0][:MAX_ACCESS_KEY_BYTES],
            pairs.get(b"X-Amz-Security-Token", b"").decode("latin-1"),
        )

    def _named(self, key_id: str, token: str) -> Caller:
        if token and key_id.startswith(KEY_ID_PREFIX):
            function = self._function(key_id, token)
            if function is None:
                # A function that is gone must not turn into the default tenant.
                raise _nobody()
            return function[0]
        return self._of_key(key_id) or self.of_tenant(DEFAULT_TENANT)

    def _owner(self, key_id: str, token: str) -> tuple[Caller, str]:
        """Whose key this is, and its secret. EvenflowError UNAUTHENTICATED: nobody's, or it proves nothing."""
        if token:
            function = self._function(key_id, token)
            if function is None:
                raise _nobody()
            return function
        caller, secret = self._of_key(key_id), self._configuration.view.secret_of_key.get(key_id)
        if caller is None or not secret:
            raise _nobody()
        return caller, secret

    def _of_key(self, key_id: str) -> Caller | None:
        caller = self._by_key.get(key_id)
        if caller is None:
            view = self._configuration.view
            tenant_id = view.tenant_of_key.get(key_id)
            if tenant_id is None:
                return None
            account = view.account_of(tenant_id)
            caller = Caller(tenant_id, account, f"arn:aws:iam::{account}:user/{key_id}")
            _remember(self._by_key, key_id, caller)
        return caller

    def _function(self, key_id: str, token: str) -> tuple[Caller, str] | None:
        known = self._functions.get((key_id, token))
        if known is not None:
            return known
        derived = function_of(self._secret, key_id, token)
        if derived is None:
            return None
        identity, credentials = derived
        view = self._configuration.view
        function = view.functions.get((identity.tenant_id, identity.function_name))
        version = _version(function, identity.version) if function is not None else None
        if version is None:
            return None
        account = view.account_of(identity.tenant_id)
        region = view.fleet.region if view.fleet is not None else ""
        caller = Caller(
            identity.tenant_id,
            account,
            f"arn:aws:sts::{account}:assumed-role/evenflow/{identity.function_name}",
            function_arn(region, account, identity.function_name),
            tuple(version.allows),
        )
        found = caller, credentials.secret_access_key
        _remember(self._functions, (key_id, token), found)
        return found

    def _forget(self) -> None:
        self._by_key.clear()
        self._by_tenant.clear()
        self._functions.clear()


def _signed_headers(request: HttpRequest) -> Mapping[bytes, bytes]:
    """As the signer saw them: what comes several times is one line, in order.

    So every value that a door or a handler may act on, be it the last one or all of them, is covered.
    """
    if not request.repeated:
        return request.headers
    joined = dict(request.headers)
    for name, value in reversed(request.repeated):
        joined[name] = b"%b,%b" % (value, joined[name])
    return joined


def _claim_of(request: HttpRequest, query: bytes) -> Claim:
    try:
        return read_claim(request.headers, query)
    except SignatureMissing as e:
        raise EvenflowError(Reason.ERROR_REASON_MISSING_AUTHENTICATION, str(e)) from None
    except SignatureRefused as e:
        raise EvenflowError(Reason.ERROR_REASON_INVALID_SIGNATURE, str(e)) from None


def _version(function: resources_pb2.Function, number: str) -> resources_pb2.FunctionVersion | None:
    if number == LATEST:
        return function.latest
    return next((one for one in function.versions if one.version == number), None)


def _remember(known: dict[K, V], key: K, value: V) -> None:
    if len(known) >= MAX_REMEMBERED_CALLERS:
        known.clear()
    known[key] = value


def _nobody() -> EvenflowError:
    return EvenflowError(Reason.ERROR_REASON_UNAUTHENTICATED, "The security token included in the request is invalid.")
