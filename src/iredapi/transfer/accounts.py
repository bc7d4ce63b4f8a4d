"""Lines about one account: only what is different is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from iredapi.auth import permissions
from iredapi.auth.permissions import Action, Target
from iredapi.backends.unit_of_work import STRICT, refuse_unless_exact
from iredapi.domain import addresses
from iredapi.domain.account_records import (
    FORMATS,
    RIGHTS,
    WRITTEN_AS,
    RecordType,
    parameters,
)
from iredapi.domain.addresses import Name
from iredapi.domain.slapd_passwords import is_same_hash
from iredapi.errors import (
    ApiError,
    Conflict,
    InvalidParameters,
    NotFound,
    NotSupported,
    problem,
)
from iredapi.runtime.transactions import WriteResult
from iredapi.schemas.params import Params
from iredapi.transfer.kinds import (
    KINDS,
    Caller,
    Found,
    Kind,
    Values,
    change_rights,
    rights_of,
    words_of,
)
from iredapi.transfer.lines import Entry
from iredapi.transfer.outcomes import OnExisting, Outcome, Word, failed, notes, written

_TOGETHER: Final = (
    frozenset({"transport", "is_backupmx", "primarymx"}),
    frozenset({"maxQuota", "quotaUnit"}),
    frozenset({"accessPolicy", "only_subscriber_can_post", "only_moderator_can_post"}),
    frozenset({"accessPolicy", "extra_addresses", "open_extra_addresses"}),
    frozenset({"moderate_subscription", "subscription_moderators"}),
    frozenset({"footer_text", "footer_html"}),
)
"""Parameters of which one decides on another: all of them are sent, or none."""
_FOLDED: Final = frozenset(
    {"forwarding", "aliases", "members", "moderators", "catchall", "aliasDomains", "owner"}
    | {"extra_addresses", "subscription_moderators", RIGHTS, "senders", "addresses"}
)
"""Keys of addresses and domains, which have no case."""


def is_same(key: str, value: Any, shown: Any) -> bool:
    """Tell whether a record has the value that an account has."""
    if isinstance(shown, list):
        items = words_of(value) if key == RIGHTS else value
        items = items if isinstance(items, list) else str(items).split(",")
        texts = [str(item).strip() for item in items]
        if key in _FOLDED:
            return {text.lower() for text in texts if text} == {item.lower() for item in shown}
        return sorted(text for text in texts if text) == sorted(map(str, shown))
    if isinstance(value, bool):
        return bool(shown == ("yes" if value else "no"))
    if isinstance(shown, int | float) and not isinstance(value, list | dict):
        try:
            return float(value) == float(shown)
        except ValueError:
            return False
    return shown is not None and str(value) == str(shown)


def differences(values: Mapping[str, Any], found: Found) -> Values:
    """Return the values that the account does not have; null says nothing."""
    different = {
        key
        for key, value in values.items()
        if value is not None
        and not (
            value == found.password or is_same_hash(str(value), found.password)
            if key == "password_hash"
            else key in found.view and is_same(key, value, found.view[key])
        )
    }
    for group in _TOGETHER:
        if different & group:
            different |= group & values.keys()
    return {key: values[key] for key in values if key in different}


def parsed(
    caller: Caller, record_type: RecordType, form: type[Params], action: Action, values: Values
) -> tuple[Values, list[str]]:
    """Return the fields of a form, and the keys that it does not know. Raises ApiError."""
    derived = FORMATS[record_type].derived
    for key in values.keys() - derived:
        _check_readable(key, values[key])
    ignored = sorted(derived & values.keys())
    raw = parameters(record_type, {k: v for k, v in values.items() if k not in derived})
    ignored += form.ignored(raw)
    if ignored and STRICT.get():
        refuse_unless_exact(ignored, ())
    changes = form.read(raw).changes()
    permissions.check_form(caller.actor, action, changes)
    return changes, ignored


def _check_readable(key: str, value: Any) -> None:
    """Raise InvalidParameters for a value that no parameter takes."""
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, dict | list) for item in items):
        raise problem(key, "INVALID_VALUE", "An object or a list of lists is no value.")


def split(entry: Entry, record_type: RecordType) -> tuple[str, Values]:
    """Return the name of an account and the other values of a line. Raises InvalidParameters."""
    values = dict(entry.record)
    values.pop("type", None)
    key = FORMATS[record_type].names[0]
    name = values.pop(key, None)
    if not isinstance(name, str) or not name.strip():
        raise problem(key, "REQUIRED", "The line does not say what it is about.")
    return name, values


def new_name(record_type: RecordType, text: str) -> str:
    """Parse the name of a new account. Raises InvalidParameters."""
    of_domain = record_type is RecordType.DOMAIN
    try:
        return addresses.domain_name(text) if of_domain else addresses.new_account(text)
    except addresses.InvalidAddress as error:
        code = "INVALID_DOMAIN_NAME" if of_domain else "INVALID_MAIL"
        raise problem(FORMATS[record_type].names[0], code, str(error)) from None


def can_be_stored(name: str) -> bool:
    """Tell whether a storage can be asked for a name: PostgreSQL refuses the whole question."""
    return "\0" not in name


def target_of(record_type: RecordType, text: str) -> Target:
    """Return the target of a line about an account. Raises InvalidParameters."""
    if not can_be_stored(text):
        new_name(record_type, text)
    if record_type is RecordType.DOMAIN:
        return Target(domain=Name.of(text, addresses.existing_domain))
    return Target(mail=Name.of(text, addresses.existing_mail))


async def account(
    caller: Caller, entry: Entry, record_type: RecordType, found: Found | None = None
) -> Outcome:
    """Carry out a line about an account. Raises ApiError with keys of the file.

    ``found``: the account, if it was read already.
    """
    kind = KINDS[record_type]
    text, values = split(entry, record_type)
    if kind.feature is not None and kind.feature not in caller.context.backend.features:
        raise NotSupported(detail=f"The storage of this server has no {kind.feature}.")
    target = target_of(record_type, text)
    if not caller.permits(kind.update, target):
        found = None
    elif found is None:
        try:
            found = await kind.look(caller, target.domain or target.mail)
        except NotFound:
            found = None
    if found is None:
        permissions.check(caller.actor, kind.create, target)
        return await creation(caller, entry, record_type, new_name(record_type, text), values)
    name = target.domain or target.mail
    return await revision(caller, entry, record_type, name, values, found)


async def creation(
    caller: Caller, entry: Entry, record_type: RecordType, name: str, values: Values
) -> Outcome:
    """Create an account. Raises ApiError."""
    kind = KINDS[record_type]
    rights = rights_of(values.pop(RIGHTS, None) or [])
    changes, ignored = parsed(caller, record_type, kind.draft, kind.create, values)
    try:
        done = await caller.carried_out(kind.make(caller, name, changes, rights))
    except ApiError as error:
        if caller.would_exist(error, addresses.domain_of(name)):
            return unchecked(entry)
        return failed(entry, error, kind.draft)
    caller.note_planned(name)
    return written(entry, done, kind.draft, ignored)


def unchecked(entry: Entry) -> Outcome:
    """Return the result of a line that a dry run cannot check further."""
    detail = "Not checked further: an earlier line would create what it belongs to."
    return Outcome(entry, Word.DONE, {"detail": detail})


async def revision(
    caller: Caller,
    entry: Entry,
    record_type: RecordType,
    name: str,
    values: Values,
    found: Found,
) -> Outcome:
    """Change an account that is there, if anything is different. Raises ApiError."""
    kind = KINDS[record_type]
    different = differences(_current_names(kind.edit, values), _as_seen(caller, found))
    if caller.on_existing is not OnExisting.UPDATE:
        # Comparing plain passwords is slow work; without an update it decides nothing.
        different.pop("password", None)
    ignored = sorted({*FORMATS[record_type].derived & different.keys(), *_unknown(kind, different)})
    different = {key: value for key, value in different.items() if key not in ignored}
    if ignored and STRICT.get():
        refuse_unless_exact(ignored, ())
    if not different:
        return Outcome(entry, Word.UNCHANGED, notes(None, ignored))
    if caller.on_existing is not OnExisting.UPDATE:
        return other_values(caller, entry, different)
    present = frozenset(_as_seen(caller, found).view.get(RIGHTS, ()))
    wanted = rights_of(different.pop(RIGHTS)) if RIGHTS in different else present
    done = WriteResult(changed=())
    if different:
        steps = _steps(record_type, different, found)
        for step in steps:
            changes, unknown = parsed(caller, record_type, kind.edit, kind.update, step)
            ignored += unknown
            try:
                made = await caller.carried_out(kind.change(caller, name, changes))
            except ApiError as error:
                return failed(entry, error, kind.edit)
            done = _both(done, made)
    if await change_rights(caller, name, wanted, present):
        done = _both(done, WriteResult(changed=("admins",)))
    return written(entry, done, kind.edit, ignored)


def _current_names(form: type[Params], values: Values) -> Values:
    """Return values under the names that the view has, too."""
    renamed = {form.legacy.get(key, key): value for key, value in values.items()}
    return {key: values.get(key, value) for key, value in renamed.items()}


def _unknown(kind: Kind, different: Values) -> set[str]:
    """Return the keys that neither the view nor the operation knows."""
    known = {"password", "password_hash", *WRITTEN_AS.values(), RIGHTS}
    return {*kind.edit.ignored(dict.fromkeys(different.keys() - known, ""))}


def _as_seen(caller: Caller, found: Found) -> Found:
    """Return an account with those rights only that the admin may see, give and take."""
    rights = found.view.get(RIGHTS)
    if caller.actor.is_global or not rights:
        return found
    own = [name for name in rights if caller.actor.manages(name)]
    return Found({**found.view, RIGHTS: own}, found.password)


def other_values(caller: Caller, entry: Entry, different: Iterable[str]) -> Outcome:
    """Return the result of a line about something that is there with other values."""
    names = sorted(different)
    if caller.on_existing is OnExisting.FAIL:
        error = Conflict("ALREADY_EXISTS", f"It has other values of {', '.join(names)}.")
        return failed(entry, error)
    return Outcome(entry, Word.SKIPPED, {"code": "ALREADY_EXISTS", "different": names})


def _steps(record_type: RecordType, different: Values, found: Found) -> list[Values]:
    """Return the changes, one after the other: a backup MX must end before it gets a transport."""
    ends = (
        record_type is RecordType.DOMAIN
        and found.view.get("is_backupmx") == "yes"
        and different.get("is_backupmx") in ("no", False)
    )
    return [{"is_backupmx": "no"}, different] if ends else [different]


def _both(first: WriteResult, second: WriteResult) -> WriteResult:
    changed = (*(first.changed or ()), *(second.changed or ()))
    return WriteResult(
        (*first.skipped, *second.skipped),
        None if second.changed is None else changed,
        (*first.ignored, *second.ignored),
        (*first.adjusted, *second.adjusted),
    )


def refused(entry: Entry, error: ApiError, record_type: RecordType | None) -> Outcome:
    """Return the result of a line that was refused before anything was written."""
    kind = KINDS.get(record_type) if record_type is not None else None
    form = kind.draft if kind is not None and isinstance(error, InvalidParameters) else None
    return failed(entry, error, form)
