"""The environment variables of a sandbox: those that AWS sets, the function's own credentials, and what it was given.

They reach the sandbox through its own socket, never through a command line or a file, and are in no log.
"""

from collections.abc import Callable, Mapping

from services.policy import function_rules
from services.policy.records import iso_ms
from services.runtime.functions import HostedFunction, region_of
from services.shared.clock import Clock
from services.shared.config_view import ConfigView
from services.shared.credentials import function_credentials

ON_DEMAND = "on-demand"
PROVISIONED = "provisioned-concurrency"
SNAP_START = "snap-start"
INITIALIZATION_TYPE = "AWS_LAMBDA_INITIALIZATION_TYPE"
ENDPOINT_URL = "AWS_ENDPOINT_URL_LAMBDA"


class Environments:
    """Makes them. secret: what credentials are derived from; empty: functions get none.

    endpoint_url: of the fleet's HTTP door, for calls that a handler makes with boto3; empty: they go to AWS.
    """

    def __init__(self, secret: bytes, endpoint_url: str, view: Callable[[], ConfigView], clock: Clock) -> None:
        self._secret = secret
        self._endpoint_url = endpoint_url
        self._view = view
        self._clock = clock

    def of(self, function: HostedFunction, sandbox_id: str, of_runtime: Mapping[str, str]) -> dict[str, str]:
        """For an on-demand sandbox. What AWS reserves the function's own variables cannot replace.

        of_runtime: those of its runtime, see runtimes.environment_of.
        """
        region = region_of(self._view().fleet)
        is_reserved = function_rules.is_reserved
        return {
            **{name: value for name, value in of_runtime.items() if not is_reserved(name)},
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "HOME": "/tmp",
            **({ENDPOINT_URL: self._endpoint_url} if self._endpoint_url else {}),
            **function.version.environment,
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            **self._credentials(function),
            **{name: value for name, value in of_runtime.items() if is_reserved(name)},
            "AWS_LAMBDA_FUNCTION_NAME": function.key[1],
            "AWS_LAMBDA_FUNCTION_VERSION": function.number,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.version.memory_mb),
            INITIALIZATION_TYPE: ON_DEMAND,
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.key[1]}",
            "AWS_LAMBDA_LOG_STREAM_NAME": log_stream(self._clock.wall_ms(), function.number, sandbox_id),
            "_HANDLER": function.version.handler,
        }

    def _credentials(self, function: HostedFunction) -> dict[str, str]:
        if not self._secret:
            return {}
        own = function_credentials(self._secret, *function.version_key)
        return {
            "AWS_ACCESS_KEY_ID": own.access_key_id,
            "AWS_SECRET_ACCESS_KEY": own.secret_access_key,
            "AWS_SESSION_TOKEN": own.session_token,
        }


def log_stream(now_ms: int, number: str, sandbox_id: str) -> str:
    """As AWS writes it, such as "2026/01/31/[$LATEST]runtime-0/5": the day, the version, which sandbox."""
    return f"{iso_ms(now_ms)[:10].replace('-', '/')}/[{number}]{sandbox_id}"
