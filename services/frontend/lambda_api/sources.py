"""Operations on event source mappings: SQS queues as AWS has them; other kinds that Evenflow has are told, too."""

from collections.abc import Mapping
from typing import Any

from evenflow.control.v1 import control_pb2, resources_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from services.frontend.lambda_api.call import Call, Handler, Result
from services.frontend.lambda_api.errors import bad_value
from services.frontend.lambda_api.names import ask_source, named, require
from services.frontend.lambda_api.paging import make_marker, read_marker, size_of
from services.shared.errors import EvenflowError

MAX_PAGE = 100
DEFAULT_BATCH_SIZE = 10
# Members that are of streams, Kafka, MQ and DocumentDB.
_OTHER_KINDS = (
    "StartingPosition",
    "StartingPositionTimestamp",
    "DestinationConfig",
    "ParallelizationFactor",
    "MaximumRecordAgeInSeconds",
    "BisectBatchOnFunctionError",
    "MaximumRetryAttempts",
    "TumblingWindowInSeconds",
    "Topics",
    "Queues",
    "SourceAccessConfigurations",
    "SelfManagedEventSource",
    "AmazonManagedKafkaEventSourceConfig",
    "SelfManagedKafkaEventSourceConfig",
    "DocumentDBEventSourceConfig",
    "ProvisionedPollerConfig",
    "KMSKeyArn",
    "MetricsConfig",
    "LoggingConfig",
)


async def create_mapping(call: Call) -> Result:
    """CreateEventSourceMapping."""
    arn = call.params.get("EventSourceArn") or ""
    if arn.split(":")[2:3] != ["sqs"]:
        raise bad_value("EventSourceArn must be the ARN of an SQS queue: Evenflow offers no other event source here")
    source, _ = await _read(call)
    source.sqs.queue_arn = arn
    source.tags.update(call.params.get("Tags") or {})
    request = control_pb2.PutSourceRequest(source=source, mode=control_pb2.PUT_MODE_CREATE)
    try:
        answer = await call.control.call("PutSource", request)
    except EvenflowError as e:
        if e.kind.http_status == 409:
            e.message = (
                f'An event source mapping with SQS arn (" {arn} ") and function (" {source.function_name} ") '
                "already exists. Please update or delete the existing mapping."
            )
        raise
    return _describe(call, answer.source, "Creating")


async def update_mapping(call: Call) -> Result:
    """UpdateEventSourceMapping: what is given changes."""
    source, mask = await _read(call)
    source.source_id = call.params["UUID"]
    request = control_pb2.PutSourceRequest(
        source=source, mode=control_pb2.PUT_MODE_CHANGE, update_mask=FieldMask(paths=mask)
    )
    return _describe(call, (await ask_source(call, "PutSource", request)).source, "Updating")


async def get_mapping(call: Call) -> Result:
    """GetEventSourceMapping."""
    request = control_pb2.GetSourceRequest(tenant_id=call.tenant_id, source_id=call.params["UUID"])
    return _describe(call, (await ask_source(call, "GetSource", request)).source)


async def delete_mapping(call: Call) -> Result:
    """DeleteEventSourceMapping."""
    request = control_pb2.DeleteSourceRequest(tenant_id=call.tenant_id, source_id=call.params["UUID"])
    return _describe(call, (await ask_source(call, "DeleteSource", request)).source, "Deleting")


async def list_mappings(call: Call) -> Result:
    """ListEventSourceMappings."""
    marker = call.params.get("Marker")
    function = named(call).function_name if call.params.get("FunctionName") else ""
    request = control_pb2.ListSourcesRequest(
        tenant_id=call.tenant_id,
        function_name=function,
        queue_arn=call.params.get("EventSourceArn") or "",
        page_size=size_of(call.params, MAX_PAGE),
        page_token=read_marker(marker) if marker else "",
    )
    answer = await call.control.call("ListSources", request)
    return {
        "EventSourceMappings": [_describe(call, source) for source in answer.sources],
        "NextMarker": make_marker(answer.next_page_token) if answer.next_page_token else None,
    }


async def _read(call: Call) -> tuple[resources_pb2.EventSource, list[str]]:
    """The source that the members give, and the paths of the fields that they set. bad_value, missing."""
    for member in _OTHER_KINDS:
        if call.params.get(member):
            raise bad_value(f"{member} is not offered by Evenflow for SQS queues: leave it out")
    source, mask = resources_pb2.EventSource(tenant_id=call.tenant_id), []
    if call.params.get("FunctionName"):
        name = named(call)
        await require(call, name)
        source.function_name, source.qualifier = name.function_name, name.qualifier
        mask += ["function_name", "qualifier"]
    if call.params.get("Enabled") is not None:
        source.is_disabled = not call.params["Enabled"]
        mask.append("is_disabled")
    criteria = call.params.get("FilterCriteria")
    if criteria is not None:
        source.filter_patterns.extend(one.get("Pattern") or "" for one in criteria.get("Filters") or ())
        mask.append("filter_patterns")
    mask += _read_queue(call.params, source.sqs)
    return source, mask


def _read_queue(params: Mapping[str, Any], queue: resources_pb2.SqsSource) -> list[str]:
    mask: list[str] = []
    if params.get("BatchSize") is not None:
        queue.batch_size = params["BatchSize"]
        mask.append("sqs.batch_size")
    if params.get("MaximumBatchingWindowInSeconds") is not None:
        queue.maximum_batching_window_seconds = params["MaximumBatchingWindowInSeconds"]
        mask.append("sqs.maximum_batching_window_seconds")
    if params.get("FunctionResponseTypes") is not None:
        queue.report_batch_item_failures = "ReportBatchItemFailures" in params["FunctionResponseTypes"]
        mask.append("sqs.report_batch_item_failures")
    if params.get("ScalingConfig") is not None:
        queue.maximum_concurrency = params["ScalingConfig"].get("MaximumConcurrency") or 0
        mask.append("sqs.maximum_concurrency")
    return mask


def _describe(call: Call, source: resources_pb2.EventSource, state: str = "") -> dict[str, Any]:
    arn = call.arn(f"function:{source.function_name}")
    described: dict[str, Any] = {
        "UUID": source.source_id,
        "EventSourceMappingArn": call.arn(f"event-source-mapping:{source.source_id}"),
        "FunctionArn": f"{arn}:{source.qualifier}" if source.qualifier else arn,
        "LastModified": source.modified_at_ms / 1_000,
        "State": state or ("Disabled" if source.is_disabled else "Enabled"),
        "StateTransitionReason": "USER_INITIATED",
    }
    if source.filter_patterns:
        described["FilterCriteria"] = {"Filters": [{"Pattern": pattern} for pattern in source.filter_patterns]}
    match source.WhichOneof("kind"):
        case "sqs":
            queue = source.sqs
            described |= {
                "EventSourceArn": queue.queue_arn,
                "BatchSize": queue.batch_size or DEFAULT_BATCH_SIZE,
                "MaximumBatchingWindowInSeconds": queue.maximum_batching_window_seconds,
                "FunctionResponseTypes": ["ReportBatchItemFailures"] if queue.report_batch_item_failures else [],
            }
            if queue.maximum_concurrency:
                described["ScalingConfig"] = {"MaximumConcurrency": queue.maximum_concurrency}
        case "bucket":
            described["EventSourceArn"] = f"arn:aws:s3:::{source.bucket.bucket}"
        case "schedule":
            described["EventSourceArn"] = f"arn:aws:events:{call.region}:{call.account_id}:rule/{source.schedule.name}"
    return described


OPERATIONS: Mapping[str, Handler] = {
    "CreateEventSourceMapping": create_mapping,
    "UpdateEventSourceMapping": update_mapping,
    "GetEventSourceMapping": get_mapping,
    "DeleteEventSourceMapping": delete_mapping,
    "ListEventSourceMappings": list_mappings,
}
