"""Which runtimes a host offers, and how a function of each is started. Pure: what the machine has is found elsewhere.

Two ways lead to a sandbox that the host treats alike: a Python runtime is forked from a prepared parent of its version;
any other is a program, started in a sandbox that serves AWS's Runtime API to it (sandbox/runtime_api.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.policy.function_rules import NODE_RUNTIMES, PROVIDED_RUNTIMES

OWN_PYTHON = "python3"
# Room that V8 leaves to the rest of its process, as AWS's own start script does.
NODE_HEAP_PERCENT = 90
MAX_NODE_HEADER_BYTES = 81_920


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python of this machine; `roots` are the folders that its standard library needs."""

    executable: str
    version: str
    roots: tuple[str, ...]

    @property
    def line(self) -> str:
        """ "3.12" of "3.12.1"."""
        return ".".join(self.version.split(".")[:2])


@dataclass(frozen=True, slots=True)
class NodeProgram:
    """A Node.js of this machine; `roots` are folders that it needs beyond those of the system."""

    executable: str
    version: str
    roots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeClient:
    """AWS's runtime client for Node.js: `folder` has node_modules, `entry` is the program's path in it."""

    folder: str
    entry: str


@dataclass(frozen=True, slots=True)
class Places:
    """Where a sandbox sees its code, its layers ("": it has none) and the runtime's own files."""

    task: str
    layers: str
    runtime: str


@dataclass(frozen=True, slots=True)
class Launch:
    """How sandboxes of one function are started.

    interpreter: whose prepared parent forks them. is_forked: the handler runs in that fork. label: for INIT_START.
    layer_python: the Python whose folder in a layer is looked into, such as "3.12"; "" for none.
    """

    interpreter: Interpreter
    label: str
    is_forked: bool
    execution_env: str = ""
    layer_python: str = ""
    node: NodeProgram | None = None
    client: NodeClient | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """Folders of the machine that the program needs, besides those of its system and of the interpreter."""
        folders = self.node.roots if self.node is not None else ()
        return (*folders, self.client.folder) if self.client is not None and self.client.folder else folders


class NotOffered(LookupError):
    """This host cannot run such code; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class RuntimeTable:
    """What one host has: Pythons by "3.12", Nodes by "20", the host's own copy of the Node client."""

    own: Interpreter
    pythons: Mapping[str, Interpreter] = field(default_factory=dict)
    nodes: Mapping[str, NodeProgram] = field(default_factory=dict)
    client: NodeClient | None = None

    def names(self) -> tuple[str, ...]:
        """Runtimes offered, in order of their kind."""
        lines = sorted({self.own.line, *self.pythons}, key=_as_numbers)
        nodes = [name for name in NODE_RUNTIMES if self.client is not None and _major_of(name) in self.nodes]
        return (OWN_PYTHON, *(f"python{line}" for line in lines), *nodes, *PROVIDED_RUNTIMES)

    def launch(self, runtime: str, own_client: NodeClient | None = None) -> Launch:
        """How to start code of this runtime; `own_client` is the Node client that a package brings. NotOffered."""
        if runtime in PROVIDED_RUNTIMES:
            return Launch(self.own, runtime.replace(".", ":"), is_forked=False, layer_python=self.own.line)
        if runtime in NODE_RUNTIMES:
            return self._launch_node(runtime, own_client)
        line = self.own.line if runtime == OWN_PYTHON else runtime.removeprefix("python")
        interpreter = self.own if line == self.own.line else self.pythons.get(line)
        if interpreter is None or not runtime.startswith("python"):
            raise NotOffered(f"there is no Python {line} on it")
        label = f"python:{line}.v{interpreter.version}"
        return Launch(interpreter, label, True, f"AWS_Lambda_python{line}", layer_python=line)

    def _launch_node(self, runtime: str, own_client: NodeClient | None) -> Launch:
        major = _major_of(runtime)
        node, client = self.nodes.get(major), own_client or self.client
        if node is None:
            raise NotOffered(f"there is no Node.js {major} on it")
        if client is None:
            raise NotOffered("AWS's client aws-lambda-ric is neither in the package's node_modules nor on the host")
        return Launch(
            self.own,
            f"nodejs:{major}.{node.version}",
            is_forked=False,
            execution_env=f"AWS_Lambda_{runtime}",
            node=node,
            client=client,
        )


def commands_of(launch: Launch, places: Places, handler: str, memory_mb: int) -> list[list[str]]:
    """Programs with arguments, the first of which is there is to be started; none when the handler runs in the fork."""
    if launch.is_forked:
        return []
    if launch.node is None or launch.client is None:
        folders = [places.task, places.layers] if places.layers else [places.task]
        return [[f"{folder}/bootstrap"] for folder in folders]
    folder = places.runtime if launch.client.folder else places.task
    heap_mb = memory_mb * NODE_HEAP_PERCENT // 100
    options = [f"--max-http-header-size={MAX_NODE_HEADER_BYTES}", f"--max-old-space-size={heap_mb}"]
    # Clients before 4.0 take the handler as an argument, later ones from _HANDLER.
    return [[launch.node.executable, *options, f"{folder}/{launch.client.entry}", handler]]


def environment_of(launch: Launch, places: Places) -> dict[str, str]:
    """The variables by which programs find a runtime's and a layer's files, as AWS sets them."""
    layers = places.layers or "/opt"
    libraries = (places.runtime, f"{places.runtime}/lib", places.task, f"{places.task}/lib", f"{layers}/lib")
    environment = {
        "PATH": f"/usr/local/bin:/usr/bin:/bin:{layers}/bin",
        "LD_LIBRARY_PATH": ":".join(libraries),
        "LAMBDA_RUNTIME_DIR": places.runtime,
    }
    if launch.execution_env:
        environment["AWS_EXECUTION_ENV"] = launch.execution_env
    if launch.node is not None:
        major = launch.node.version.lstrip("v").split(".")[0]
        modules = (
            f"{layers}/nodejs/node{major}/node_modules",
            f"{layers}/nodejs/node_modules",
            f"{places.runtime}/node_modules",
            places.runtime,
            places.task,
        )
        environment["NODE_PATH"] = ":".join(modules)
    elif places.layers:
        environment["PYTHONPATH"] = ":".join(python_folders(places.layers, launch.layer_python))
    return environment


def python_folders(layers: str, line: str) -> tuple[str, str]:
    """Where Python looks for modules in a layer; `line` is such as "3.12"."""
    return f"{layers}/python/lib/python{line}/site-packages", f"{layers}/python"


def _major_of(runtime: str) -> str:
    return runtime.removeprefix("nodejs").partition(".")[0]


def _as_numbers(line: str) -> tuple[int, ...]:
    return tuple(int(part) for part in line.split("."))
