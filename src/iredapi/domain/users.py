"""Mail users: the record and its rules."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any

from iredapi.domain import (
    account_settings,
    limits,
    mailbox_paths,
    phones,
    services,
    suspension,
    transports,
    wider_rights,
)
from iredapi.domain.actors import Actor
from iredapi.domain.addresses import DOVECOT_CHARACTERS, domain_of, fold, local_part_of
from iredapi.domain.domains import Domain, refusal
from iredapi.domain.features import Feature
from iredapi.domain.set_parameters import resettable
from iredapi.domain.tokens import too_limited
from iredapi.domain.user_parameters import (
    AT_CREATION,
    CREDENTIALS,
    DIRECT_FIELDS,
    GLOBAL_ONLY,
    PROFILE_OF,
    ROUTES,
    SERVICES,
)
from iredapi.errors import PermissionDenied, problem


@dataclass(frozen=True, slots=True)
class User:
    """A mail user. Quota in MB, 0 is unlimited.

    ``forwardings`` contains the user's own address when a copy is kept in the mailbox. It is empty
    when nothing is stored: then Postfix delivers to the mailbox, see ``destinations``. ``services``
    are column names.
    """

    mail: str
    password: str = field(default="", repr=False)
    name: str = ""
    given_name: str = ""
    surname: str = ""
    mobile: str = ""
    telephone: str = ""
    language: str = ""
    quota: int = 0
    employee_id: str = ""
    transport: str = ""
    active: bool = True
    mailbox_format: str = "maildir"
    mailbox_folder: str = "Maildir"
    location: mailbox_paths.Location = mailbox_paths.NO_LOCATION
    is_admin: bool = False
    is_global: bool = False
    services: frozenset[str] = services.MANAGED
    custom_services: frozenset[str] = frozenset()
    """Services that only LDAP can store (``Feature.ANY_SERVICE``)."""
    held: frozenset[str] | None = None
    """Services that wait until the user is resumed; None: it is not suspended itself."""
    held_by_domain: frozenset[str] | None = None
    """Services that wait until the domain is resumed; None: it is not suspended with it."""
    settings: str = field(default="", repr=False)
    """The text of its settings as it is stored (SQL)."""
    exact: frozenset[str] = frozenset()
    """Values that are not as this service writes them, and that resuming restores (SQL)."""
    forwardings: frozenset[str] = frozenset()
    aliases: frozenset[str] = frozenset()
    sender_bcc: str = ""
    recipient_bcc: str = ""
    managed_domains: frozenset[str] = frozenset()
    marks_agree: bool = True
    """Whether both marks of a global admin have the same value; other tools write only one."""

    @property
    def has_rights(self) -> bool:
        """Whether the user is an admin, or would be with a mark that another tool may set."""
        return self.is_admin or self.is_global or bool(self.managed_domains)

    @property
    def destinations(self) -> frozenset[str]:
        """Where Postfix delivers the user's mail, also when no forwarding is stored."""
        return self.forwardings or frozenset({self.mail})


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings of the server that the rules of users need."""

    layout: mailbox_paths.Layout = mailbox_paths.DEFAULT
    mailbox_format: str = "maildir"
    mailbox_folder: str = "Maildir"
    disabled_services: frozenset[str] = frozenset()
    enabled_services: frozenset[str] = frozenset()
    name_characters: str = DOVECOT_CHARACTERS
    """Characters allowed in users' addresses, which are their login names; empty: any."""


def permit_new(
    actor: Actor, domain: Domain | None, changes: Mapping[str, Any], hostname: str
) -> None:
    """Refuse parameters that this admin may not set on a new user; ``domain`` may not exist."""
    if not actor.is_global:
        permit(actor, domain or Domain(""), User(""), changes, hostname=hostname)


def _changes_nothing(name: str, changes: Mapping[str, Any], target: User) -> bool:
    """Tell whether it is ``isGlobalAdmin=no`` for an ordinary user: some clients always send it."""
    return name == "is_global_admin" and not changes[name] and not target.is_global


def permit(
    actor: Actor,
    domain: Domain,
    target: User,
    changes: Mapping[str, Any],
    *,
    has_wider_rights: bool = False,
    hostname: str = "",
) -> None:
    """Refuse parameters that this admin may not change on this user.

    ``has_wider_rights``: the user has rights that the admin has not. ``hostname`` is this server's.
    Raises PermissionDenied that names them, or with the code
    ``PERMISSION_DENIED_UPDATE_GLOBAL_ADMIN_PROFILE``.
    """
    if actor.limited and target.has_rights:
        _check_lasting(target, changes)
    if actor.is_global:
        return
    protect_global_admin(actor, target)
    refused = [
        name
        for name in changes
        if name in GLOBAL_ONLY and not _changes_nothing(name, changes, target)
    ]
    refused += [
        name
        for name in changes
        if name not in refused and domain.hides(PROFILE_OF.get(name, ""), of_user=True)
    ]
    if has_wider_rights:
        refused += wider_rights.guarded(target, DIRECT_FIELDS, changes)
    wanted = changes.get("transport") or target.transport
    if wanted != target.transport and not transports.is_ordinary(wanted, hostname):
        refused.append("transport")
    if refused:
        raise refusal(sorted(set(refused)))


def _check_lasting(target: User, changes: Mapping[str, Any]) -> None:
    """Refuse a limited token parameters that allow acting as the admin after it has expired."""
    giving = [
        name
        for name in changes
        if name in CREDENTIALS or (name == "account_status" and changes[name] and not target.active)
    ]
    if giving:
        raise too_limited(sorted(giving))


def protect_global_admin(actor: Actor, target: User) -> None:
    """Refuse any change of a global admin by a normal admin, also in the admin's own domain."""
    if target.is_global and not actor.is_global:
        raise PermissionDenied("PERMISSION_DENIED_UPDATE_GLOBAL_ADMIN_PROFILE")


def draft(
    mail: str,
    changes: Mapping[str, Any],
    password: str,
    domain: Domain,
    allocated: int,
    location: mailbox_paths.Location,
    rules: Rules,
    features: Set[Feature] = frozenset(),
) -> User:
    """Return a new user; ``allocated`` is the sum of the domain's users' quotas in MB."""
    number = account_settings.number
    quota = limits.quota_of_new_user(
        changes.get("quota"),
        number(domain.settings, "default_user_quota"),
        number(domain.settings, "max_user_quota"),
        domain.quota,
        allocated,
    )
    language = changes.get("language") or domain.settings.get("default_language") or ""
    disabled = (
        account_settings.words(domain.settings, "disabled_mail_services") | rules.disabled_services
    )
    off = services.disabled_at_creation(disabled) - services.columns(rules.enabled_services)
    custom = frozenset[str]()
    if Feature.ANY_SERVICE in features:
        custom = services.LDAP_DEFAULT - services.split_names(disabled)[1]
        custom |= services.split_names(rules.enabled_services)[1]
    is_global = changes.get("is_global_admin", False)
    fields: dict[str, Any] = {
        "password": password,
        "quota": quota,
        "location": location,
        "mailbox_format": rules.mailbox_format,
        "mailbox_folder": rules.mailbox_folder,
        "services": services.MANAGED - off,
        "custom_services": custom,
        "forwardings": frozenset({mail}),
        "language": language,
        "is_global": is_global,
        "is_admin": is_global,
    }
    rest = {name: changes[name] for name in changes if name not in AT_CREATION}
    fields |= direct_values(rest, "")
    made = User(mail, **fields)
    revised = _revised(made, rest, domain, features=features)
    # Making a record takes long, and mostly there is nothing else to revise.
    if any(getattr(made, name) != value for name, value in revised.items()):
        made = User(mail, **fields | revised)
    if not suspension.is_suspended(domain.settings):
        return made
    return replace(made, **_placed(made, own=made.held is not None, domain=domain))


def direct_values(changes: Mapping[str, Any], password: str) -> dict[str, Any]:
    """Return the fields that take the sent values unchanged, whatever they were before."""
    new: dict[str, Any] = {
        DIRECT_FIELDS[name]: changes[name] for name in changes if name in DIRECT_FIELDS
    }
    return new | {"password": password} if password else new


def revise(
    before: User,
    changes: Mapping[str, Any],
    domain: Domain,
    *,
    password: str = "",
    others_quota: int = 0,
    location: mailbox_paths.Location | None = None,
    features: Set[Feature] = frozenset(),
) -> User:
    """Return the changed user.

    ``password`` is the new hash; ``others_quota`` is the quota of the domain's other users in MB
    (needed when ``quota`` was sent).
    """
    return replace(
        before,
        **_revised(
            before, changes, domain, password=password, others_quota=others_quota,
            location=location, features=features,
        ),
    )  # fmt: skip


def _revised(
    before: User,
    changes: Mapping[str, Any],
    domain: Domain,
    *,
    password: str = "",
    others_quota: int = 0,
    location: mailbox_paths.Location | None = None,
    features: Set[Feature] = frozenset(),
) -> dict[str, Any]:
    """Return the fields that the parameters may change, with their new values."""
    new = direct_values(changes, password)
    if location is not None and location.path.rstrip("/") != before.location.path.rstrip("/"):
        new["location"] = location
    if "quota" in changes:
        most = account_settings.number(domain.settings, "max_user_quota")
        new["quota"] = limits.quota_of_user(
            changes["quota"], most, domain.quota, others_quota, before.quota
        )
    if "is_global_admin" in changes:
        new["is_global"] = changes["is_global_admin"]
        new["marks_agree"] = True
        new["is_admin"] = changes["is_global_admin"] or bool(before.managed_domains)
    if changes.keys() & ROUTES:
        new["forwardings"] = _routes(before, changes, domain)
    new["aliases"] = resettable(before.aliases, changes, "aliases", "add_alias", "remove_alias")
    if Feature.NAME_REQUIRED in features:
        # As it is stored, so that sending an empty name again is no change.
        new |= {
            name: new[name] or local_part_of(before.mail)
            for name in ("name", "surname")
            if name in new
        }
    if Feature.PHONE_VALUES in features:
        _check_phones(changes)
        new |= {
            name: ",".join(sorted(phones.numbers(new[name])))
            for name in ("mobile", "telephone")
            if name in new
        }
    if changes.keys() & (SERVICES | {"suspend"}):
        new |= _revised_services(before, changes, domain, features)
    return new


def _revised_services(
    before: User, changes: Mapping[str, Any], domain: Domain, features: Set[Feature]
) -> dict[str, Any]:
    """Return the services; those of a suspended user change in what waits to be switched on."""
    columns, words = suspension.released(before)
    if Feature.ANY_SERVICE in features and changes.keys() & SERVICES:
        _check_words(changes)
        columns, words = services.revised(columns, words, changes)
    else:
        columns = _services(columns, changes)
    return suspension.placed(
        columns,
        words,
        own=changes.get("suspend", before.held is not None),
        with_domain=suspension.is_suspended(domain.settings),
    )


def _placed(user: User, *, own: bool, domain: Domain) -> dict[str, Any]:
    columns, words = suspension.released(user)
    with_domain = suspension.is_suspended(domain.settings)
    return suspension.placed(columns, words, own=own, with_domain=with_domain)


def _routes(before: User, changes: Mapping[str, Any], domain: Domain) -> frozenset[str]:
    """Return the destinations of a user's mail: at least its own mailbox.

    The user's own address in an alias domain or with an extension becomes the primary one:
    otherwise Postfix would have a mail loop.
    """
    wanted = resettable(
        before.destinations, changes, "forwarding", "add_forwarding", "remove_forwarding"
    )
    own = before.mail
    return frozenset(
        own if domain.canonical(address) == fold(own) else address for address in wanted
    ) or frozenset({own})


def _check_phones(changes: Mapping[str, Any]) -> None:
    for param in ("mobile", "telephone_number"):
        if not phones.is_storable(changes.get(param, "")):
            raise problem(
                param,
                "INVALID_TEXT",
                "LDAP accepts letters, digits, blanks and '()+,-./:=? in telephone numbers.",
            )


def _check_words(changes: Mapping[str, Any]) -> None:
    for param in sorted(SERVICES):
        if wrong := services.malformed(changes.get(param, ())):
            raise problem(
                param,
                "INVALID_VALUE",
                f"{wrong[0][:80]!r}: up to 64 letters, digits, dots, hyphens and underscores.",
            )
        if marks := [name for name in changes.get(param, ()) if services.is_mark(name)]:
            raise problem(param, "INVALID_VALUE", f"{marks[0]} is no service; send suspend.")


def _services(present: frozenset[str], changes: Mapping[str, Any]) -> frozenset[str]:
    if "services" in changes:
        return services.columns(changes["services"])
    removed = services.columns(changes.get("remove_service", ()))
    return (present - removed) | services.columns(changes.get("add_service", ()))


def check_alias_domains(wanted: frozenset[str], domain: Domain, param: str) -> None:
    """Refuse per-user alias addresses outside the user's domain and its alias domains."""
    foreign = sorted(item for item in wanted if domain_of(item) not in domain.live_names)
    if foreign:
        raise problem(
            param,
            "INVALID_DOMAIN_NAME",
            f"{foreign[0]} is not in {domain.name} or one of its active alias domains.",
        )
