"""Mail users, and the verification of their passwords."""

from __future__ import annotations

from starlette.responses import Response

from iredapi.auth import login
from iredapi.auth.permissions import Action
from iredapi.operations import account_lists, accounts, usage, users, users_of_domain, versions
from iredapi.operations.account_lists import USERS
from iredapi.schemas.canonical import CanonicalUser
from iredapi.schemas.domains import Keep
from iredapi.schemas.logins import Verification
from iredapi.schemas.params import NoParams
from iredapi.schemas.profiles import DirectoryProfile, UserProfile
from iredapi.schemas.users import UserDraft, UserEdit, UserFilter, UsersEdit, UserView
from iredapi.web import pages, responses
from iredapi.web.operation_route import OperationRequest, Router
from iredapi.workflows import users as workflow
from iredapi.workflows.list_membership import remove_or_rename, subscriptions_of

router = Router(tags=["Mail User"])


@router.operation(
    "GET",
    "/user/{mail}",
    Action.USER_READ,
    UserView,
    answer=UserProfile | DirectoryProfile | CanonicalUser,
    errors=["NO_SUCH_ACCOUNT"],
    versions=versions.USER,
)
async def get_user(call: OperationRequest[UserView]) -> Response:
    """Show a mail user.

    `mailing_lists` has the lists that the user is subscribed to, if a list server is configured. If
    that does not answer, `_skipped` says so, and subscriptions that only it knows are missing.
    """
    mail = call.target.mail
    if call.form.is_canonical:
        view, state = await call.profile(users.canonical_view, mail)
        if call.form.wants_usage:
            # Without an ETag: it does not tell the usage.
            return responses.success(await call.read(usage.with_user, view, mail))
        return call.tagged(responses.success(view), state, canonical=True)
    shown, state = await call.profile(users.profile, mail)
    lists, skipped = await subscriptions_of(call.context, mail)
    if lists is not None:
        shown["mailing_lists"] = sorted(lists.union(shown.get("mailing_lists", ())))
    if call.form.wants_usage:
        shown = await call.read(usage.with_user, shown, mail)
    response = responses.success(shown, skipped=[item.to_dict() for item in skipped])
    return response if call.form.wants_usage else call.tagged(response, state, canonical=False)


@router.operation(
    "POST",
    "/user/{mail}",
    Action.USER_CREATE,
    UserDraft,
    errors=["ALREADY_EXISTS", "NO_SUCH_DOMAIN", "EXCEEDED_DOMAIN_ACCOUNT_LIMIT"],
)
async def create_user(call: OperationRequest[UserDraft]) -> Response:
    """Create a mail user."""
    return call.done(
        await workflow.create_user(call.context, call.actor, call.target.mail, call.form.changes())
    )


@router.operation(
    "PUT",
    "/user/{mail}",
    Action.USER_UPDATE,
    UserEdit,
    errors=["NO_SUCH_ACCOUNT", "EXCEEDED_DOMAIN_QUOTA_SIZE", "LAST_GLOBAL_ADMIN"],
    versions=versions.USER,
)
async def update_user(call: OperationRequest[UserEdit]) -> Response:
    """Change a mail user: what is not sent stays as it is."""
    changes, mail = call.form.changes(), call.target.mail
    hashed = await workflow.prepare_user_password(call.context, call.actor, mail, changes)
    return call.done(await workflow.update_user(call.context, call.actor, mail, changes, hashed))


@router.operation(
    "DELETE",
    "/user/{mail}/keep_mailbox_days/{number}",
    Action.USER_DELETE,
    Keep,
    errors=["NO_SUCH_ACCOUNT", "LAST_GLOBAL_ADMIN", "INVALID_NUMBER"],
    versions=versions.USER,
)
@router.operation(
    "DELETE",
    "/user/{mail}",
    Action.USER_DELETE,
    Keep,
    errors=["NO_SUCH_ACCOUNT", "LAST_GLOBAL_ADMIN"],
    versions=versions.USER,
)
async def delete_user(call: OperationRequest[Keep]) -> Response:
    """Delete a mail user.

    The mailbox stays on disk: for ever, or for a number of days. Then a cron job of the mail server
    removes it.
    """
    mail = call.target.mail
    return call.done(
        await remove_or_rename(call.context, call.actor, mail, "", users.remove, mail, call.days)
    )


@router.operation(
    ["POST", "PUT"],
    "/user/{mail}/change_email/{new_mail}",
    Action.USER_RENAME,
    NoParams,
    errors=["NO_SUCH_ACCOUNT", "ALREADY_EXISTS", "CROSS_DOMAIN_NOT_ALLOWED"],
    versions=versions.USER,
)
async def rename_user(call: OperationRequest[NoParams]) -> Response:
    """Change a user's address within its domain.

    The user keeps the mailbox, memberships, rights and policies. Data outside the databases
    (Dovecot's ACL files, SOGo, Roundcube) keep the old address; so do the mailing lists that are
    listed in `_skipped`.
    """
    old, new = call.target.mail, call.target.new_mail
    return call.done(
        await remove_or_rename(call.context, call.actor, old, new, users.rename, old, new)
    )


@router.operation(
    "GET",
    "/users/{domain}",
    Action.USERS_LIST,
    UserFilter,
    answer=list[UserProfile | DirectoryProfile | CanonicalUser | str],
    errors=["NO_SUCH_DOMAIN", "INVALID_CURSOR"],
)
async def list_users(call: OperationRequest[UserFilter]) -> Response:
    """List the users of a domain, sorted by address."""
    if call.form.asks_for_more:
        name, shape = call.target.domain, call.form.shape
        return await pages.answer(call, account_lists.of_domain, USERS, name, shape)
    # The name as it is stored: accounts refer to their domain in this spelling.
    domain = (await call.read(accounts.known_domain, call.target.domain)).name
    profiles = users.canonical_views if call.form.is_canonical else users.page
    chosen = users.mails if call.form.email_only else profiles
    key = "mail" if call.form.is_canonical else "username"
    return await call.listing(chosen, key, domain, disabled_only=bool(call.form.disabled_only))


@router.operation(
    "PUT", "/users/{domain}", Action.USERS_UPDATE, UsersEdit, errors=["NO_SUCH_DOMAIN"]
)
async def update_users(call: OperationRequest[UsersEdit]) -> Response:
    """Change all users of a domain at once.

    Users whom the admin may not change are listed in `_skipped` and keep their values. The password
    is hashed once for all users.
    """
    changes, name = call.form.changes(), call.target.domain
    hashed = await workflow.prepare_password(call.context, call.actor, name, changes)
    return await call.write(users_of_domain.update_all, name, changes, hashed)


@router.operation(
    "POST",
    "/verify_password/user/{mail}",
    Action.USER_VERIFY_PASSWORD,
    Verification,
    errors=["NO_SUCH_ACCOUNT", "TOO_MANY_ATTEMPTS"],
)
async def verify_user_password(call: OperationRequest[Verification]) -> Response:
    """Compare a plain password with a user's.

    A wrong one is 403 `INVALID_CREDENTIALS`, and counts as a failed login of that user.
    """
    await login.verify(
        call.context, call.actor, call.target.mail, call.form.password, of_admin=False
    )
    return call.success()
