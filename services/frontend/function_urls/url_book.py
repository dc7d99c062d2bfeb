"""Which function a URL id means: a table made of the configuration when a URL is called after a change."""

from dataclasses import dataclass

from evenflow.control.v1 import resources_pb2

from services.frontend.targets import Configuration


@dataclass(frozen=True, slots=True)
class Address:
    """A function's URL and whose it is."""

    function: resources_pb2.Function
    url: resources_pb2.FunctionUrl


class UrlBook:
    """All URLs of the fleet."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._by_id: dict[str, Address] | None = None
        configuration.subscribe(self._forget)

    def find(self, url_id: str) -> Address | None:
        """The URL of this id; None: there is none."""
        if self._by_id is None:
            self._by_id = {
                url.url_id: Address(function, url)
                for function in self._configuration.view.functions.values()
                for url in function.urls
            }
        return self._by_id.get(url_id)

    def _forget(self) -> None:
        self._by_id = None
