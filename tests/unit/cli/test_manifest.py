"""evenflow.toml: what is read, and how every mistake is named."""

from pathlib import Path

import pytest
from evenflow.control.v1 import resources_pb2

from cli.commands.deploy import put_request
from cli.failures import CliError
from cli.manifest import Bucket, FunctionSpec, read_manifest
from cli.manifest_sources import Source

EXAMPLE = Path(__file__).parents[3] / "examples" / "podcast"
IDENTITY = resources_pb2.Fleet(account_id="123456789012", region="us-east-1")


def refusal(folder: Path, text: str) -> str:
    """Why this manifest is not taken."""
    (folder / "evenflow.toml").write_text(text)
    with pytest.raises(CliError) as caught:
        read_manifest(folder)
    return caught.value.message


def test_the_example_is_read_whole() -> None:
    """Every key of the shipped manifest."""
    clean, index = read_manifest(EXAMPLE)
    assert clean == FunctionSpec(
        name="clean",
        code=EXAMPLE / "clean",
        handler="clean.lambda_handler",
        runtime="python3",
        timeout_seconds=60,
        memory_mb=256,
        description="Trims silence, sets the loudness to -16 LUFS, draws the waveform",
        environment={"OUTPUT_BUCKET": "podcast-out"},
        buckets=(Bucket("podcast-in", False), Bucket("podcast-out", True)),
        sources=(Source("podcast-in", ("s3:ObjectCreated:*",)),),
        maximum_retry_attempts=2,
        maximum_event_age_seconds=3_600,
        on_success="index",
    )
    assert (index.name, index.on_success, index.reserved_concurrency) == ("index", "", None)


def test_a_function_becomes_what_control_takes() -> None:
    """Units, grants, sources, and destinations as ARNs of this account; what is not said stays unset."""
    clean, index = read_manifest(EXAMPLE)
    request = put_request(clean, b"\1" * 32, IDENTITY)
    assert request.function.latest.timeout_ms == 60_000
    assert request.function.latest.code_sha256 == b"\1" * 32
    assert request.function.async_config.on_success_arn == "arn:aws:lambda:us-east-1:123456789012:function:index"
    assert request.function.async_config.on_failure_arn == ""
    assert [(b.bucket, b.writable) for b in request.function.latest.buckets] == [
        ("podcast-in", False),
        ("podcast-out", True),
    ]
    (source,) = request.sources
    assert (source.function_name, source.bucket.bucket, list(source.bucket.events)) == (
        "clean",
        "podcast-in",
        ["s3:ObjectCreated:*"],
    )
    assert not put_request(index, b"\1" * 32, IDENTITY).function.HasField("reserved_concurrency")
    bare = FunctionSpec(name="f", code=Path("."), handler="f.f", reserved_concurrency=0, maximum_retry_attempts=0)
    function = put_request(bare, b"\1" * 32, IDENTITY).function
    assert function.HasField("reserved_concurrency") and function.reserved_concurrency == 0
    assert function.async_config.HasField("maximum_retry_attempts")
    assert not function.async_config.HasField("maximum_event_age_seconds")


def test_sources_of_every_kind_are_read(tmp_path: Path) -> None:
    """Queues and schedules by AWS's names; patterns and inputs as tables or as JSON."""
    arn = "arn:aws:sqs:us-east-1:123456789012:orders"
    (tmp_path / "evenflow.toml").write_text(
        FUNCTION
        + f"""
[[functions.sources]]
sqs = "{arn}"
batch_size = 20
maximum_batching_window_seconds = 5
report_batch_item_failures = true
maximum_concurrency = 7
filters = ['{{"body": ["x"]}}', {{ body = {{ kind = ["order"] }} }}]

[[functions.sources]]
schedule = "rate(1 minute)"

[[functions.sources]]
schedule = "cron(0 12 * * ? *)"
name = "noon"
input = {{ go = 1 }}
catch_up_seconds = 600

[[functions.sources]]
bucket = "photos"
remote = true
events = ["s3:ObjectRemoved:*"]
"""
    )
    (spec,) = read_manifest(tmp_path)
    queue, minute, noon, photos = put_request(spec, b"", IDENTITY).sources
    assert {source.function_name for source in (queue, minute, noon, photos)} == {spec.name}
    assert queue.sqs == resources_pb2.SqsSource(
        queue_arn=arn,
        batch_size=20,
        maximum_batching_window_seconds=5,
        report_batch_item_failures=True,
        maximum_concurrency=7,
    )
    assert list(queue.filter_patterns) == ['{"body": ["x"]}', '{"body": {"kind": ["order"]}}']
    assert minute.schedule == resources_pb2.ScheduleSource(expression="rate(1 minute)", name=spec.name)
    assert noon.schedule == resources_pb2.ScheduleSource(
        expression="cron(0 12 * * ? *)", name="noon", input='{"go": 1}', catch_up_seconds=600
    )
    assert (photos.bucket.is_remote, list(photos.bucket.events)) == (True, ["s3:ObjectRemoved:*"])


def test_what_a_function_may_do_is_said_in_its_manifest(tmp_path: Path) -> None:
    """By default nothing."""
    allows = 'allows = [{ action = "lambda:InvokeFunction", resource = "other" }]'
    (tmp_path / "evenflow.toml").write_text(FUNCTION + allows)
    (spec,) = read_manifest(tmp_path)
    [allowance] = put_request(spec, b"", IDENTITY).function.latest.allows
    assert (allowance.action, allowance.resource) == ("lambda:InvokeFunction", "other")
    (tmp_path / "evenflow.toml").write_text(FUNCTION)
    assert not put_request(read_manifest(tmp_path)[0], b"", IDENTITY).function.latest.allows
    assert "resource is missing" in refusal(tmp_path, FUNCTION + 'allows = [{ action = "lambda:*" }]')


@pytest.mark.parametrize("key", ["timeout_seconds", "memory_mb", "reserved_concurrency"])
def test_a_number_that_no_field_can_hold_is_named(key: str) -> None:
    """-1 would not even travel, and 0 means the default where a person wrote zero."""
    spec = FunctionSpec(name="f", code=Path("."), handler="f.f", **{key: -1})  # type: ignore[arg-type]
    with pytest.raises(CliError, match=f"f: {key} is out of bounds"):
        put_request(spec, b"", IDENTITY)


FUNCTION = '[[functions]]\nname = "f"\nhandler = "f.f"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[functions]\n", ["no TOML", "line 1"]),
        ("", ["no [[functions]]"]),
        ("functions = 3\n", ["functions must be a list"]),
        ("functions = [3]\n", ["functions[0]", "a table"]),
        ('[[functions]]\nhandler = "f.f"\n', ["functions[0]", "name is missing"]),
        ('[[functions]]\nname = "f"\n', ["functions[0] (f)", "handler is missing"]),
        (FUNCTION + "timeout = 3\n", ["(f)", "unknown key 'timeout'", "did you mean timeout_seconds?"]),
        (FUNCTION + "zzz = 3\n", ["unknown key 'zzz'", "known are name, code"]),
        (FUNCTION + 'memory_mb = "128"\n', ["memory_mb must be a whole number"]),
        (FUNCTION + "memory_mb = true\n", ["memory_mb must be a whole number"]),
        (FUNCTION + "[functions.environment]\nA = 1\n", ["environment.A must be a text"]),
        (FUNCTION + "snap_start = 1\n", ["snap_start must be true or false"]),
        (FUNCTION + "layers = [1]\n", ["layers must be folders or zip files", "not 1"]),
        (FUNCTION + 'layers = ["a", "b", "c", "d", "e", "f"]\n', ["layers: at most 5, not 6", "merge some"]),
        (FUNCTION + '[[functions.buckets]]\naccess = "read"\n', ["buckets[0]", "name is missing"]),
        (FUNCTION + '[[functions.buckets]]\nname = "b"\naccess = "all"\n', ["access must be", "'all'"]),
        (FUNCTION + '[[functions.sources]]\nevents = ["x"]\n', ["sources[0]", "bucket is missing"]),
        (FUNCTION + '[[functions.sources]]\nbucket = "b"\nevents = [1]\n', ["events must be a list of texts"]),
        (FUNCTION + '[[functions.sources]]\nbucket = "b"\nsufix = "x"\n', ["'sufix'", "did you mean suffix?"]),
        (FUNCTION + '[[functions.sources]]\nbucket = "b"\nsqs = "a"\n', ["bucket and sqs", "write two"]),
        (FUNCTION + '[[functions.sources]]\nschedule = ""\n', ["schedule is empty"]),
        (FUNCTION + '[[functions.sources]]\nsqs = "a"\nbatchsize = 1\n', ["did you mean batch_size?"]),
        (FUNCTION + '[[functions.sources]]\nsqs = "a"\nfilters = [1]\n', ["filters must be a list of patterns"]),
        (FUNCTION + '[[functions.sources]]\nschedule = "x"\ninput = 5\n', ["input must be a text or a table"]),
        (FUNCTION + '[[functions.sources]]\nschedule = "x"\ninput = { a = 2026-01-01 }\n', ["in quotes"]),
        (FUNCTION + "[functions.async]\nretries = 1\n", ["async", "unknown key 'retries'"]),
        (FUNCTION + '[functions.async]\non_success = { queue = "q" }\n', ["async.on_success", "unknown key 'queue'"]),
        (FUNCTION + "[functions.async]\non_success = {}\n", ["async.on_success must name one of function, arn, sqs"]),
        (
            FUNCTION + '[functions.async]\non_failure = { sqs = "q" }\n',
            ["async.on_failure.sqs must be an ARN, not 'q'"],
        ),
        (
            FUNCTION + '[functions.async]\non_failure = { sqs = "arn:aws:sns:r:1:t" }\n',
            ["async.on_failure.sqs must be the ARN of sqs's service"],
        ),
        (
            FUNCTION + '[functions.async]\non_failure = { sqs = "arn:aws:sqs:r:1:q", function = "f" }\n',
            ["async.on_failure must name one of"],
        ),
        (FUNCTION + '[functions.async]\ndead_letter = { s3 = "x" }\n', ["async.dead_letter", "unknown key 's3'"]),
        (FUNCTION + FUNCTION, ["function 'f' is there twice"]),
    ],
)
def test_every_mistake_is_named_with_its_place(tmp_path: Path, text: str, words: list[str]) -> None:
    """File, function, key, and what is expected."""
    message = refusal(tmp_path, text)
    assert message.startswith(f"{tmp_path / 'evenflow.toml'}: ")
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_layers_are_beside_the_manifest_and_keep_their_order(tmp_path: Path) -> None:
    """Their file names are their names; control gets their hashes in the same order."""
    (tmp_path / "evenflow.toml").write_text(FUNCTION + 'layers = ["shared-libs", "more.zip"]\n')
    (spec,) = read_manifest(tmp_path)
    assert spec.layers == (tmp_path / "shared-libs", tmp_path / "more.zip")
    layers = put_request(spec, b"c" * 32, IDENTITY, [b"1" * 32, b"2" * 32]).function.latest.layers
    assert [(one.name, one.code_sha256) for one in layers] == [("shared-libs", b"1" * 32), ("more.zip", b"2" * 32)]


@pytest.mark.parametrize(
    ("entry", "arn"),
    [
        ('{ function = "g" }', "arn:aws:lambda:us-east-1:123456789012:function:g"),
        ('{ function = "g:live" }', "arn:aws:lambda:us-east-1:123456789012:function:g:live"),
        ('{ sqs = "arn:aws:sqs:eu-west-1:1:q" }', "arn:aws:sqs:eu-west-1:1:q"),
        ('{ sns = "arn:aws:sns:eu-west-1:1:t" }', "arn:aws:sns:eu-west-1:1:t"),
        ('{ event_bus = "arn:aws:events:eu-west-1:1:event-bus/b" }', "arn:aws:events:eu-west-1:1:event-bus/b"),
        ('{ s3 = "arn:aws:s3:::b" }', "arn:aws:s3:::b"),
        ('{ arn = "arn:aws:sqs:eu-west-1:1:q" }', "arn:aws:sqs:eu-west-1:1:q"),
    ],
)
def test_destinations_are_functions_by_name_and_others_by_arn(tmp_path: Path, entry: str, arn: str) -> None:
    """And the dead-letter queue is a part of the version, as at AWS."""
    queue = "arn:aws:sqs:eu-west-1:1:dead"
    text = f'[functions.async]\non_failure = {entry}\ndead_letter = {{ sqs = "{queue}" }}\n'
    (tmp_path / "evenflow.toml").write_text(FUNCTION + text)
    (spec,) = read_manifest(tmp_path)
    function = put_request(spec, b"c" * 32, IDENTITY).function
    assert function.async_config.on_failure_arn == arn
    assert function.latest.dead_letter_arn == queue


def test_snap_start_is_asked_for(tmp_path: Path) -> None:
    """It is off unless it is said."""
    for text, expected in (("", False), ("snap_start = true\n", True), ("snap_start = false\n", False)):
        (tmp_path / "evenflow.toml").write_text(FUNCTION + text)
        (spec,) = read_manifest(tmp_path)
        assert put_request(spec, b"c" * 32, IDENTITY).function.latest.snap_start is expected


def test_a_manifest_that_is_no_text(tmp_path: Path) -> None:
    """The byte is named."""
    (tmp_path / "evenflow.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(CliError, match="no UTF-8 text at byte 0"):
        read_manifest(tmp_path)
