"""The destination record, field by field as AWS documents it."""

import json

from services.policy.records import Response, destination_record, iso_ms

ARN = "arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST"


def record(response: Response | None, payload: bytes = b'{"a": 1}', condition: str = "RetriesExhausted") -> bytes:
    """A record of an event that ran three times."""
    return destination_record(
        timestamp_ms=1_573_755_376_568,
        request_id="e4b46cbf-b738-xmpl-8880-a18cdf61200e",
        function_arn=ARN,
        condition=condition,
        invoke_count=3,
        request_payload=payload,
        response=response,
    )


def test_the_record_of_a_failure_is_the_documented_one() -> None:
    """Every field of AWS's own example."""
    text = record(Response(b'{"errorMessage": "no"}', "$LATEST", True))
    assert json.loads(text) == {
        "version": "1.0",
        "timestamp": "2019-11-14T18:16:16.568Z",
        "requestContext": {
            "requestId": "e4b46cbf-b738-xmpl-8880-a18cdf61200e",
            "functionArn": ARN,
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3,
        },
        "requestPayload": {"a": 1},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "responsePayload": {"errorMessage": "no"},
    }


def test_a_success_has_no_function_error() -> None:
    """And its payload is the handler's result."""
    parsed = json.loads(record(Response(b"7", "$LATEST", False), condition="Success"))
    assert parsed["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST"}
    assert parsed["responsePayload"] == 7


def test_where_nothing_ran_there_are_no_response_fields() -> None:
    """As for ZeroReservedConcurrency and EventAgeExceeded before the first run."""
    parsed = json.loads(record(None, condition="ZeroReservedConcurrency"))
    assert "responseContext" not in parsed
    assert "responsePayload" not in parsed


def test_payloads_go_in_byte_for_byte() -> None:
    """They are never parsed: spaces, order and escapes stay."""
    payload = b'{ "z":1,  "a":"\\u00e4" }'
    assert payload in record(None, payload)
    assert b'"requestPayload":null' in record(None, b"")


def test_times_have_milliseconds_also_when_they_are_few() -> None:
    """Always three digits."""
    assert iso_ms(1_000) == "1970-01-01T00:00:01.000Z"
    assert iso_ms(1_007) == "1970-01-01T00:00:01.007Z"
