"""Which account id stands for a tenant in ARNs, so that the functions of two tenants never have the same one. Pure."""

from hashlib import sha256

DEFAULT_TENANT = "default"
_LABEL = b"evenflow/account/"
_FIRST = 100_000_000_000
_COUNT = 900_000_000_000


def account_of(tenant_id: str, fleet_account_id: str) -> str:
    """12 digits: the fleet's own account for the default tenant, for any other one that follows from its id.

    Two tenants of one fleet never share one: control refuses a tenant whose account is taken (one in 10^12).
    """
    if tenant_id == DEFAULT_TENANT:
        return fleet_account_id
    digest = sha256(_LABEL + tenant_id.encode()).digest()
    return str(_FIRST + int.from_bytes(digest[:8], "big") % _COUNT)
