"""Which function a URL id means, as the configuration has it now."""

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

    def find(self, url_id: str) -> Address | None:
        """The URL of this id; None: there is none."""
        view = self._configuration.view
        key = view.function_of_url.get(url_id)
        if key is None:
            return None
        function = view.functions[key]
        return next(Address(function, url) for url in function.urls if url.url_id == url_id)
