"""Operations on function URLs; the URLs themselves are served by services.frontend.function_urls."""

from collections.abc import Mapping
from typing import Any

from evenflow.control.v1 import control_pb2, resources_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from services.frontend.lambda_api.call import Call, Handler, Result
from services.frontend.lambda_api.errors import bad_value, missing
from services.frontend.lambda_api.names import Named, ask, named, read, require
from services.frontend.lambda_api.paging import page_of
from services.frontend.lambda_api.times import zulu
from services.policy.arns import LATEST
from services.shared.errors import Reason

# A browser and curl resolve every name below localhost by themselves.
LOOPBACK_DOMAIN = "localhost"
_LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")
_CORS: Mapping[str, str] = {
    "AllowCredentials": "allow_credentials",
    "AllowHeaders": "allow_headers",
    "AllowMethods": "allow_methods",
    "AllowOrigins": "allow_origins",
    "ExposeHeaders": "expose_headers",
    "MaxAge": "max_age_seconds",
}


async def create_url(call: Call) -> Result:
    """CreateFunctionUrlConfig."""
    name = await _addressed(call)
    url = _url(call, name)
    url.invoke_mode = url.invoke_mode or "BUFFERED"
    texts: dict[int, str] = {
        Reason.ERROR_REASON_RESOURCE_CONFLICT: (
            f"Failed to create function url config for [functionArn = {name.qualified_arn}]. "
            "Error message:  FunctionUrlConfig exists for this Lambda function"
        )
    }
    described = await _put(call, name, url, control_pb2.PUT_MODE_CREATE, [], texts)
    # The answer of a creation alone has no time of change.
    described.pop("LastModifiedTime")
    return described


async def update_url(call: Call) -> Result:
    """UpdateFunctionUrlConfig: what is given changes; Cors whole."""
    name = await _addressed(call)
    fields = {"AuthType": "auth_type", "InvokeMode": "invoke_mode", "Cors": "cors"}
    mask = [field for member, field in fields.items() if call.params.get(member) is not None]
    texts: dict[int, str] = {Reason.ERROR_REASON_RESOURCE_NOT_FOUND: missing().text}
    return await _put(call, name, _url(call, name), control_pb2.PUT_MODE_CHANGE, mask, texts)


async def get_url(call: Call) -> Result:
    """GetFunctionUrlConfig."""
    name = await _addressed(call)
    for url in (await read(call, name)).urls:
        if url.qualifier == name.qualifier:
            return _describe(call, name, url)
    raise missing()


async def delete_url(call: Call) -> Result:
    """DeleteFunctionUrlConfig."""
    name = await _addressed(call)
    request = control_pb2.DeleteUrlRequest(
        tenant_id=call.tenant_id, function_name=name.function_name, qualifier=name.qualifier
    )
    await ask(call, name, "DeleteUrl", request, {Reason.ERROR_REASON_RESOURCE_NOT_FOUND: missing().text})
    await call.control.refresh(call.tenant_id, name.function_name)
    return {}


async def list_urls(call: Call) -> Result:
    """ListFunctionUrlConfigs, the one without a qualifier first."""
    name = named(call)
    urls = sorted((await read(call, name)).urls, key=lambda url: url.qualifier)
    page, marker = page_of(urls, lambda url: url.url_id, call.params)
    return {"FunctionUrlConfigs": [_describe(call, name, url) for url in page], "NextMarker": marker}


async def _addressed(call: Call) -> Named:
    name = named(call)
    if name.qualifier == LATEST or name.qualifier.isdecimal():
        raise bad_value("A function URL is the function's own or an alias's: leave Qualifier out, or name an alias")
    await require(call, name)
    return name


async def _put(
    call: Call,
    name: Named,
    url: resources_pb2.FunctionUrl,
    mode: "control_pb2.PutMode.ValueType",
    mask: list[str],
    texts: dict[int, str],
) -> dict[str, Any]:
    request = control_pb2.PutUrlRequest(
        tenant_id=call.tenant_id,
        function_name=name.function_name,
        url=url,
        mode=mode,
        update_mask=FieldMask(paths=mask),
    )
    answer = await ask(call, name, "PutUrl", request, texts)
    await call.control.refresh(call.tenant_id, name.function_name)
    return _describe(call, name, answer.url)


def _url(call: Call, name: Named) -> resources_pb2.FunctionUrl:
    url = resources_pb2.FunctionUrl(
        qualifier=name.qualifier,
        auth_type=call.params.get("AuthType") or "",
        invoke_mode=call.params.get("InvokeMode") or "",
    )
    cors = call.params.get("Cors")
    if cors is not None:
        given = {field: cors[member] for member, field in _CORS.items() if cors.get(member) is not None}
        url.cors.CopyFrom(resources_pb2.Cors(**given))
    return url


def _describe(call: Call, name: Named, url: resources_pb2.FunctionUrl) -> dict[str, Any]:
    described: dict[str, Any] = {
        "FunctionUrl": address(call.authority, url.url_id, call.region),
        "FunctionArn": name.arn_of(url.qualifier) if url.qualifier else name.arn,
        "AuthType": url.auth_type,
        "CreationTime": zulu(url.created_at_ms),
        "LastModifiedTime": zulu(url.modified_at_ms),
        "InvokeMode": url.invoke_mode or "BUFFERED",
    }
    if url.HasField("cors"):
        cors = url.cors
        lists = {
            member: list(getattr(cors, field))
            for member, field in _CORS.items()
            if member not in ("AllowCredentials", "MaxAge")
        }
        described["Cors"] = {
            "AllowCredentials": cors.allow_credentials,
            **{member: values for member, values in lists.items() if values},
            "MaxAge": cors.max_age_seconds,
        }
    return described


def address(authority: str, url_id: str, region: str) -> str:
    """Where the function answers: below the name by which the caller reached this door."""
    host, colon, port = authority.rpartition(":") if ":" in authority.rsplit("]", 1)[-1] else (authority, "", "")
    domain = LOOPBACK_DOMAIN if host in _LOOPBACK_HOSTS else host
    return f"http://{url_id}.lambda-url.{region}.{domain}{colon}{port}/"


OPERATIONS: Mapping[str, Handler] = {
    "CreateFunctionUrlConfig": create_url,
    "UpdateFunctionUrlConfig": update_url,
    "GetFunctionUrlConfig": get_url,
    "DeleteFunctionUrlConfig": delete_url,
    "ListFunctionUrlConfigs": list_urls,
}
