"""Standalone admins, and the verification of their passwords."""

from __future__ import annotations

from starlette.responses import Response

from iredapi.auth import login
from iredapi.auth.permissions import Action
from iredapi.operations import admins, versions
from iredapi.schemas.admins import AdminEdit
from iredapi.schemas.canonical import CanonicalAdmin
from iredapi.schemas.logins import Verification
from iredapi.schemas.params import NoParams
from iredapi.schemas.profiles import AdminProfile, DirectoryProfile
from iredapi.schemas.views import Viewed
from iredapi.web import responses
from iredapi.web.operation_route import OperationRequest, Router
from iredapi.workflows.admins import prepare_admin_password

router = Router(tags=["Domain Admin"])


@router.operation(
    "GET",
    "/admin/{mail}",
    Action.ADMIN_READ,
    Viewed,
    answer=AdminProfile | DirectoryProfile | CanonicalAdmin,
    errors=["NO_SUCH_ACCOUNT"],
    versions=versions.ADMIN,
)
async def get_admin(call: OperationRequest[Viewed]) -> Response:
    """Show a standalone admin."""
    chosen = admins.canonical_view if call.form.is_canonical else admins.profile
    shown, state = await call.profile(chosen, call.target.mail)
    return call.tagged(responses.success(shown), state, canonical=call.form.is_canonical)


@router.operation(
    "POST",
    "/admin/{mail}",
    Action.ADMIN_CREATE,
    AdminEdit,
    errors=["ALREADY_EXISTS", "CAN_NOT_BE_LOCAL_DOMAIN", "PW_SHORTER_THAN_MIN_LENGTH"],
)
async def create_admin(call: OperationRequest[AdminEdit]) -> Response:
    """Create a standalone admin, whose address is in no hosted domain."""
    changes = call.form.changes()
    hashed = await (await call.context.admin_passwords()).prepare(changes)
    return await call.write(admins.create, call.target.mail, changes, hashed)


@router.operation(
    "PUT",
    "/admin/{mail}",
    Action.ADMIN_UPDATE,
    AdminEdit,
    errors=["NO_SUCH_ACCOUNT", "LAST_GLOBAL_ADMIN", "PW_SHORTER_THAN_MIN_LENGTH"],
    versions=versions.ADMIN,
)
async def update_admin(call: OperationRequest[AdminEdit]) -> Response:
    """Change a standalone admin: what is not sent stays as it is."""
    changes = call.form.changes()
    hashed = await prepare_admin_password(call.context, call.actor, call.target.mail, changes)
    return await call.write(admins.update, call.target.mail, changes, hashed)


@router.operation(
    "DELETE",
    "/admin/{mail}",
    Action.ADMIN_DELETE,
    NoParams,
    errors=["NO_SUCH_ACCOUNT", "LAST_GLOBAL_ADMIN"],
    versions=versions.ADMIN,
)
async def delete_admin(call: OperationRequest[NoParams]) -> Response:
    """Delete a standalone admin; the domains stay."""
    return await call.write(admins.remove, call.target.mail)


@router.operation(
    "POST",
    "/verify_password/admin/{mail}",
    Action.ADMIN_VERIFY_PASSWORD,
    Verification,
    errors=["NO_SUCH_ACCOUNT", "TOO_MANY_ATTEMPTS"],
)
async def verify_admin_password(call: OperationRequest[Verification]) -> Response:
    """Compare a plain password with an admin's.

    A wrong one is 403 `INVALID_CREDENTIALS`, and counts as a failed login of that admin.
    """
    await login.verify(
        call.context, call.actor, call.target.mail, call.form.password, of_admin=True
    )
    return call.success()
