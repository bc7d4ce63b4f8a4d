"""Logging in and out."""

from __future__ import annotations

from starlette.responses import Response

from iredapi.auth import login as login_service
from iredapi.auth.permissions import Action
from iredapi.schemas.logins import Login
from iredapi.schemas.params import NoParams
from iredapi.web.operation_route import OperationRequest, Router

router = Router(tags=["Login"])


@router.operation(
    "POST",
    "/login",
    Action.LOGIN,
    Login,
    errors=["INVALID_CREDENTIALS", "INVALID_USERNAME", "NOT_ALLOWED_IP", "TOO_MANY_ATTEMPTS"],
)
async def login(call: OperationRequest[Login]) -> Response:
    """Log in with an admin's address and password.

    The answer sets a session cookie that all further requests must carry. The session ends after
    30 minutes without a request, after 12 hours, and when the password or the admin's rights
    change.
    """
    session_id = await login_service.login(
        call.context, call.form.username, call.form.password, call.client
    )
    answer = call.success()
    answer.set_cookie(
        call.context.settings.session_cookie,
        session_id,
        path="/",
        httponly=True,
        samesite="strict",
        secure=bool(call.request.scope["iredapi.https"]),
    )
    return answer


@router.operation("POST", "/logout", Action.LOGOUT, NoParams)
async def logout(call: OperationRequest[NoParams]) -> Response:
    """End the session: on this replica at once, on others within a second."""
    session_id = call.request.scope.get("iredapi.session")
    if session_id:
        await login_service.logout(call.context, session_id)
    answer = call.success()
    answer.delete_cookie(call.context.settings.session_cookie, path="/")
    return answer
