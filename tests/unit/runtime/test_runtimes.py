"""The table of runtimes: what is offered, and how code of each is started."""

from itertools import pairwise

import pytest

from services.policy.function_rules import RUNTIMES
from services.runtime.runtimes import (
    Interpreter,
    NodeClient,
    NodeProgram,
    NotOffered,
    Places,
    RuntimeTable,
    commands_of,
    environment_of,
    python_folders,
)

OWN = Interpreter("/p/3.11", "3.11.7", ())
LATER = Interpreter("/p/3.12", "3.12.1", ())
NODE = NodeProgram("/n/20", "v20.20.2", ())
CLIENT = NodeClient("/host/node", "node_modules/aws-lambda-ric/index.mjs")
FULL = RuntimeTable(OWN, {"3.12": LATER}, {"20": NODE}, CLIENT)
PLACES = Places("/var/task", "/opt", "/var/runtime")


def test_what_is_offered_is_what_is_there() -> None:
    """In the order of kinds; Node.js only with a client; every name is one that control takes."""
    assert RuntimeTable(OWN).names() == ("python3", "python3.11", "provided", "provided.al2", "provided.al2023")
    assert FULL.names() == ("python3", "python3.11", "python3.12", "nodejs20.x", *RuntimeTable(OWN).names()[2:])
    assert RuntimeTable(OWN, nodes={"20": NODE}).names() == RuntimeTable(OWN).names()
    assert set(FULL.names()) <= set(RUNTIMES)


@pytest.mark.parametrize(
    ("runtime", "interpreter", "label", "is_forked", "environment"),
    [
        ("python3", OWN, "python:3.11.v3.11.7", True, "AWS_Lambda_python3.11"),
        ("python3.11", OWN, "python:3.11.v3.11.7", True, "AWS_Lambda_python3.11"),
        ("python3.12", LATER, "python:3.12.v3.12.1", True, "AWS_Lambda_python3.12"),
        ("nodejs20.x", OWN, "nodejs:20.v20.20.2", False, "AWS_Lambda_nodejs20.x"),
        ("provided.al2023", OWN, "provided:al2023", False, ""),
        ("provided", OWN, "provided", False, ""),
    ],
)
def test_each_runtime_is_started_its_way(
    runtime: str, interpreter: Interpreter, label: str, is_forked: bool, environment: str
) -> None:
    """Python in a fork of its version, the rest as a program."""
    launch = FULL.launch(runtime)
    assert (launch.interpreter, launch.label, launch.is_forked) == (interpreter, label, is_forked)
    assert launch.execution_env == environment
    assert bool(commands_of(launch, PLACES, "app.handler", 128)) != is_forked
    assert environment_of(launch, PLACES).get("AWS_EXECUTION_ENV", "") == environment


@pytest.mark.parametrize(
    ("table", "runtime", "text"),
    [
        (FULL, "python3.14", "no Python 3.14"),
        (FULL, "nodejs22.x", "no Node.js 22"),
        (RuntimeTable(OWN, nodes={"20": NODE}), "nodejs20.x", "aws-lambda-ric is neither"),
        (FULL, "ruby3.3", "no Python"),
    ],
)
def test_what_is_missing_is_said(table: RuntimeTable, runtime: str, text: str) -> None:
    """For who deployed it."""
    with pytest.raises(NotOffered, match=text):
        table.launch(runtime)


def test_a_program_is_looked_for_in_the_package_then_in_the_layers() -> None:
    """bootstrap; only where there are layers in those."""
    launch = FULL.launch("provided.al2023")
    assert commands_of(launch, PLACES, "x", 128) == [["/var/task/bootstrap"], ["/opt/bootstrap"]]
    assert commands_of(launch, Places("/code", "", "/r"), "x", 128) == [["/code/bootstrap"]]


def test_node_gets_its_client_its_handler_and_a_heap_of_its_memory() -> None:
    """The package's client, when it brings one, is found below its code."""
    (command,) = commands_of(FULL.launch("nodejs20.x"), PLACES, "app.handler", 1_000)
    assert command[0] == "/n/20" and "--max-old-space-size=900" in command
    assert command[-2:] == ["/var/runtime/node_modules/aws-lambda-ric/index.mjs", "app.handler"]
    own = FULL.launch("nodejs20.x", NodeClient("", "node_modules/aws-lambda-ric/bin/index.mjs"))
    (command,) = commands_of(own, PLACES, "app.handler", 128)
    assert command[-2] == "/var/task/node_modules/aws-lambda-ric/bin/index.mjs"


def test_paths_are_awss() -> None:
    """Programs, libraries and modules of layers, in AWS's order."""
    node = environment_of(FULL.launch("nodejs20.x"), PLACES)
    assert node["NODE_PATH"].startswith("/opt/nodejs/node20/node_modules:/opt/nodejs/node_modules:/var/runtime/")
    assert node["PATH"].endswith(":/opt/bin") and node["LD_LIBRARY_PATH"].split(":")[-1] == "/opt/lib"
    assert "PYTHONPATH" not in node
    python = environment_of(FULL.launch("python3.12"), PLACES)
    assert python["PYTHONPATH"] == "/opt/python/lib/python3.12/site-packages:/opt/python"
    assert python["PYTHONPATH"].split(":") == list(python_folders("/opt", "3.12"))
    assert "PYTHONPATH" not in environment_of(FULL.launch("python3.12"), Places("/var/task", "", "/var/runtime"))
    libraries = python["LD_LIBRARY_PATH"].split(":")
    assert all(libraries.index(a) < libraries.index(b) for a, b in pairwise(("/var/runtime", "/var/task", "/opt/lib")))
