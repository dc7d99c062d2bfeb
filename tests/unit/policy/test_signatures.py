"""Signature Version 4 against botocore's own signers: what they sign is accepted, anything else is refused."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.policy.signature_claims import SignatureMissing, SignatureRefused, read_claim
from services.policy.signatures import MAX_SKEW_MS, SigningKeys, check_signature
from tests.kit.signing import WireRequest, sign

AT = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
NOW_MS = int(AT.timestamp() * 1_000)
KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
KEYS = SigningKeys()
PLAIN = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12)
SEGMENT = st.text(max_size=8).map(lambda text: quote(text, safe=""))


def accept(request: WireRequest, *, now_ms: int = NOW_MS, secret: str = SECRET, service: str = "lambda") -> str:
    """The door's two steps; the key that the request claims."""
    claim = read_claim(request.headers, request.raw_query)
    if claim.access_key_id != KEY:
        raise SignatureRefused("nobody's key")
    check_signature(
        claim,
        KEYS.derive(secret, claim.scope),
        method=request.method,
        raw_path=request.raw_path,
        raw_query=request.raw_query,
        headers=request.headers,
        body=request.body,
        service=service,
        now_ms=now_ms,
    )
    return claim.access_key_id


@st.composite
def requests(draw: st.DrawFn) -> WireRequest:
    """Requests as clients make them, with any text in every place, signed in the header or in the URL."""
    expires_seconds = draw(st.none() | st.integers(1, 604_800))
    names = st.sampled_from(["X-Amz-Client-Context", "x-amz-invocation-type", "Content-Type", "X-Custom", "Accept"])
    return sign(
        KEY,
        SECRET,
        method=draw(st.sampled_from(["GET", "POST", "PUT", "DELETE"])),
        path="/" + "/".join(draw(st.lists(SEGMENT, max_size=5))) + draw(st.sampled_from(["", "/"])),
        params=draw(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=12), max_size=4)),
        headers=draw(st.dictionaries(names, PLAIN.map(str.strip), max_size=4)),
        # botocore would move the body of a presigned request into its URL.
        body=draw(st.binary(max_size=64)) if expires_seconds is None else b"",
        token=draw(st.none() | st.just("a+/token==")),
        expires_seconds=expires_seconds,
        at=AT,
    )


@settings(max_examples=300, deadline=None)
@given(requests())
def test_what_botocore_signs_is_accepted(request_: WireRequest) -> None:
    """Paths are encoded twice and without dot segments, queries anew and sorted, header values folded."""
    assert accept(request_) == KEY


@settings(max_examples=200, deadline=None)
@given(requests(), st.data())
def test_what_was_changed_on_its_way_is_refused(request_: WireRequest, data: st.DataObject) -> None:
    """Body, method, path, query, a signed header, a new x-amz- header, and one that is gone."""
    part = data.draw(st.sampled_from(["body", "method", "path", "query", "header", "more", "less", "secret"]))
    changed, secret = replace(request_, headers=dict(request_.headers)), SECRET
    if part == "body":
        changed.body += b"x"
    elif part == "method":
        changed.method = b"PATCH"
    elif part == "path":
        changed.raw_path = changed.raw_path.rstrip(b"/") + b"/x"
    elif part == "query":
        changed.raw_query = changed.raw_query + b"&Qualifier=x" if changed.raw_query else b"Qualifier=x"
    elif part == "header":
        changed.headers[b"host"] = b"elsewhere:9000"
    elif part == "more":
        changed.headers[b"x-amz-log-type"] = b"Tail"
    elif part == "less":
        del changed.headers[b"host"]
    else:
        secret = SECRET[::-1]
    with pytest.raises(SignatureRefused):
        accept(changed, secret=secret)


@settings(max_examples=100, deadline=None)
@given(requests(), st.data())
def test_no_single_byte_of_the_claim_may_differ(request_: WireRequest, data: st.DataObject) -> None:
    """A flipped byte anywhere in the Authorization header or the signed URL is refused, and never an error of ours."""
    where = request_.headers.get(b"authorization", request_.raw_query)
    index = data.draw(st.integers(0, len(where) - 1))
    other = data.draw(st.sampled_from(b"aZ0/%&=+;, ").filter(lambda byte: byte != where[index]))
    bent = where[:index] + bytes([other]) + where[index + 1 :]
    changed = replace(request_, headers=dict(request_.headers))
    if b"authorization" in request_.headers:
        changed.headers[b"authorization"] = bent
    else:
        changed.raw_query = bent
    try:
        accept(changed)
    except SignatureRefused:
        return
    # The same request in other words: only those two are, a space that is written "+", and space around a comma.
    assert bent.replace(b"+", b" ").replace(b" ", b"") == where.replace(b"%20", b"").replace(b" ", b"")


@pytest.mark.parametrize("offset_ms", [-MAX_SKEW_MS, 0, MAX_SKEW_MS])
def test_a_clock_may_be_five_minutes_off(offset_ms: int) -> None:
    """To the second, either way."""
    request = sign(KEY, SECRET, at=AT)
    assert accept(request, now_ms=NOW_MS + offset_ms) == KEY


@pytest.mark.parametrize(("offset_ms", "said"), [(-MAX_SKEW_MS - 1, "not yet current"), (MAX_SKEW_MS + 1, "expired")])
def test_a_clock_that_is_further_off_is_told_so(offset_ms: int, said: str) -> None:
    """The answer names both times."""
    with pytest.raises(SignatureRefused, match=said):
        accept(sign(KEY, SECRET, at=AT), now_ms=NOW_MS + offset_ms)


def test_a_presigned_url_ends_when_it_says() -> None:
    """Its own time counts, not the five minutes; signed for the future it is refused until then."""
    request = sign(KEY, SECRET, method="GET", at=AT, expires_seconds=3_600)
    assert accept(request, now_ms=NOW_MS + 3_600_000) == KEY
    with pytest.raises(SignatureRefused, match="expired"):
        accept(request, now_ms=NOW_MS + 3_600_001)
    with pytest.raises(SignatureRefused, match="not yet current"):
        accept(request, now_ms=NOW_MS - MAX_SKEW_MS - 1)
    short = sign(KEY, SECRET, method="GET", at=AT, expires_seconds=10)
    with pytest.raises(SignatureRefused, match="expired"):
        accept(short, now_ms=NOW_MS + 11_000)
    longer = replace(short, raw_query=short.raw_query.replace(b"X-Amz-Expires=10", b"X-Amz-Expires=99"))
    with pytest.raises(SignatureRefused, match="does not match"):
        accept(longer, now_ms=NOW_MS + 11_000)


def test_a_payload_may_be_left_unsigned_only_where_the_signer_said_so() -> None:
    """UNSIGNED-PAYLOAD is part of what is signed; a hash in the header must be the body's."""
    request = sign(KEY, SECRET, headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, body=b"one", at=AT)
    assert accept(replace(request, body=b"two")) == KEY
    signed = sign(KEY, SECRET, body=b"one", at=AT)
    unsigned = replace(signed, body=b"two", headers={**signed.headers, b"x-amz-content-sha256": b"UNSIGNED-PAYLOAD"})
    with pytest.raises(SignatureRefused, match="must be signed"):
        accept(unsigned)
    for said in ("0" * 64, "", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"):
        lying = sign(KEY, SECRET, headers={"X-Amz-Content-SHA256": said}, body=b"one", at=AT)
        with pytest.raises(SignatureRefused, match=r"not offered|not the hash"):
            accept(lying)


def test_a_date_header_does_instead_of_x_amz_date() -> None:
    """Signers that find a Date header leave X-Amz-Date out."""
    request = sign(KEY, SECRET, headers={"Date": "Sun, 01 Mar 2026 12:00:00 GMT"}, at=AT)
    assert b"x-amz-date" not in request.headers
    assert accept(request) == KEY


def test_a_signature_is_for_one_service_and_day() -> None:
    """A request that was signed for S3 is none for Lambda; a scope's day must be the request's."""
    with pytest.raises(SignatureRefused, match="correct service: 'lambda'"):
        accept(sign(KEY, SECRET, service="s3", at=AT))
    request = sign(KEY, SECRET, at=AT)
    later = replace(request, headers={**request.headers, b"x-amz-date": b"20260302T000000Z"})
    with pytest.raises(SignatureRefused, match="Date in Credential scope"):
        accept(later, now_ms=NOW_MS + int(timedelta(hours=12).total_seconds() * 1_000))


@pytest.mark.parametrize(
    ("authorization", "query", "said"),
    [
        (b"Basic YTpi", b"", "AWS4-HMAC-SHA256"),
        (b"AWS4-ECDSA-P256-SHA256 Credential=a", b"", "AWS4-HMAC-SHA256"),
        (b"AWS4-HMAC-SHA256 ", b"", "each once"),
        (b"AWS4-HMAC-SHA256 Credential=a,Credential=b,SignedHeaders=host,Signature=c", b"", "each once"),
        (b"AWS4-HMAC-SHA256 Credential=a/b,SignedHeaders=host,Signature=c", b"", "KEY/YYYYMMDD"),
        (b"AWS4-HMAC-SHA256 Credential=a/20260301/r/lambda/aws4_request,SignedHeaders=x,Signature=c", b"", "host"),
        (
            b"AWS4-HMAC-SHA256 Credential=a/20260301/r/lambda/aws4_request,SignedHeaders=x;host,Signature=c",
            b"",
            "sorted",
        ),
        (b"AWS4-HMAC-SHA256 " + b"x" * 5_000, b"", "4096 bytes"),
        (b"AWS4-HMAC-SHA256 Credential=a", b"X-Amz-Signature=b", "twice"),
        (None, b"X-Amz-Signature=b", "X-Amz-Algorithm"),
        (None, b"X-Amz-Signature=b&X-Amz-Algorithm=AWS4-HMAC-SHA256", "X-Amz-Credential"),
        (None, b"X-Amz-Signature=b&X%2DAmz-Signature=c&X-Amz-Algorithm=AWS4-HMAC-SHA256", "twice"),
    ],
)
def test_a_claim_of_bad_form_is_told_what_is_wrong(authorization: bytes | None, query: bytes, said: str) -> None:
    """Every refusal says what to do."""
    headers = {b"x-amz-date": b"20260301T120000Z"}
    if authorization is not None:
        headers[b"authorization"] = authorization
    with pytest.raises(SignatureRefused, match=said):
        read_claim(headers, query)


def test_no_signature_is_told_apart_from_a_bad_one() -> None:
    """AWS has an error of its own for it."""
    with pytest.raises(SignatureMissing):
        read_claim({b"host": b"x"}, b"Qualifier=1")


def test_an_encoded_name_of_the_signature_is_signed_like_any_other() -> None:
    """Nothing can be slipped into the query of a request that is signed in its header."""
    request = sign(KEY, SECRET, at=AT)
    with pytest.raises(SignatureRefused, match="does not match"):
        accept(replace(request, raw_query=b"X%2DAmz-Signature=free"))
