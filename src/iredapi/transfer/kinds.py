"""How accounts of each type are looked up, created and changed: as by single calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from iredapi.auth import permissions
from iredapi.auth.permissions import Action, Target
from iredapi.backends.unit_of_work import ReadUnit, UnitOfWork
from iredapi.domain import addresses, canonical, exported_records
from iredapi.domain.account_records import RIGHTS, RecordType
from iredapi.domain.actors import Actor
from iredapi.domain.features import Feature
from iredapi.domain.users import User
from iredapi.errors import (
    ApiError,
    NotFound,
    PermissionDenied,
    problem,
)
from iredapi.operations import accounts, admins, aliases, domains, maillists
from iredapi.operations.passwords import stored_for_admin
from iredapi.runtime.context import AppContext
from iredapi.runtime.dry_run import DRY_RUN, DryRun
from iredapi.runtime.transactions import WriteResult
from iredapi.schemas import fields
from iredapi.schemas.admins import AdminEdit
from iredapi.schemas.aliases import AliasDraft, AliasEdit
from iredapi.schemas.domains import DomainDraft, DomainEdit
from iredapi.schemas.lists import ListDraft, ListEdit
from iredapi.schemas.maillists import MailListDraft, MailListEdit
from iredapi.schemas.params import Params, param
from iredapi.schemas.users import UserDraft, UserEdit
from iredapi.transfer.outcomes import OnExisting
from iredapi.workflows import mailing_lists
from iredapi.workflows import users as user_workflow
from iredapi.workflows.admins import prepare_admin_password

_MOST_PLANNED: Final = 50_000
"""Maximum number of new names that a dry run keeps."""
Values = dict[str, Any]


@dataclass(slots=True)
class Caller:
    """Who imports, and how."""

    context: AppContext
    actor: Actor
    on_existing: OnExisting = OnExisting.SKIP
    dry_run: bool = False
    planned: set[str] = field(default_factory=set)
    """Accounts and domains that a dry run would have created."""

    def permits(self, action: Action, target: Target) -> bool:
        """Tell whether the admin may do something."""
        try:
            permissions.check(self.actor, action, target)
        except PermissionDenied:
            return False
        return True

    def note_planned(self, name: str) -> None:
        """Keep the name of an account or domain that would be new."""
        if self.dry_run and len(self.planned) < _MOST_PLANNED:
            self.planned.add(name)

    def would_exist(self, error: ApiError, *names: str) -> bool:
        """Tell whether what is missing would have been made by an earlier line."""
        missing = isinstance(error, NotFound) and self.dry_run
        return missing and not self.planned.isdisjoint(names)

    async def carried_out(self, work: Awaitable[WriteResult]) -> WriteResult:
        """Carry out a write, or rehearse it in a dry run."""
        if not self.dry_run:
            return await work
        token = DRY_RUN.set(DryRun())
        try:
            return await work
        finally:
            DRY_RUN.reset(token)


class AdminRecord(AdminEdit):
    """A standalone admin of a file, whose password may be hashed already."""

    conflicts = (("password", "password_hash"),)

    password_hash: fields.PasswordHash = param("A hash with its scheme.", alias="password_hash")


@dataclass(frozen=True, slots=True)
class Found:
    """An account that is there: its canonical view, and the hash of its password."""

    view: Mapping[str, Any]
    password: str = ""


Look = Callable[[Caller, str], Awaitable[Found]]
Make = Callable[[Caller, str, Values, frozenset[str]], Awaitable[WriteResult]]
Change = Callable[[Caller, str, Values], Awaitable[WriteResult]]


@dataclass(frozen=True, slots=True)
class Kind:
    """How accounts of a type are looked up, created and changed."""

    create: Action
    update: Action
    draft: type[Params]
    edit: type[Params]
    look: Look
    """Raises NotFound."""
    make: Make
    change: Change
    feature: Feature | None = None


# -- standalone admins, aliases, domains, lists ----------------------------------------------------


async def _domain(caller: Caller, name: str) -> Found:
    return Found(await caller.context.read(caller.actor, domains.canonical_view, name))


async def known_domains(caller: Caller, names: Sequence[str]) -> dict[str, Found]:
    """Return those of some domains that are there; their admins are not compared."""

    async def views(unit: ReadUnit) -> dict[str, Found]:
        records = await unit.domains.records_of(names)
        return {name: Found(canonical.domain(item, ())) for name, item in records.items()}

    return await caller.context.read(caller.actor, views)


async def _new_domain(
    caller: Caller, name: str, changes: Values, _rights: frozenset[str]
) -> WriteResult:
    return await caller.context.write(caller.actor, domains.create, name, changes)


async def _changed_domain(caller: Caller, name: str, changes: Values) -> WriteResult:
    return await caller.context.write(caller.actor, domains.update, name, changes)


async def _admin(caller: Caller, mail: str) -> Found:
    async def both(unit: ReadUnit) -> Found:
        return Found(await admins.canonical_view(unit, mail), await stored_for_admin(unit, mail))

    return await caller.context.read(caller.actor, both)


async def _new_admin(
    caller: Caller, mail: str, changes: Values, rights: frozenset[str]
) -> WriteResult:
    hashed = await (await caller.context.admin_passwords()).prepare(changes)

    async def create(unit: UnitOfWork) -> None:
        await admins.create(unit, mail, changes, hashed)

    return await with_rights(caller, create, mail, rights)


async def _changed_admin(caller: Caller, mail: str, changes: Values) -> WriteResult:
    hashed = await prepare_admin_password(caller.context, caller.actor, mail, changes)
    return await caller.context.write(caller.actor, admins.update, mail, changes, hashed)


async def _alias(caller: Caller, mail: str) -> Found:
    async def view(unit: ReadUnit) -> Found:
        found = await unit.aliases.get(mail)
        if found is None:
            raise NotFound("NO_SUCH_ACCOUNT")
        return Found(exported_records.alias_view(found, unit.features))

    return await caller.context.read(caller.actor, view)


async def _new_alias(
    caller: Caller, mail: str, changes: Values, _rights: frozenset[str]
) -> WriteResult:
    return await caller.context.write(caller.actor, aliases.create, mail, changes)


async def _changed_alias(caller: Caller, mail: str, changes: Values) -> WriteResult:
    return await caller.context.write(caller.actor, aliases.update, mail, changes)


async def _maillist(caller: Caller, mail: str) -> Found:
    return Found(await caller.context.read(caller.actor, maillists.canonical_view, mail))


async def _new_maillist(
    caller: Caller, mail: str, changes: Values, _rights: frozenset[str]
) -> WriteResult:
    return await caller.context.write(caller.actor, maillists.create, mail, changes)


async def _changed_maillist(caller: Caller, mail: str, changes: Values) -> WriteResult:
    return await caller.context.write(caller.actor, maillists.update, mail, changes)


async def _list(caller: Caller, mail: str) -> Found:
    view, _ = await mailing_lists.read(
        caller.context, caller.actor, mail, with_subscribers=False, as_canonical=True
    )
    return Found(view)


async def _new_list(
    caller: Caller, mail: str, changes: Values, _rights: frozenset[str]
) -> WriteResult:
    return await mailing_lists.create(caller.context, caller.actor, mail, changes)


async def _changed_list(caller: Caller, mail: str, changes: Values) -> WriteResult:
    return await mailing_lists.update(caller.context, caller.actor, mail, changes)


# -- users -----------------------------------------------------------------------------------------


async def _user(caller: Caller, mail: str) -> Found:
    async def both(unit: ReadUnit) -> Found:
        user = await unit.users.get(mail)
        if user is None:
            raise NotFound("NO_SUCH_ACCOUNT")
        return await found_user(unit, user)

    return await caller.context.read(caller.actor, both)


async def found_user(unit: ReadUnit, user: User) -> Found:
    """Return what the lines about a user are compared with."""
    domain = await unit.domains.get(addresses.domain_of(user.mail))
    names = domain.names if domain else ()
    return Found(exported_records.user_view(user, names, unit.features), user.password)


async def new_user(
    caller: Caller, mail: str, changes: Values, rights: frozenset[str]
) -> WriteResult:
    """Create a user alone, as a single call does."""
    if not rights:
        return await user_workflow.create_user(caller.context, caller.actor, mail, changes)
    create = await user_workflow.creation(caller.context, caller.actor, mail, changes)
    done = await with_rights(caller, create, mail, rights)
    return await user_workflow.joined(caller.context, caller.actor, mail, done)


async def _changed_user(caller: Caller, mail: str, changes: Values) -> WriteResult:
    context, actor = caller.context, caller.actor
    hashed = await user_workflow.prepare_user_password(context, actor, mail, changes)
    return await user_workflow.update_user(context, actor, mail, changes, hashed)


KINDS: Final[Mapping[RecordType, Kind]] = {
    RecordType.DOMAIN: Kind(
        Action.DOMAIN_CREATE, Action.DOMAIN_UPDATE, DomainDraft, DomainEdit,
        _domain, _new_domain, _changed_domain,
    ),
    RecordType.ADMIN: Kind(
        Action.ADMIN_CREATE, Action.ADMIN_UPDATE, AdminRecord, AdminRecord,
        _admin, _new_admin, _changed_admin,
    ),
    RecordType.USER: Kind(
        Action.USER_CREATE, Action.USER_UPDATE, UserDraft, UserEdit,
        _user, new_user, _changed_user,
    ),
    RecordType.ALIAS: Kind(
        Action.ALIAS_CREATE, Action.ALIAS_UPDATE, AliasDraft, AliasEdit,
        _alias, _new_alias, _changed_alias,
    ),
    RecordType.ML: Kind(
        Action.ML_CREATE, Action.ML_UPDATE, ListDraft, ListEdit,
        _list, _new_list, _changed_list,
    ),
    RecordType.MAILLIST: Kind(
        Action.MAILLIST_CREATE, Action.MAILLIST_UPDATE, MailListDraft, MailListEdit,
        _maillist, _new_maillist, _changed_maillist, Feature.MAILLIST,
    ),
}  # fmt: skip


# -- rights ----------------------------------------------------------------------------------------


def rights_of(value: Any) -> frozenset[str]:
    """Return the domains of a record's rights. Raises InvalidParameters."""
    try:
        return frozenset(addresses.existing_domain(word) for word in words_of(value))
    except addresses.InvalidAddress as error:
        raise problem(RIGHTS, "INVALID_DOMAIN_NAME", str(error)) from None


def words_of(value: Any) -> list[str]:
    """Return the texts of a list, or of a text with commas or blanks."""
    if isinstance(value, list):
        return [str(item) for item in value]
    return str(value).replace(",", " ").split()


def _check_rights(caller: Caller, names: Iterable[str], mail: str) -> None:
    for name in names:
        permissions.check(caller.actor, Action.DOMAIN_ADMINS, Target(domain=name))
        permissions.check_form(caller.actor, Action.DOMAIN_ADMINS, {"add_admin": (mail,)})


async def _require_domains(unit: ReadUnit, names: Sequence[str]) -> None:
    for name in names:
        await accounts.get_domain(unit, name)


async def with_rights(
    caller: Caller,
    create: Callable[[UnitOfWork], Awaitable[None]],
    mail: str,
    rights: frozenset[str],
) -> WriteResult:
    """Create an admin and give it its domains: in one transaction, where that is possible."""
    context, actor, names = caller.context, caller.actor, sorted(rights)
    _check_rights(caller, names, mail)
    names = [name for name in names if name not in caller.planned]
    together = context.backend.sees_own_writes
    if not together:
        # The account must not be there when its rights are refused.
        await context.read(actor, _require_domains, names)

    async def both(unit: UnitOfWork) -> None:
        await create(unit)
        for name in names if together else ():
            await domains.change_admins(unit, name, {"add_admin": (mail,)})
        unit.affected_account = mail if not names else ""

    done = await context.write(actor, both)
    if not together and not caller.dry_run:
        for name in names:
            await context.write(actor, domains.change_admins, name, {"add_admin": (mail,)})
    return WriteResult(done.skipped, None, done.ignored, done.adjusted)


async def change_rights(
    caller: Caller, mail: str, wanted: frozenset[str], present: frozenset[str]
) -> bool:
    """Give and take domains; return whether there was anything to do."""
    coming, going = sorted(wanted - present), sorted(present - wanted)
    _check_rights(caller, (*coming, *going), mail)
    for names, name_of in ((coming, "add_admin"), (going, "remove_admin")):
        for name in names:
            if name in caller.planned:
                continue
            change = caller.context.write(
                caller.actor, domains.change_admins, name, {name_of: (mail,)}
            )
            await caller.carried_out(change)
    return bool(coming or going)
