"""The `context` that a handler gets: the attributes and methods of AWS Lambda's."""

import json
import os
import time
from typing import Any


class CognitoIdentity:
    """Who called through a mobile SDK; here nobody."""

    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __init__(self) -> None:
        self.cognito_identity_id: str | None = None
        self.cognito_identity_pool_id: str | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}([cognito_identity_id=None,cognito_identity_pool_id=None])"


class Client:
    """The application that called."""

    __slots__ = ("app_package_name", "app_title", "app_version_code", "app_version_name", "installation_id")

    def __init__(self, fields: "dict[str, Any]") -> None:
        self.installation_id = fields.get("installation_id")
        self.app_title = fields.get("app_title")
        self.app_version_name = fields.get("app_version_name")
        self.app_version_code = fields.get("app_version_code")
        self.app_package_name = fields.get("app_package_name")


class ClientContext:
    """What the caller sent in X-Amz-Client-Context."""

    __slots__ = ("client", "custom", "env")

    def __init__(self, fields: "dict[str, Any]") -> None:
        self.custom = fields.get("custom")
        self.env = fields.get("env")
        client = fields.get("client")
        self.client = Client(client) if isinstance(client, dict) else None


def facts_of_function() -> "dict[str, str | None]":
    """The attributes of a context that stay for the life of a sandbox, from its environment."""
    return {
        "log_group_name": os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME"),
        "log_stream_name": os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME"),
        "function_name": os.environ.get("AWS_LAMBDA_FUNCTION_NAME"),
        "memory_limit_in_mb": os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
        "function_version": os.environ.get("AWS_LAMBDA_FUNCTION_VERSION"),
    }


class LambdaContext:
    """What a handler can know of its run."""

    log_group_name: "str | None"
    log_stream_name: "str | None"
    function_name: "str | None"
    memory_limit_in_mb: "str | None"
    function_version: "str | None"

    def __init__(
        self, facts: "dict[str, str | None]", request_id: str, client_context: bytes, deadline_ms: int, arn: str
    ) -> None:
        """`facts`: what is the same in every run, see `facts_of_function`."""
        self.__dict__.update(facts)
        self.aws_request_id = request_id
        self.invoked_function_arn = arn
        self.client_context: ClientContext | None = None
        if client_context:
            fields = json.loads(client_context)
            self.client_context = ClientContext(fields) if isinstance(fields, dict) else None
        self.identity = CognitoIdentity()
        self._epoch_deadline_time_in_ms = deadline_ms

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the time-out, 0 when it is over."""
        return max(self._epoch_deadline_time_in_ms - int(time.time() * 1000), 0)

    def log(self, message: object) -> None:
        """Write to the function's log as it is."""
        print(message, end="", flush=True)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}([aws_request_id={self.aws_request_id},log_group_name={self.log_group_name},"
            f"log_stream_name={self.log_stream_name},function_name={self.function_name},"
            f"memory_limit_in_mb={self.memory_limit_in_mb},function_version={self.function_version},"
            f"invoked_function_arn={self.invoked_function_arn},client_context={self.client_context},"
            f"identity={self.identity}])"
        )
