"""What AWS Lambda does with events, errors and concurrency, sentence by sentence, and the tests that show it here.

`python -m tests.contract.semantics` prints docs/lambda_semantics.md; with `--write` the document gets it. Tests fail
while they differ, or while a sentence names a test that is not there.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from tests.integration.poller.test_semantics import ROWS

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "lambda_semantics.md"
RETRY = "tests/unit/policy/test_retry.py"
LIFE = "tests/unit/policy/test_event_life.py"
DESTINATIONS = "tests/unit/policy/test_destinations.py"
NEIGHBOURS = "tests/integration/poller/test_neighbours.py"
OUTAGES = "tests/integration/poller/test_outages.py"
POLLER = "tests/integration/poller/test_poller.py"
VERSIONS = "tests/integration/poller/test_versions.py"
HTTP = "tests/integration/frontend/test_http_door.py"
API = "tests/integration/frontend/lambda_api/test_settings_of_functions.py"
RUNS = "tests/integration/runtime/test_runs.py"
RUNTIME_API = "tests/integration/runtime/test_runtime_api.py"
PLACING = "tests/integration/runtime/test_placing.py"
PROVISIONED = "tests/integration/runtime/test_provisioned.py"
CONCURRENCY = "tests/unit/policy/test_concurrency_rules.py"
ROW_TEST = "tests/integration/poller/test_semantics.py::test_row"


@dataclass(frozen=True)
class Sentence:
    """One thing that AWS does. `shown_by`: ids of tests, file::name."""

    says: str
    shown_by: tuple[str, ...]


def _row(*words: str) -> tuple[Sentence, ...]:
    """The rows of the table-driven test that speak of this."""
    found = tuple(Sentence(row.says, (ROW_TEST,)) for row in ROWS if any(word in row.says for word in words))
    assert found, words
    return found


SECTIONS: dict[str, tuple[Sentence, ...]] = {
    "Accepting": (
        Sentence("An event is answered with 202 and no body once it is durable", (
            f"{HTTP}::test_an_event_is_accepted_after_it_is_durable",)),
        Sentence("Accepting never checks concurrency: also an event of a function that may not run is accepted", (
            f"{POLLER}::test_zero_reserved_concurrency_ends_events_without_a_run",)),
        Sentence("1 MB for events, 6 MB for synchronous invocations, 256 KB for the old InvokeAsync", (
            f"{HTTP}::test_payload_limits_are_exact",)),
    ),
    "Retries": (
        *_row("tried twice", "MaximumRetryAttempts", "A time-out", "A success after", "outside the count", "use up no"),
        Sentence("The first retry comes after 1 minute, the second one 2 minutes later", (
            f"{RETRY}::test_function_errors_come_back_after_one_minute_then_two_then_never",
            f"{LIFE}::test_a_failing_event_lives_for_three_minutes",)),
        Sentence("Throttles and system errors come back after 1 s, growing to 5 minutes, as long as the age allows", (
            f"{RETRY}::test_throttles_and_system_errors_are_outside_the_attempts",
            f"{LIFE}::test_a_throttled_event_is_tried_for_six_hours",
            f"{POLLER}::test_throttles_do_not_count_as_attempts",)),
        Sentence("The back-off grows only for a throttle that was returned: events of a full function stay queued", (
            f"{POLLER}::test_a_full_function_does_not_hold_up_another",
            f"{RETRY}::test_no_room_grows_no_counter",)),
        Sentence("An event passed over because its function is full counts once in Throttles", (
            f"{POLLER}::test_a_full_function_does_not_hold_up_another",)),
        Sentence("The age check looks ahead: age 60 with a failing function ends after attempt 1", (
            f"{OUTAGES}::test_an_age_of_60_s_ends_a_failing_event_after_its_first_attempt",
            f"{LIFE}::test_ages_cut_that_short_and_look_ahead",)),
        Sentence("Age 90: one retry, then it ends", (f"{OUTAGES}::test_an_age_of_90_s_allows_one_retry",)),
        Sentence("A throttled event ends as EventAgeExceeded with its age, unrun", (
            f"{OUTAGES}::test_throttles_end_with_the_age",)),
        Sentence("The request id is the same on every attempt", (ROW_TEST,)),
        Sentence("Events run the code that is current when they run; an alias is resolved at each attempt", (
            f"{VERSIONS}::test_an_alias_that_moves_between_attempts_moves_the_event",
            f"{VERSIONS}::test_a_split_alias_draws_at_every_run",)),
        Sentence("Each version and alias has an asynchronous configuration of its own", (
            f"{VERSIONS}::test_each_qualifier_has_its_own_retries_and_destinations",)),
        Sentence("Put replaces the configuration, Update merges; an empty Put and a function as its own destination "
                 "are refused", (
            f"{API}::test_event_invoke_configs",
            "tests/integration/control/test_versions.py::test_async_configs_are_replaced_by_put_and_merged_by_update",)),
    ),
    "Destinations": (
        *_row("goes straight to the destination"),
        Sentence("The record has version, timestamp, request context, payloads and response context as documented", (
            ROW_TEST, "tests/unit/policy/test_records.py::test_the_record_of_a_failure_is_the_documented_one",)),
        Sentence("Where nothing ran there are no response fields", (
            "tests/unit/policy/test_records.py::test_where_nothing_ran_there_are_no_response_fields",)),
        Sentence("SQS: the record is the message's body", (ROW_TEST,)),
        Sentence("SNS: the record is the message", (f"{NEIGHBOURS}::test_a_topic_gets_the_record_as_its_message",)),
        Sentence("Lambda: the record is the payload; the destination may name a version or alias", (
            f"{POLLER}::test_a_success_goes_to_its_destination_with_the_exact_record",
            f"{NEIGHBOURS}::test_a_function_is_reached_by_its_alias",)),
        Sentence("EventBridge: source lambda, detail type Lambda Function Invocation Result - Success or Failure", (
            f"{NEIGHBOURS}::test_an_event_bus_gets_an_event_of_lambda",)),
        Sentence("S3: on failure only, an object aws/lambda/async/FUNCTION/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-UUID", (
            f"{NEIGHBOURS}::test_a_bucket_gets_an_object_on_failure",
            f"{DESTINATIONS}::test_buckets_get_failures_only",)),
        Sentence("FIFO queues and topics are refused", (
            f"{DESTINATIONS}::test_what_cannot_be_a_destination_says_why",)),
        Sentence("A record that is too large goes without payloads; here the event of a failure is kept besides", (
            f"{NEIGHBOURS}::test_a_record_that_is_too_large_goes_without_payload_and_the_event_is_kept",
            f"{NEIGHBOURS}::test_a_success_that_is_too_large_is_told_without_payload",)),
        Sentence("What a destination does not take counts in DestinationDeliveryFailures; here it is kept", (
            f"{OUTAGES}::test_a_destination_that_is_down_gets_its_record_once_it_is_up",
            f"{POLLER}::test_a_destination_that_is_not_there_ends_in_the_dead_letters",)),
    ),
    "Dead-letter queues": (
        *_row("dead-letter queue gets the event itself", "ErrorMessage is", "With both", "to the dead-letter queue",
              "gets no successes"),
        Sentence("SNS: the message is the event, with the same attributes", (
            f"{NEIGHBOURS}::test_a_topic_as_dead_letter_queue_gets_event_and_attributes",)),
        Sentence("A dead-letter queue is part of the version's configuration: that of the version that ran counts", (
            f"{VERSIONS}::test_the_dead_letter_queue_is_of_the_version_that_ran",)),
        Sentence("What a dead-letter queue does not take counts in DeadLetterErrors; here the shard keeps it", (
            f"{NEIGHBOURS}::test_an_event_that_is_too_large_for_its_dead_letter_queue_stays_in_the_shard",)),
        Sentence("Here: a crash between the two repeats only what was not confirmed", (
            f"{OUTAGES}::test_a_crash_between_the_two_repeats_only_what_was_not_confirmed",
            f"{NEIGHBOURS}::test_one_that_is_gone_does_not_keep_the_other_from_its_part",)),
    ),
    "Metrics": (
        Sentence("AsyncEventsReceived, AsyncEventAge, AsyncEventsDropped, DestinationDeliveryFailures, "
                 "DeadLetterErrors and RecursiveInvocationsDropped", (
            "tests/integration/poller/test_semantics.py::test_metrics_have_the_names_that_users_of_lambda_know",)),
    ),
    "Recursion": (
        *_row("A chain stops", "sixteenth"),
        Sentence("The chain goes on through destinations", (
            f"{POLLER}::test_a_chain_stops_after_its_16th_invocation",)),
        Sentence("The chain goes on through a handler's own calls, by the trace header", (
            "tests/e2e/test_recursion.py::test_a_handler_that_invokes_itself_is_stopped_after_16_invocations",
            f"{NEIGHBOURS}::test_queues_carry_the_chain_on",)),
        Sentence("A synchronous invocation beyond it is refused with RecursiveInvocationException", (
            f"{HTTP}::test_a_chain_of_handlers_calls_is_stopped_at_its_16th",)),
        Sentence("PutFunctionRecursionConfig lets a function go on", (
            f"{API}::test_recursion", f"{VERSIONS}::test_a_function_may_allow_its_chains_to_go_on",)),
    ),
    "Errors": (
        Sentence("A handler that raised: errorMessage, errorType, requestId, stackTrace; Unhandled", (
            f"{RUNS}::test_an_exception_becomes_awss_error_object",
            f"{HTTP}::test_a_function_error_is_an_answer_not_a_failure",)),
        Sentence("A time-out is Sandbox.Timedout", (
            f"{RUNS}::test_a_timeout_kills_the_whole_tree",
            "tests/e2e/test_bad_input.py::test_a_misbehaving_handler_is_answered_as_aws_does",)),
        Sentence("A crash is Runtime.ExitError, with how the program ended", (
            f"{RUNS}::test_a_crash_is_an_exit_error_and_the_next_run_gets_a_new_sandbox",
            f"{RUNTIME_API}::test_a_crash_tells_how_the_program_ended",)),
        Sentence("Runtime.ImportModuleError, Runtime.HandlerNotFound: the handler cannot be loaded", (
            f"{RUNS}::test_a_handler_that_cannot_be_loaded",
            "tests/e2e/test_bad_input.py::test_code_that_cannot_be_loaded",)),
        Sentence("Function.ResponseSizeTooLarge and Runtime.MarshalError: the result cannot be sent", (
            f"{RUNS}::test_results_that_cannot_be_sent", f"{RUNTIME_API}::test_a_response_over_the_bound",)),
        Sentence("A crash or a time-out resets the sandbox and keeps its /tmp", (
            "tests/integration/runtime/test_start_faults.py::test_a_crash_or_a_timeout_during_init_keeps_tmp_too",
            f"{RUNS}::test_a_timeout_kills_the_whole_tree",)),
        Sentence("The same in events ends in dead letters that say so", (
            "tests/e2e/test_bad_input.py::test_the_same_misbehaviour_in_events_ends_in_the_dead_letters",)),
    ),
    "Concurrency": (
        Sentence("At least 100 of the account stay unreserved", (
            f"{CONCURRENCY}::test_what_does_not_is_refused", f"{API}::test_reserved_concurrency_and_the_account",)),
        Sentence("A reservation is a guarantee and a cap, over all hosts", (
            f"{PLACING}::test_nothing_runs_beyond_the_share_and_nothing_before_it_is_told",
            "tests/e2e/test_two_hosts.py::test_a_reservation_of_one_is_one_over_both_hosts_and_nothing_waits_for_ever",)),
        Sentence("A reservation is shared by the function's versions", (
            "tests/integration/runtime/test_versions.py::test_a_reservation_is_shared_by_the_versions",)),
        Sentence("1,000 more sandboxes of a function every 10 s", (
            "tests/unit/runtime/test_scaling.py::test_a_full_rate_at_once_then_as_time_goes_by",
            "tests/integration/runtime/test_versions.py::test_a_function_scales_no_faster_than_it_may",)),
        Sentence("Provisioned: on a published version or alias, not above the reservation", (
            f"{CONCURRENCY}::test_provisioned_fits_the_reservation_or_the_unreserved_part",
            f"{API}::test_provisioned_concurrency",)),
        Sentence("Provisioned sandboxes are ready before anybody asks; what they cannot take spills over", (
            f"{PROVISIONED}::test_they_are_ready_before_anybody_asks_and_run_first",
            f"{PROVISIONED}::test_what_they_cannot_take_spills_over",)),
        Sentence("Aliases may weight traffic to one more version", (
            "tests/unit/policy/test_qualifiers.py::test_weights_split_traffic",
            "tests/integration/frontend/test_qualifiers.py::test_an_alias_splits_synchronous_traffic",)),
        Sentence("A throttle is 429 with its reason and Retry-After", (
            f"{PLACING}::test_throttles_have_their_reason",
            f"{HTTP}::test_a_throttle_says_why_and_when_to_come_back",)),
    ),
}  # fmt: skip


def text() -> str:
    """The document."""
    lines = [
        "# What AWS Lambda does, and the tests that show it here",
        "",
        "Printed from `tests/contract/semantics.py` (`python -m tests.contract.semantics --write`). A test fails while",
        "a sentence names a test that is not there. Where Evenflow does more than AWS, the sentence says `here`.",
        "Handover and its reasons: [ADR 17](adr/0017-handover-to-aws-neighbours.md).",
        "",
    ]
    for section, sentences in SECTIONS.items():
        lines += [f"## {section}", "", "| AWS | shown by |", "|---|---|"]
        for sentence in sentences:
            ids = "<br>".join(f"`{one.removeprefix('tests/')}`" for one in sentence.shown_by)
            lines.append(f"| {sentence.says} | {ids} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Print or write the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}")
    if parser.parse_args().write:
        DOCUMENT.write_text(text())
    else:
        print(text())


if __name__ == "__main__":
    main()
