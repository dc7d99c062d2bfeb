"""The gRPC face of control: translates, and nothing else."""

from services.control.belonging_calls import BelongingCalls
from services.control.concurrency_calls import ConcurrencyCalls
from services.control.function_calls import FunctionCalls
from services.control.node_calls import NodeCalls
from services.control.package_calls import PackageCalls
from services.control.source_calls import SourceCalls
from services.control.tenant_calls import TenantCalls


class ControlService(
    NodeCalls, FunctionCalls, ConcurrencyCalls, BelongingCalls, PackageCalls, SourceCalls, TenantCalls
):
    """See protos/evenflow/control/v1/control.proto."""
