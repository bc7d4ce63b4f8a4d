"""White- and blacklists."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.domain.wblists import AddressList, Direction, Kind
from iredapi.operations import wblists
from iredapi.schemas.params import NoParams
from iredapi.schemas.wblists import WblistEdit
from iredapi.web.operation_route import OperationRequest, Router

router = Router(tags=["Whitelisting and Blacklisting"])
_PATH: Final = "/wblist/{direction}/{kind}/{account}"
_WORDS: Final = MappingProxyType({"direction": Direction, "kind": Kind})
_ERRORS: Final = ("NOT_SUPPORTED_BY_BACKEND",)


@router.operation(
    "GET",
    _PATH,
    Action.WBLIST_READ,
    NoParams,
    answer=list[str],
    errors=_ERRORS,
    words=_WORDS,
)
async def get_wblist(call: OperationRequest[NoParams]) -> Response:
    """List the addresses of a white- or blacklist, sorted, as they are stored."""
    return await call.listing(wblists.page, "", call.target.whom, *_list(call))


@router.operation("POST", _PATH, Action.WBLIST_ADD, WblistEdit, errors=_ERRORS, words=_WORDS)
async def add_to_wblist(call: OperationRequest[WblistEdit]) -> Response:
    """Add addresses to a white- or blacklist, and remove them from the opposite one.

    The user's lists are tried first, then the domain's, then the global ones; within each, e-mail
    addresses first, then IP addresses, then domains, then networks. **A whitelisted sender is still
    greylisted**: greylisting has other whitelists. A network of one address is stored as that
    address. Entries that iRedAPD ignores are stored, and listed in `_skipped` with the reason
    `NO_EFFECT`: IPv6 networks, IPv4 networks larger than /8, addresses with an extension
    (`user+tag@example.com`) or with other characters in the local part than letters, digits and
    `_-.=/&#`. (Amavisd, which marks mail and refuses none, does look at such addresses.) The null
    sender is never looked up. Sub-domains are not in `@example.com` but in
    `@.example.com`. Mail to or from `user+x@example.com` is looked up as `user@example.com`. In
    outbound lists IP addresses and networks have no effect either.
    """
    return await call.write(wblists.add, call.target.whom, *_list(call), _addresses(call))


@router.operation("PUT", _PATH, Action.WBLIST_REMOVE, WblistEdit, errors=_ERRORS, words=_WORDS)
async def remove_from_wblist(call: OperationRequest[WblistEdit]) -> Response:
    """Remove addresses from a white- or blacklist; `_skipped` lists those that are not on it."""
    return await call.write(wblists.remove, call.target.whom, *_list(call), _addresses(call))


@router.operation("DELETE", _PATH, Action.WBLIST_CLEAR, NoParams, errors=_ERRORS, words=_WORDS)
async def clear_wblist(call: OperationRequest[NoParams]) -> Response:
    """Remove all addresses of one white- or blacklist; the other lists stay."""
    return await call.write(wblists.clear, call.target.whom, *_list(call))


def _list(
    call: OperationRequest[NoParams] | OperationRequest[WblistEdit],
) -> tuple[Direction, Kind]:
    return Direction(call.word("direction")), Kind(call.word("kind"))


def _addresses(call: OperationRequest[WblistEdit]) -> AddressList:
    found: AddressList = call.form.changes().get("addresses", AddressList())
    return found
