"""The destination record, field by field as AWS documents it."""

import json

from services.policy.records import (
    Response,
    destination_record,
    error_attributes,
    iso_ms,
    json_text,
    message_text,
    object_key,
)

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


def test_a_payload_that_a_neighbour_has_no_room_for_is_left_out() -> None:
    """The rest of the record says what happened."""
    short = destination_record(
        timestamp_ms=0,
        request_id="r",
        function_arn=ARN,
        condition="RetriesExhausted",
        invoke_count=3,
        request_payload=None,
        response=Response(None, "7", True),
    )
    parsed = json.loads(short)
    assert "requestPayload" not in parsed and "responsePayload" not in parsed
    assert parsed["responseContext"] == {"statusCode": 200, "executedVersion": "7", "functionError": "Unhandled"}


def test_a_dead_letter_has_three_attributes_within_their_bounds() -> None:
    """RequestID and ErrorMessage are texts, ErrorCode is a number; what is over 1 KB is cut, none is empty."""
    found = error_attributes("r-1", 200, "ä" * 600)
    assert found["RequestID"] == {"DataType": "String", "StringValue": "r-1"}
    assert found["ErrorCode"] == {"DataType": "Number", "StringValue": "200"}
    assert found["ErrorMessage"] == {"DataType": "String", "StringValue": "ä" * 512}
    assert error_attributes("r-1", 200, "")["ErrorMessage"]["StringValue"] == "Unknown"


def test_a_bucket_gets_a_key_of_day_second_and_id() -> None:
    """aws/lambda/async/NAME/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-UUID."""
    assert object_key("f", 1_573_755_376_568, "u") == "aws/lambda/async/f/2019/11/14/2019-11-14T18.16.16-u"


def test_messages_have_no_character_that_queues_refuse() -> None:
    """In JSON it becomes its escape, which means the same; elsewhere the sign for what cannot be shown."""
    document = '{"a":"\uffff\uffe0"}'
    assert json_text(document.encode()) == '{"a":"\\uffff\uffe0"}'
    assert json.loads(json_text(document.encode())) == json.loads(document)
    assert json_text(b"\xff") == "\ufffd"
    assert message_text("a\x00b\nc") == "a\ufffdb\nc"
