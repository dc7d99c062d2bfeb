"""What webhooks fetch from SNS: certificates and confirmations, from hosts that were checked before; bounded."""

import asyncio
import urllib.error
import urllib.request
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, HTTPMessage
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from services.policy.sns_messages import is_aws_certificate, may_visit
from services.shared.errors import EvenflowError, Reason

if TYPE_CHECKING:
    from services.frontend.sns_certificates import PublicKey

THREADS = 4
# Fetches under way and waiting; more are refused, and SNS posts again.
MAX_FETCHES = 64
FETCH_SECONDS = 5.0
MAX_KEYS = 64
MAX_CERTIFICATE_BYTES = 65_536


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """A host that was checked may not send us on to one that was not."""
        return None


class WebhookFetches:
    """Make it on the loop that uses it."""

    def __init__(self, endpoint_url: str) -> None:
        """`endpoint_url`: a server that stands for AWS; requests to AWS's hosts go there. Empty: AWS itself."""
        self._endpoint_url = endpoint_url.rstrip("/")
        self._pool = ThreadPoolExecutor(THREADS, "webhook-fetches")
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._keys: OrderedDict[str, PublicKey] = OrderedDict()
        self._under_way = 0

    async def key(self, url: str) -> "PublicKey":
        """The key of a certificate of SNS. EvenflowError ACCESS_DENIED: not AWS's place for one; UNAVAILABLE."""
        if not is_aws_certificate(url):
            raise _refused(f"{url[:200]!r} is not where AWS keeps certificates of SNS")
        found = self._keys.get(url)
        if found is None:
            try:
                pem = await self._fetch(url)
                found = await asyncio.get_running_loop().run_in_executor(self._pool, _key_of, pem)
            except ValueError as e:
                raise _unavailable(url, str(e)) from None
            while len(self._keys) >= MAX_KEYS:
                self._keys.popitem(last=False)
            self._keys[url] = found
        return found

    async def confirm(self, url: str) -> None:
        """Visit the address that confirms a subscription. EvenflowError ACCESS_DENIED: it is not SNS's; UNAVAILABLE."""
        if not may_visit(url, self._endpoint_url):
            raise _refused(f"SubscribeURL {url[:200]!r} is neither at SNS nor at aws.endpoint_url: it is not visited")
        await self._fetch(url)

    def close(self) -> None:
        """Start no fetch any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _fetch(self, url: str) -> bytes:
        if self._under_way >= MAX_FETCHES:
            raise _unavailable(url, "too many fetches are under way")
        self._under_way += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._get, url)
        except (OSError, HTTPException, ValueError) as e:
            raise _unavailable(url, str(e)) from None
        finally:
            self._under_way -= 1

    def _get(self, url: str) -> bytes:
        headers = {}
        if self._endpoint_url and not url.startswith(f"{self._endpoint_url}/"):
            parts = urlsplit(url)
            # It tells the services that it stands for apart by this.
            headers["Host"] = parts.netloc
            url = f"{self._endpoint_url}{parts.path}" + (f"?{parts.query}" if parts.query else "")
        request = urllib.request.Request(url, headers=headers)
        answer: Any
        with self._opener.open(request, timeout=FETCH_SECONDS) as answer:
            body: bytes = answer.read(MAX_CERTIFICATE_BYTES + 1)
        if len(body) > MAX_CERTIFICATE_BYTES:
            raise ValueError(f"it answers more than {MAX_CERTIFICATE_BYTES:,} bytes")
        return body


def _key_of(pem: bytes) -> "PublicKey":
    # cryptography takes tens of milliseconds to import: with the first certificate, and not on the loop.
    from services.frontend.sns_certificates import key_of_certificate

    return key_of_certificate(pem)


def _refused(message: str) -> EvenflowError:
    return EvenflowError(Reason.ERROR_REASON_ACCESS_DENIED, message)


def _unavailable(url: str, why: str) -> EvenflowError:
    return EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, f"{url[:200]!r} cannot be fetched now: {why}", 1_000)
