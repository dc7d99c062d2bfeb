"""What a function brings, on this host: its code, its layers, and how they are started."""

from services.runtime import refusals
from services.runtime.discovery import Runtimes, package_client
from services.runtime.functions import HostedFunction
from services.runtime.layers import LayerStore
from services.runtime.packages import PackageStore
from services.runtime.parentage import Parents
from services.runtime.parents import BOTO3_PACKAGES, PreparedParent
from services.runtime.runtimes import NotOffered
from services.runtime.tiers import Isolation


class Intake:
    """Fetches for a function and keeps what was found with it."""

    def __init__(
        self, packages: PackageStore, layers: LayerStore, runtimes: Runtimes, parents: Parents, isolation: Isolation
    ) -> None:
        self._packages = packages
        self._layers = layers
        self._runtimes = runtimes
        self._parents = parents
        self._isolation = isolation

    def parent_of(self, function: HostedFunction) -> PreparedParent | None:
        """Whose fork its sandboxes are; None: it was not fetched yet."""
        package, launch = function.package, function.launch
        if package is None or launch is None:
            return None
        brings_own = package.top_names | function.layers.python_names(launch.layer_python)
        is_bare = not launch.is_forked or not brings_own.isdisjoint(BOTO3_PACKAGES)
        return self._parents.of(launch.interpreter, is_bare=is_bare, reads=launch.reads)

    async def fetch(self, function: HostedFunction) -> None:
        """Its code, its layers and how it is started. EvenflowError: one of them is not to be had."""
        version = function.version
        package = await self._packages.get(version.code_sha256)
        table = await self._runtimes.table(version.runtime)
        try:
            launch = table.launch(version.runtime, package_client(package.code_dir))
            if not launch.is_forked and not self._isolation.has_loopback:
                raise NotOffered("its network is isolated by seccomp alone, where no client reaches the Runtime API")
        except NotOffered as e:
            offered = (await self._runtimes.table()).names()
            raise refusals.unsupported(version.runtime, offered, str(e)) from None
        layers = await self._layers.get(package, [layer.code_sha256 for layer in version.layers])
        if function.version is version:
            function.package, function.launch, function.layers = package, launch, layers
