"""What a tenant has, counted."""

from collections.abc import Iterator

from evenflow.control.v1 import control_pb2

from services.control.state import State


class Account:
    """Looks at the state; changes nothing."""

    def __init__(self, state: State) -> None:
        self._state = state

    def read(self, request: control_pb2.GetAccountRequest) -> control_pb2.GetAccountResponse:
        """Counts of a tenant, and the account's limits; all 0 for a tenant that is not there."""
        functions = [f for (tenant_id, _), f in self._state.functions.items() if tenant_id == request.tenant_id]
        sizes = sum(v.code_size_bytes for f in functions for v in (f.latest, *f.versions))
        return control_pb2.GetAccountResponse(
            function_count=len(functions),
            code_size_bytes=sizes + sum(self._layer_sizes(request.tenant_id)),
            account_concurrency=self._state.fleet.account_concurrency,
            unreserved_concurrency=max(0, self._state.unreserved - self._state.total_provisioned),
        )

    def _layer_sizes(self, tenant_id: str) -> Iterator[int]:
        for layer_name in self._state.layer_names(tenant_id):
            for layer in self._state.layers_of(tenant_id, layer_name).values():
                yield layer.code_size_bytes
