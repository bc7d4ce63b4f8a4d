"""References: attributes of other entries that hold an address, removed or renamed with it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from iredapi.backends.ldap.client import Change, Entry, Scope
from iredapi.backends.ldap.dn_layout import both, either, ends, equal, same
from iredapi.backends.ldap.entry_diff import Edit
from iredapi.backends.ldap.escaping import names_of_rdn, renamed
from iredapi.backends.ldap.session import Session, words
from iredapi.backends.ldap.write_plan import Rename
from iredapi.domain.addresses import domain_of, local_part_of

_INDEXED = (
    "mailForwardingAddress", "domainAdmin", "domainSenderBccAddress", "domainRecipientBccAddress",
    "userSenderBccAddress", "userRecipientBccAddress", "listAllowedUser", "memberOfGroup",
)  # fmt: skip
_OF_LISTS = ("listModerator", "listOwner")
"""Not indexed: searched on mailing lists only."""
_RIGHTS = "domainAdmin"
_NAMES = (*_INDEXED, *_OF_LISTS, "mail", "member")


def _filter(terms: Iterable[str], of_lists: Iterable[str], external: Iterable[str]) -> str:
    return either(
        [
            *terms,
            both("(objectClass=mailList)", either(of_lists)),
            both("(objectClass=mailExternalUser)", either(external)),
        ]
    )


def _spellings(mail: str) -> list[str]:
    """Return spellings of an address: slapd ignores case and spaces, but not tabs and CR."""
    return [mail, f"{mail}\t", f"\t{mail}", f"{mail}\r"]


async def _referring(session: Session, mail: str, dn: str) -> list[Entry]:
    forms = _spellings(mail)
    terms = [equal(name, form) for name in _INDEXED for form in forms]
    terms.append(equal("member", dn))
    found = await session.find(
        session.tree.base,
        Scope.SUB,
        _filter(
            terms,
            [equal(name, form) for name in _OF_LISTS for form in forms],
            [equal("mail", form) for form in forms],
        ),
    )
    return [session.remember(entry) for entry in found]


def _is_external(entry: Entry) -> bool:
    return "mailexternaluser" in words(entry, "objectClass")


async def standalone(session: Session, domains: Iterable[str]) -> frozenset[str]:
    """Return the standalone admins with an address in one of these domains."""
    tails = either(ends("mail", f"@{name}") for name in sorted(domains))
    found = await session.find(
        session.tree.admin_base, Scope.ONE, both("(objectClass=mailAdmin)", tails), ("mail",)
    )
    return frozenset(entry.value("mail").lower() for entry in found)


async def forget_rights(session: Session, mails: Collection[str]) -> None:
    """Plan to remove rights that another tool left behind from former accounts."""
    forms = [form for mail in mails for form in _spellings(mail)]
    for entry in await session.holders(
        session.tree.base, Scope.ONE, "(objectClass=mailDomain)", _RIGHTS, forms
    ):
        session.edit(session.remember(entry)).discard(_RIGHTS, mails)


async def _names_of(session: Session, mail: str) -> tuple[str, ...]:
    """Return the attributes that refer to an account, without rights of a standalone admin."""
    found = (*_INDEXED, *_OF_LISTS)
    if await session.admin(mail) is None:
        return found
    return tuple(name for name in found if name != _RIGHTS)


async def forget(session: Session, mail: str, dn: str) -> None:
    """Plan to remove all references to an address; its own entry is not changed."""
    names = await _names_of(session, mail)
    for entry in await _referring(session, mail, dn):
        if same(entry.dn) == same(dn):
            continue
        edit = session.edit(entry)
        for name in names:
            if name != "memberOfGroup" or not _is_external(entry):
                edit.discard(name, [mail])
        edit.discard("member", [dn])
        if _is_external(entry):
            edit.discard("mail", [mail])
        _remove_default_list(edit, mail)


def _remove_default_list(edit: Edit, mail: str) -> None:
    for value in edit.now("accountSetting"):
        key, _, text = value.partition(":")
        if key.lower() == "defaultlist":
            kept = [item for item in text.split(",") if item.strip().lower() != mail]
            if len(kept) != len(text.split(",")):
                edit.discard("accountSetting", [value])
                edit.add("accountSetting", [f"{key}:{','.join(kept)}"] if kept else [])


async def rename(session: Session, old: str, new: str, old_dn: str, new_dn: str) -> None:
    """Plan to rename all references to an address; its own entry is not changed."""
    names = await _names_of(session, old)
    for entry in await _referring(session, old, old_dn):
        if same(entry.dn) == same(old_dn):
            continue
        edit = session.edit(entry)
        for name in names:
            if name != "memberOfGroup" or not _is_external(entry):
                edit.swap(name, old, new)
        edit.swap("member", old_dn, new_dn)
        if _is_external(entry):
            edit.swap("mail", old, new)


def moved(session: Session, entry: Entry, old: str, new: str) -> Edit:
    """Plan a new DN for an account; return the edit of the renamed entry.

    Other values of the RDN and the parent stay: another program may have chosen them.
    """
    swaps = {("mail", old): new, ("uid", local_part_of(old)): local_part_of(new)}
    new_dn = renamed(entry.dn, swaps)
    attributes = dict(entry.attributes)
    if new_dn != entry.dn:
        session.plan.append(Rename(entry.dn, new_dn))
        names = names_of_rdn(entry.dn)
        for stored_name, values in entry.attributes.items():
            if (name := stored_name.lower()) in names:
                attributes[stored_name] = tuple(
                    swaps.get((name, value.decode(errors="replace").lower()), "").encode() or value
                    for value in values
                )
    edit = Edit(Entry(new_dn, attributes))
    edit.swap("mail", old, new)
    return edit


def forget_domains(
    session: Session, primary: str, names: Collection[str], standalone: Collection[str]
) -> None:
    """Plan a bulk step that removes all references to addresses of removed domains.

    Standalone admins (``standalone``) with an address in one of them keep their rights.
    """
    inside = session.tree.domain(primary)
    indexed = (*_INDEXED, "shadowAddress")

    def change(entry: Entry) -> Sequence[Change]:
        if entry.dn.lower().endswith(inside.lower()):
            return ()
        edit = Edit(entry)
        for name in indexed:
            if name != "memberOfGroup" or not _is_external(entry):
                gone = [value for value in entry.values(name) if domain_of(value.lower()) in names]
                if name == _RIGHTS:
                    gone = [value for value in gone if value.lower() not in standalone]
                edit.discard(name, gone)
        for name in _OF_LISTS:
            gone = [value for value in entry.values(name) if domain_of(value.lower()) in names]
            edit.discard(name, gone)
        edit.discard(
            "member", [dn for dn in entry.values("member") if dn.lower().endswith(inside.lower())]
        )
        if _is_external(entry):
            gone = [value for value in entry.values("mail") if domain_of(value.lower()) in names]
            edit.discard("mail", gone)
        return edit.changes()

    tails = [f"@{name}{blank}" for name in sorted(names) for blank in ("", "\t", "\r")]
    terms = [ends(name, tail) for name in indexed for tail in tails]
    session.change_found(
        session.tree.base,
        _filter(
            terms,
            [ends(name, tail) for name in _OF_LISTS for tail in tails],
            [ends("mail", tail) for tail in tails],
        ),
        change,
    )
