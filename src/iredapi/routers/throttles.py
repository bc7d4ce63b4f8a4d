"""Throttling."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.domain.throttles import Direction
from iredapi.operations import throttles
from iredapi.schemas.params import NoParams
from iredapi.schemas.policies import Effective
from iredapi.schemas.profiles import ThrottleProfile
from iredapi.schemas.throttles import ThrottleEdit
from iredapi.web import responses
from iredapi.web.operation_route import OperationRequest, Router

router = Router(tags=["Throttling"])
_PATH: Final = "/throttle/{account}/{direction}"
_WORDS: Final = MappingProxyType({"direction": Direction})
_ERRORS: Final = ("NOT_SUPPORTED_BY_BACKEND",)


@router.operation(
    "GET",
    _PATH,
    Action.THROTTLE_READ,
    Effective,
    answer=ThrottleProfile,
    errors=_ERRORS,
    words=_WORDS,
)
async def get_throttle(call: OperationRequest[Effective]) -> Response:
    """Show an account's own limits of how much mail it sends or receives.

    An account without any has an empty object. With `effective=yes` each limit is shown with the
    account whose setting decides it: the user's, the domain's or the global one.
    """
    chosen = throttles.effective if call.form.effective else throttles.profile
    return responses.success(await call.read(chosen, call.target.whom, call.word("direction")))


@router.operation("POST", _PATH, Action.THROTTLE_UPDATE, ThrottleEdit, errors=_ERRORS, words=_WORDS)
async def set_throttle(call: OperationRequest[ThrottleEdit]) -> Response:
    """Set an account's limits of how much mail it sends or receives.

    The parameters replace the whole setting. A limit of -1 is inherited from the domain's setting,
    or else from the global one; 0 is unlimited, whatever those are. **Limits of a domain and
    global ones hold for each user separately**: users do not share them. What was counted so far
    still counts. `external` is mail without a login that claims to come from the
    account. The daemon does not throttle mail within a domain, nor inbound mail to several
    recipients at once.
    """
    changes = call.form.changes()
    return await call.write(throttles.update, call.target.whom, call.word("direction"), changes)


@router.operation("DELETE", _PATH, Action.THROTTLE_DELETE, NoParams, errors=_ERRORS, words=_WORDS)
async def delete_throttle(call: OperationRequest[NoParams]) -> Response:
    """Remove an account's limits, and what was counted for them."""
    return await call.write(throttles.remove, call.target.whom, call.word("direction"))
