"""Spam policies."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final, TypeVar

from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.operations import spam
from iredapi.schemas.params import NoParams, Params
from iredapi.schemas.policies import Effective
from iredapi.schemas.spam import SpamPolicyEdit, SpamPolicyProfile
from iredapi.web import responses
from iredapi.web.operation_route import Handler, OperationRequest, Router

router = Router(tags=["Spam Policy"])
_PATHS: Final = MappingProxyType(
    {
        "/spampolicy/global": (),
        "/spampolicy/domain/{domain}": ("NO_SUCH_DOMAIN",),
        "/spampolicy/user/{mail}": ("NO_SUCH_DOMAIN", "NO_SUCH_ACCOUNT"),
    }
)
Form = TypeVar("Form", bound=Params)


def _of_each_scope(
    method: str, action: Action, form: type[Form], *, answer: Any = None
) -> Callable[[Handler[Form]], Handler[Form]]:
    def declare(handler: Handler[Form]) -> Handler[Form]:
        for path, errors in _PATHS.items():
            codes = (*errors, "NOT_SUPPORTED_BY_BACKEND")
            router.operation(method, path, action, form, answer=answer, errors=codes)(handler)
        return handler

    return declare


@_of_each_scope("GET", Action.SPAMPOLICY_READ, Effective, answer=SpamPolicyProfile)
async def get_spam_policy(call: OperationRequest[Effective]) -> Response:
    """Show the spam policy of an account, or (`effective=yes`) the values that apply to it.

    Without a policy the answer is empty. A field that is `null` is inherited. Each field comes from
    the user's policy, or else from the domain's, or else from the global one.
    """
    chosen = spam.effective if call.form.effective else spam.profile
    return responses.success(await call.read(chosen, call.target.whom))


@_of_each_scope("PUT", Action.SPAMPOLICY_UPDATE, SpamPolicyEdit)
async def update_spam_policy(call: OperationRequest[SpamPolicyEdit]) -> Response:
    """Change a spam policy, or create one: what is not sent stays as it is, or inherited.

    A new policy has only the fields that were sent: default values would hide those of the domain's
    and the global policy. Mail with an address extension (`user+x@example.com`) gets the
    domain's policy on a stock server.
    """
    return await call.write(spam.update, call.target.whom, call.form.changes())


@_of_each_scope("DELETE", Action.SPAMPOLICY_DELETE, NoParams)
async def delete_spam_policy(call: OperationRequest[NoParams]) -> Response:
    """Delete a spam policy: everything is inherited again. White- and blacklists stay.

    Without a global policy Amavisd's configuration file decides: that of iRedMail puts spam, and
    mail with bad headers, into quarantine and does not deliver it. A global policy that is created
    again begins with the values of a new server.
    """
    return await call.write(spam.remove, call.target.whom)
