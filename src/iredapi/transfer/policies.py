"""Lines about policies, and about subscribers of mailing lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from iredapi.auth import permissions
from iredapi.auth.permissions import Action, Target
from iredapi.backends.unit_of_work import STRICT, ReadUnit, UnitOfWork, refuse_unless_exact
from iredapi.domain import addresses, scopes, throttles, wblists
from iredapi.domain.account_records import FORMATS, RecordType
from iredapi.domain.scopes import Scope
from iredapi.errors import ApiError, problem
from iredapi.operations import greylists as greylist_operations
from iredapi.operations import spam as spam_operations
from iredapi.operations import throttles as throttle_operations
from iredapi.operations import wblists as wblist_operations
from iredapi.runtime.transactions import WriteResult
from iredapi.schemas import fields
from iredapi.schemas.lists import ListEdit
from iredapi.schemas.params import Params, param
from iredapi.schemas.spam import SpamPolicyEdit
from iredapi.schemas.throttles import ThrottleEdit
from iredapi.schemas.wblists import WblistEdit
from iredapi.transfer.accounts import (
    can_be_stored,
    differences,
    other_values,
    parsed,
    unchecked,
)
from iredapi.transfer.kinds import Caller, Found, Values
from iredapi.transfer.lines import Entry
from iredapi.transfer.outcomes import OnExisting, Outcome, Word, failed, notes, written
from iredapi.workflows import mailing_lists
from iredapi.workflows.mailing_list_steps import reachable, require_list_server

_MOST_SENDERS: Final = 10_000


class GreylistingRecord(Params):
    """Greylisting of one account in a file."""

    status: fields.Switch = param("Whether mail is greylisted.", "enable")
    senders: fields.GreylistingSenders = param("The whole whitelist.", "@example.com")


@dataclass(frozen=True, slots=True)
class _Policy:
    """A line about a policy."""

    caller: Caller
    entry: Entry
    scope: Scope
    values: Values

    def word(self, key: str, allowed: type[Any]) -> str:
        """Take a value that names the policy. Raises InvalidParameters."""
        value = self.values.pop(key, None)
        words = [item.value for item in allowed]
        if value not in words:
            raise problem(key, "INVALID_VALUE", f"One of {', '.join(words)} is expected.")
        return str(value)


async def policy(caller: Caller, entry: Entry, record_type: RecordType) -> Outcome:
    """Carry out a line about a policy. Raises ApiError with keys of the file."""
    values = dict(entry.record)
    values.pop("type", None)
    text = values.pop("account", None)
    if not isinstance(text, str) or not text.strip():
        raise problem("account", "REQUIRED", "The line does not say what it is about.")
    try:
        scope = scopes.scope(text)
    except addresses.InvalidAddress as error:
        code = "INVALID_MAIL" if "@" in text else "INVALID_DOMAIN_NAME"
        raise problem("account", code, str(error)) from None
    action, form = _ACTIONS[record_type]
    permissions.check(caller.actor, action, Target(scope=scope))
    line = _Policy(caller, entry, scope, values)
    try:
        return await _WORK[record_type](line)
    except ApiError as error:
        if caller.would_exist(error, scope.domain, scope.account):
            return unchecked(entry)
        return failed(entry, error, form)


def _decided(line: _Policy, view: Mapping[str, Any]) -> Outcome | None:
    """Return the result of a line whose policy need not, or must not, be changed."""
    if not view:
        return None
    different = differences(line.values, Found(view))
    if not different:
        return Outcome(line.entry, Word.UNCHANGED)
    if line.caller.on_existing is OnExisting.UPDATE:
        return None
    return other_values(line.caller, line.entry, different)


async def _throttle(line: _Policy) -> Outcome:
    caller, context, scope = line.caller, line.caller.context, line.scope
    direction = line.word("direction", throttles.Direction)
    changes, ignored = parsed(
        caller, RecordType.THROTTLE, ThrottleEdit, Action.THROTTLE_UPDATE, line.values
    )
    if caller.on_existing is not OnExisting.UPDATE:
        view = await context.read(caller.actor, throttle_operations.profile, scope, direction)
        if decided := _decided(line, view):
            return decided
    done = await caller.carried_out(
        context.write(caller.actor, throttle_operations.update, scope, direction, changes)
    )
    return written(line.entry, done, ThrottleEdit, ignored)


async def _spam(line: _Policy) -> Outcome:
    caller, context, scope = line.caller, line.caller.context, line.scope
    view = await context.read(caller.actor, spam_operations.profile, scope)
    if decided := _decided(line, view):
        return decided
    changes, ignored = parsed(
        caller, RecordType.SPAMPOLICY, SpamPolicyEdit, Action.SPAMPOLICY_UPDATE, line.values
    )
    done = await caller.carried_out(
        context.write(caller.actor, spam_operations.update, scope, changes)
    )
    return written(line.entry, done, SpamPolicyEdit, ignored)


async def _greylisting(line: _Policy) -> Outcome:
    caller, context, scope = line.caller, line.caller.context, line.scope

    async def both(unit: ReadUnit) -> dict[str, Any]:
        own = await greylist_operations.profile(unit, scope)
        senders = await greylist_operations.senders(unit, scope, "", _MOST_SENDERS)
        return {"status": own["status"], "senders": senders}

    changes, ignored = parsed(
        caller, RecordType.GREYLISTING, GreylistingRecord, Action.GREYLISTING_UPDATE, line.values
    )
    view = await context.read(caller.actor, both)
    is_there = view["status"] != "inherit" or view["senders"]
    if decided := _decided(line, view if is_there else {}):
        return decided

    async def write(unit: UnitOfWork) -> None:
        if "status" in changes:
            await greylist_operations.update(unit, scope, {"status": changes["status"]})
        if "senders" in changes:
            only = {"senders": changes["senders"]}
            await greylist_operations.change_senders(unit, scope, only)

    done = await caller.carried_out(context.write(caller.actor, write))
    return written(line.entry, done, GreylistingRecord, ignored)


async def _wblist(line: _Policy) -> Outcome:
    caller, context, scope = line.caller, line.caller.context, line.scope
    direction = wblists.Direction(line.word("direction", wblists.Direction))
    kind = wblists.Kind(line.word("kind", wblists.Kind))
    changes, ignored = parsed(caller, RecordType.WBLIST, WblistEdit, Action.WBLIST_ADD, line.values)
    listed = changes.get("addresses", wblists.AddressList())
    done = await caller.carried_out(
        context.write(caller.actor, wblist_operations.add, scope, direction, kind, listed)
    )
    return written(line.entry, done, WblistEdit, ignored)


_ACTIONS: Final[Mapping[RecordType, tuple[Action, type[Params]]]] = {
    RecordType.THROTTLE: (Action.THROTTLE_UPDATE, ThrottleEdit),
    RecordType.GREYLISTING: (Action.GREYLISTING_UPDATE, GreylistingRecord),
    RecordType.WBLIST: (Action.WBLIST_ADD, WblistEdit),
    RecordType.SPAMPOLICY: (Action.SPAMPOLICY_UPDATE, SpamPolicyEdit),
}
_WORK: Final = {
    RecordType.THROTTLE: _throttle,
    RecordType.GREYLISTING: _greylisting,
    RecordType.WBLIST: _wblist,
    RecordType.SPAMPOLICY: _spam,
}


# -- subscribers of a mailing list -----------------------------------------------------------------


def group_of(entry: Entry) -> tuple[str, str]:
    """Return what consecutive lines about subscribers have in common: the list, and the kind."""
    record = entry.record
    kind = record.get("subscription")
    kind = "normal" if kind is None else str(kind).strip().lower()
    return str(record.get("list", "")).strip().lower(), kind


async def memberships(caller: Caller, entries: Sequence[Entry]) -> list[Outcome]:
    """Subscribe people to one list, all in the same way. Raises ApiError of the list."""
    (name, subscription) = group_of(entries[0])
    if not name:
        raise problem("list", "REQUIRED", "The line does not say which list.")
    if not can_be_stored(name):
        raise problem("list", "INVALID_MAIL", "not an e-mail address such as user@example.com")
    target = Target(mail=addresses.Name.of(name, addresses.existing_mail))
    permissions.check(caller.actor, Action.ML_UPDATE, target)
    server = require_list_server(caller.context)
    results: dict[int, Outcome] = {}
    wanted: dict[int, str] = {}
    for at, entry in enumerate(entries):
        try:
            if STRICT.get():
                refuse_unless_exact(_unknown(entry), ())
            wanted[at] = _subscriber(entry, subscription)
        except ApiError as error:
            results[at] = failed(entry, error, ListEdit)
    mails = tuple(dict.fromkeys(wanted.values()))
    present = {}
    if mails and reachable(server, name) and name not in caller.planned:
        present = await server.subscriptions(name, mails)
    new = []
    for at, mail in wanted.items():
        kind = present.get(mail)
        if kind == subscription:
            results[at] = Outcome(entries[at], Word.UNCHANGED, notes(None, _unknown(entries[at])))
        elif kind is not None and caller.on_existing is not OnExisting.UPDATE:
            results[at] = other_values(caller, entries[at], ["subscription"])
        else:
            new.append(at)
    if new:
        changes = {
            "add_subscribers": tuple(dict.fromkeys(wanted[at] for at in new)),
            "subscription": subscription,
            "require_confirm": False,
        }
        results |= await _subscribed(caller, name, changes, {at: entries[at] for at in new})
    return [results[at] for at in range(len(entries))]


async def _subscribed(
    caller: Caller, name: str, changes: Values, entries: Mapping[int, Entry]
) -> dict[int, Outcome]:
    try:
        done = await caller.carried_out(
            mailing_lists.update(caller.context, caller.actor, name, changes)
        )
    except ApiError as error:
        if caller.would_exist(error, name):
            return {at: unchecked(entry) for at, entry in entries.items()}
        return {at: failed(entry, error, ListEdit) for at, entry in entries.items()}
    found = {}
    for at, entry in entries.items():
        mail = str(entry.record.get("mail", "")).strip().lower()
        why = [item for item in done.skipped if item["value"] == mail]
        if why:
            refusal = problem("mail", _known(why[0]["reason"]), "The list server does not take it.")
            found[at] = failed(entry, refusal)
        else:
            found[at] = written(entry, WriteResult(), ListEdit, _unknown(entry))
    return found


def _unknown(entry: Entry) -> list[str]:
    """Return the keys that a line about a subscriber does not have."""
    form = FORMATS[RecordType.MEMBERSHIP]
    return sorted(entry.record.keys() - {"type", *form.names, *form.keys})


def _known(reason: str) -> str:
    return reason if reason in {"INVALID_MAIL", "NO_SUCH_ACCOUNT"} else "INVALID_VALUE"


def _subscriber(entry: Entry, subscription: str) -> str:
    """Return the subscriber that a line names. Raises ApiError."""
    mail = entry.record.get("mail")
    if not isinstance(mail, str) or not mail.strip():
        raise problem("mail", "REQUIRED", "The line does not say who.")
    try:
        address = addresses.any_mail(mail)
    except addresses.InvalidAddress as error:
        raise problem("mail", "INVALID_MAIL", str(error)) from None
    ListEdit.read({"subscription": subscription})
    return address


POLICIES: Final = frozenset(_WORK)
