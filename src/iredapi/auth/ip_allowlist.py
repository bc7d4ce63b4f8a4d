"""Allow lists of client addresses: of the API, and of admins (settings of iRedAdmin)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from iredapi.backends.policies.iredadmin import NetworkList
from iredapi.errors import PermissionDenied
from iredapi.runtime.context import AppContext

_ALL: Final = NetworkList()


async def may_use_api(context: AppContext, client: str) -> bool:
    """Return whether a client address may use the API.

    Both IREDAPI_ALLOWED_NETWORKS and ``restful_api_clients`` of iRedAdmin must contain it.
    """
    lists = (await context.iredadmin_settings.get()).lists
    return contains(context.allowed_networks, client) and contains(
        lists.get("restful_api_clients", _ALL), client
    )


async def require_listed(context: AppContext, client: str, name: str) -> None:
    """Raise PermissionDenied unless the list ``name`` of iRedAdmin's settings has the client.

    A list that is absent or empty contains every address.
    """
    lists = (await context.iredadmin_settings.get()).lists
    if not contains(lists.get(name, _ALL), client):
        raise PermissionDenied("NOT_ALLOWED_IP")


def contains(networks: NetworkList, client: str) -> bool:
    """Return whether a list contains an address: an empty list does, a malformed one does not."""
    if networks.broken:
        return False
    if not networks.networks:
        return True
    try:
        address = ip_address(client)
    except ValueError:
        return False
    return any(address in network for network in networks.networks)
