"""Packages that run through the Runtime API: unmodified clients, a shell's own, and scripts that misbehave."""

import functools
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import files
from pathlib import Path

import pytest

from services.runtime.discovery import HOST_NODE_MODULES
from tests.integration.runtime.kit import zipped

# The interpreter below the virtual environment: sandboxes do not see the environment.
PYTHON = os.path.realpath(sys.executable)
BIG_BYTES = 5_900_000

_RIC_BOOTSTRAP = f"""#!/bin/sh
cd "$LAMBDA_TASK_ROOT" && exec {PYTHON} -m awslambdaric "$_HANDLER"
"""
_RIC_HANDLER = """
import os, signal, sys, time
runs = 0
def handler(event, context):
    global runs
    runs += 1
    do = event.get("do")
    print("said", do, flush=True)
    if do == "raise":
        raise ValueError("no")
    if do == "sleep":
        time.sleep(60)
    if do == "exit":
        os._exit(3)
    if do == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if do == "look":
        return {
            "id": context.aws_request_id, "arn": context.invoked_function_arn, "root": os.environ["LAMBDA_TASK_ROOT"],
            "left": context.get_remaining_time_in_millis(), "colour": os.environ["COLOUR"], "cwd": os.getcwd(),
            "handler": os.environ["_HANDLER"], "runs": runs, "custom": context.client_context.custom,
            "trace": os.environ["_X_AMZN_TRACE_ID"],
        }
    return event
"""
_NODE_HANDLER = """
let runs = 0;
exports.handler = async (event, context) => {
  runs += 1;
  console.log("said", event.do);
  if (event.do === "raise") throw new RangeError("no");
  if (event.do === "sleep") await new Promise((done) => setTimeout(done, 60000));
  if (event.do === "exit") process.exit(3);
  if (event.do === "kill") process.kill(process.pid, "SIGKILL"), await new Promise(() => {});
  if (event.do === "look") return {
    id: context.awsRequestId, arn: context.invokedFunctionArn, root: process.env.LAMBDA_TASK_ROOT,
    left: context.getRemainingTimeInMillis(), colour: process.env.COLOUR, cwd: process.cwd(),
    handler: process.env._HANDLER, runs, custom: context.clientContext.custom, trace: process.env._X_AMZN_TRACE_ID,
  };
  return event;
};
exports.stream = awslambda.streamifyResponse(async (event, stream, context) => {
  stream.setContentType("application/json");
  stream.write('{"part": 1, ');
  await new Promise((done) => setTimeout(done, 20));
  if (event.do === "raise") throw new RangeError("broke off");
  stream.write('"rest": 2}');
  stream.end();
});
"""
# Bash and coreutils only. One connection for everything.
SHELL_BOOTSTRAP = r"""#!/bin/bash
set -u
exec 9<>"/dev/tcp/${AWS_LAMBDA_RUNTIME_API/://}"
work=${TMPDIR:-/tmp}
runs=0
ask() {  # METHOD PATH FILE [HEADER]
  printf '%s /2018-06-01/runtime/%s HTTP/1.1\r\nHost: api\r\n%bContent-Length: %d\r\n\r\n' \
    "$1" "$2" "${4:-}" "$(stat -c %s "$3")" >&9
  cat "$3" >&9
  length=0
  IFS= read -r status <&9
  while IFS= read -r line <&9; line=${line%$'\r'}; [ -n "$line" ]; do
    case ${line,,} in
      content-length:*) length=${line#*: } ;;
      lambda-runtime-aws-request-id:*) id=${line#*: } ;;
      lambda-runtime-invoked-function-arn:*) arn=${line#*: } ;;
      lambda-runtime-deadline-ms:*) deadline=${line#*: } ;;
      lambda-runtime-trace-id:*) trace=${line#*: } ;;
      lambda-runtime-client-context:*) client_context=${line#*: } ;;
    esac
  done
  head -c "$length" <&9 >"$work/reply"
}
if [ "$_HANDLER" = broken.handler ]; then
  echo '{"errorType": "ShellInitError", "errorMessage": "cannot begin"}' >"$work/error"
  ask POST init/error "$work/error"
  exit 1
fi
while :; do
  trace= client_context=null
  ask GET invocation/next /dev/null
  runs=$((runs + 1))
  mv "$work/reply" "$work/event"
  read -r -N 40 start <"$work/event"
  do=${start#*\"do\": \"}; do=${do%%\"*}
  echo "said $do"
  case $do in
    raise)
      echo '{"errorType": "ShellError", "errorMessage": "no", "stackTrace": []}' >"$work/error"
      ask POST "invocation/$id/error" "$work/error" 'Lambda-Runtime-Function-Error-Type: Function.Other\r\n'
      continue ;;
    sleep) sleep 60 ;;
    exit) exit 3 ;;
    kill) kill -KILL $$ ;;
    look)
      left=$((deadline - $(date +%s%3N)))
      printf '{"id": "%s", "arn": "%s", "root": "%s", "left": %d, "colour": "%s", "cwd": "%s", "handler": "%s",
        "runs": %d, "trace": "%s", "custom": (%s).custom}' "$id" "$arn" "$LAMBDA_TASK_ROOT" "$left" "$COLOUR" "$PWD" \
        "$_HANDLER" "$runs" "$trace" 0 | sed 's/"custom": (0).custom/"client": '"$client_context"'/' >"$work/event" ;;
  esac
  ask POST "invocation/$id/response" "$work/event"
done
"""

# A client of the Runtime API in a few lines, for scripts that go on after it.
_CLIENT = f"""#!{PYTHON} -u
import http.client, json, os, socket, subprocess, sys, threading, time
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])

def call(method, path, body=None, headers={{}}, connection=connection):
    connection.request(method, "/2018-06-01/runtime/" + path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()

def take():
    status, headers, body = call("GET", "invocation/next")
    return headers["Lambda-Runtime-Aws-Request-Id"], json.loads(body)

def give(request_id, result, what="response", headers={{}}):
    body = result if isinstance(result, bytes) else json.dumps(result).encode()
    status, _, body = call("POST", f"invocation/{{request_id}}/{{what}}", body, headers)
    return status, json.loads(body)
"""


@dataclass(frozen=True, slots=True)
class Program:
    """One way to run a function through the Runtime API."""

    runtime: str
    package: bytes
    error_type: str
    init_error_type: str


def script(text: str, **more: str) -> bytes:
    """A package whose bootstrap is this script after the client above."""
    return zipped({"bootstrap": _CLIENT + text, **more})


def shell() -> Program:
    """A bootstrap in bash."""
    return Program("provided.al2023", zipped({"bootstrap": SHELL_BOOTSTRAP}), "ShellError", "ShellInitError")


@functools.cache
def awslambdaric() -> Program:
    """AWS's client for Python as it is on PyPI, in the package."""
    brought: dict[str, str | bytes] = {"bootstrap": _RIC_BOOTSTRAP, "app.py": _RIC_HANDLER}
    brought["broken.py"] = "import nowhere\n"
    for name in ("awslambdaric", "snapshot-restore-py", "simplejson"):
        for path in files(name) or []:
            if path.suffix in (".py", ".so") and ".." not in path.parts:
                brought[str(path)] = path.read_binary()
    return Program("provided.al2023", zipped(brought), "ValueError", "Runtime.ImportModuleError")


def node() -> Program:
    """AWS's client for Node.js as it is on npm, the host's."""
    if shutil.which("node") is None:
        pytest.skip("node is not here")
    if not Path(HOST_NODE_MODULES, "aws-lambda-ric", "rapid-client.node").exists():
        pytest.skip("aws-lambda-ric is not installed: tools/node_client.sh says why")
    package = zipped({"app.js": _NODE_HANDLER, "broken.js": "require('nowhere');\n"})
    return Program(node_runtime(), package, "RangeError", "Runtime.ImportModuleError")


def node_runtime() -> str:
    """The name of the runtime of the Node.js in PATH."""
    version = os.popen("node --version").read()
    return f"nodejs{version.lstrip('v').split('.')[0]}.x"


PROGRAMS: dict[str, Callable[[], Program]] = {"awslambdaric": awslambdaric, "node": node, "shell": shell}
