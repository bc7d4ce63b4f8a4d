"""Mail domains: the record and its rules."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any, Final

from iredapi.domain import account_settings, limits, suspension, transports
from iredapi.domain.actors import Actor
from iredapi.domain.addresses import fold, without
from iredapi.domain.features import Feature
from iredapi.domain.set_parameters import resettable
from iredapi.errors import PermissionDenied, Problem, problem

PROFILES: Final = frozenset(
    "bcc relay catchall aliases throttle greylisting wblist spampolicy backupmx "
    "password_policies advanced".split()
)
USER_PROFILES: Final = frozenset(
    "bcc forwarding relay aliases throttle greylisting wblist spampolicy".split()
)
USER_PREFERENCES: Final = frozenset(
    "personal_info forwarding wblist quarantine rcvd_mails spampolicy".split()
)
SERVICES: Final = frozenset({"self-service"})
"""Values of ``enabled_services`` in SQL; other names exist in LDAP only and are ignored."""
CONDITIONS: Final = frozenset({"mail", "domainalias", "senderbcc", "recipientbcc"})
"""Services of a domain that Postfix looks up in LDAP; a reset keeps them, see ``services``."""

_PROFILE_OF: Final[Mapping[str, str]] = {
    "sender_bcc": "bcc",
    "recipient_bcc": "bcc",
    "transport": "relay",
    "outbound_relay": "relay",
    "catchall": "catchall",
    "alias_domains": "aliases",
    "add_alias_domain": "aliases",
    "remove_alias_domain": "aliases",
    "is_backupmx": "backupmx",
    "primarymx": "backupmx",
    "min_password_length": "password_policies",
    "max_password_length": "password_policies",
    "language": "advanced",
    "default_quota": "advanced",
    "max_user_quota": "advanced",
    "services": "advanced",
    "add_service": "advanced",
    "remove_service": "advanced",
}
# Limits, and what decides where mail goes: only for admins who may create domains.
_NEEDS_CREATOR: Final = frozenset(
    {"quota", "number_of_users", "number_of_aliases", "number_of_lists", "transport"}
    | {"account_status", "suspend", "is_backupmx", "primarymx", "alias_domains", "add_alias_domain"}
)
_GLOBAL_ONLY: Final = frozenset(
    {"disable_domain_profile", "enable_domain_profile", "disable_user_profile"}
    | {"enable_user_profile", "disable_user_preference", "enable_user_preference"}
)
_LENGTHS: Final = ("min_passwd_length", "max_passwd_length")


@dataclass(frozen=True, slots=True)
class Domain:
    """A mail domain. Quota in MB; numbers of accounts: 0 is unlimited, -1 means none."""

    name: str
    description: str = ""
    active: bool = True
    quota: int = 0
    users: int = 0
    aliases: int = 0
    lists: int = 0
    transport: str = "dovecot"
    backupmx: bool = False
    settings: account_settings.Settings = field(default_factory=dict)
    stored_settings: str = field(default="", repr=False, compare=False)
    """The text that ``settings`` were read from (SQL): what does not change stays as it is."""
    sender_bcc: str = ""
    recipient_bcc: str = ""
    outbound_relay: str = ""
    alias_relay: str = ""
    """Relay host of senders in alias domains only, which other programs store."""
    catchall: frozenset[str] = frozenset()
    dead_catchall: frozenset[str] = frozenset()
    """Catch-all destinations whose rows are inactive; setting the catch-all activates them."""
    alias_domains: frozenset[str] = frozenset()
    inactive_alias_domains: frozenset[str] = frozenset()
    """Alias domains that get no mail, such as those whose ownership has not been verified."""

    @property
    def allocation(self) -> limits.Allocation:
        """The limits of the domain, which count against those of the admin who creates it."""
        return limits.Allocation(self.quota, self.users, self.aliases, self.lists)

    @property
    def names(self) -> frozenset[str]:
        """The domain and its alias domains, folded: domains of its accounts' addresses."""
        return frozenset(map(fold, (*self.alias_domains, self.name)))

    @property
    def live_names(self) -> frozenset[str]:
        """Those of ``names`` that get mail when the domain is active."""
        return without(self.names, self.inactive_alias_domains)

    def canonical(self, address: str) -> str:
        """Return an address in the primary domain without its extension, folded.

        Addresses outside the domain and its alias domains are only folded.
        """
        address = fold(address)
        local, _, domain = address.rpartition("@")
        if domain not in self.names:
            return address
        return f"{local.partition('+')[0]}@{fold(self.name)}"

    def alias_addresses(self, address: str) -> list[str]:
        """Return the addresses in the alias domains that stand for an address in this domain.

        When one of them is an alias address of another user, that user would get the mail.
        """
        local = address.rpartition("@")[0]
        return [f"{local}@{alias}" for alias in sorted(map(fold, self.alias_domains))]

    def mentions(self, address: str) -> bool:
        """Tell whether removing an account would change the domain, because it leads there."""
        places = {*self.catchall, *self.dead_catchall, self.sender_bcc, self.recipient_bcc}
        texts = (text or "" for text in self.settings.values())
        return address in map(fold, places) or any(address in text.lower() for text in texts)

    def hides(self, profile: str, *, of_user: bool = False) -> bool:
        """Tell whether a profile (a group of parameters) is disabled for normal admins."""
        key = "disabled_user_profiles" if of_user else "disabled_domain_profiles"
        return profile in account_settings.words(self.settings, key)


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings of the server that the rules of domains need."""

    default_transport: str = "dovecot"
    hostname: str = ""
    min_password_length: int = 8
    max_password_length: int = 0
    keep_relay_prefix: bool = False
    verify_ownership: bool = False


def draft(
    name: str,
    changes: Mapping[str, Any],
    actor: Actor,
    rules: Rules,
    features: Set[Feature] = frozenset(),
) -> Domain:
    """Return a new domain. Raises InvalidParameters and PermissionDenied."""
    if transports.is_server(name, rules.hostname):
        raise problem(
            "domain", "INVALID_DOMAIN_NAME", "The server's own name cannot be a mail domain."
        )
    fresh = Domain(name, transport=rules.default_transport)
    if Feature.ANY_SERVICE in features:
        fresh = replace(fresh, settings={"enabled_services": "mail"})
    # With the default values: parameters that only creators of domains may set are allowed.
    permit(actor, fresh, changes, rules)
    domain = _apply(fresh, changes, rules, features)
    if not actor.is_global and rules.verify_ownership:
        domain = replace(domain, active=False)
    return domain


def permit(actor: Actor, before: Domain, changes: Mapping[str, Any], rules: Rules) -> None:
    """Refuse parameters that this admin may not change on this domain.

    Raises PermissionDenied with the names of all of them.
    """
    if actor.is_global:
        return
    refused = [name for name in changes if name in _GLOBAL_ONLY]
    if not actor.may_create_domains:
        refused += [name for name in changes if name in _NEEDS_CREATOR]
    refused += [
        name for name in changes if name not in refused and before.hides(_PROFILE_OF.get(name, ""))
    ]
    refused += [name for name in _unsafe_routes(before, changes, rules) if name not in refused]
    if _lifts_cap(actor, before, changes) and "max_user_quota" not in refused:
        refused.append("max_user_quota")
    if refused:
        raise refusal(refused)
    number = account_settings.number
    lowest = changes.get("min_password_length", 0)
    stays = lowest == number(before.settings, "min_passwd_length")
    if not stays and 0 < lowest < rules.min_password_length:
        raise problem(
            "min_password_length",
            "INVALID_NUMBER",
            f"The minimum is the server's: {rules.min_password_length}.",
        )
    highest = changes.get("max_password_length", 0)
    stays = highest == number(before.settings, "max_passwd_length")
    if not stays and 0 < rules.max_password_length < highest:
        raise problem(
            "max_password_length",
            "INVALID_NUMBER",
            f"The maximum is the server's: {rules.max_password_length}.",
        )


def refusal(names: list[str]) -> PermissionDenied:
    """Return the error that refuses parameters."""
    code = "PERMISSION_DENIED"
    return PermissionDenied(
        errors=[Problem(name, code, "This admin may not change it.") for name in sorted(names)]
    )


def _lifts_cap(actor: Actor, before: Domain, changes: Mapping[str, Any]) -> bool:
    """Tell whether an admin raises the users' quota limit who may not raise the domain's."""
    cap = account_settings.number(before.settings, "max_user_quota")
    wanted = changes.get("max_user_quota", cap)
    return not actor.may_create_domains and cap > 0 and limits.is_raised(cap, wanted)


def _unsafe_routes(before: Domain, changes: Mapping[str, Any], rules: Rules) -> list[str]:
    """Return the parameters with destinations that normal admins may not set (ADR 13).

    Values that are stored already are allowed.
    """
    host = rules.hostname
    found = []
    wanted = changes.get("transport") or before.transport
    if wanted != before.transport and not transports.is_ordinary(wanted, host):
        found.append("transport")
    relay = changes.get("outbound_relay") or "DUNNO"
    if relay.strip().upper() != "DUNNO" and not transports.is_same_relay(
        relay, before.outbound_relay
    ):
        hop = transports.outbound_relay(relay)
        if not transports.is_outside(hop, host):
            found.append("outbound_relay")
    primary = changes.get("primarymx")
    repeated = before.backupmx and before.transport == transports.backup_mx(primary or "")
    if primary and not repeated and not transports.is_outside(primary, host):
        found.append("primarymx")
    return found


def revise(
    before: Domain,
    changes: Mapping[str, Any],
    rules: Rules,
    features: Set[Feature] = frozenset(),
) -> Domain:
    """Return the changed domain. ``changes`` are the parsed parameters that were sent."""
    return _apply(before, changes, rules, features)


def _apply(
    before: Domain, changes: Mapping[str, Any], rules: Rules, features: Set[Feature]
) -> Domain:
    fields = {
        "name": "description",
        "account_status": "active",
        "quota": "quota",
        "number_of_users": "users",
        "number_of_aliases": "aliases",
        "number_of_lists": "lists",
        "sender_bcc": "sender_bcc",
        "recipient_bcc": "recipient_bcc",
    }
    new: dict[str, Any] = {fields[name]: changes[name] for name in changes if name in fields}
    if "transport" in changes:
        new["transport"] = changes["transport"] or rules.default_transport
    if "catchall" in changes:
        new["catchall"] = frozenset(changes["catchall"])
        new["dead_catchall"] = frozenset()
    if "outbound_relay" in changes:
        relay = changes["outbound_relay"]
        new["alias_relay"] = ""
        new["outbound_relay"] = relay and transports.outbound_relay(
            relay, keep_prefix=rules.keep_relay_prefix
        )
    new |= _backup_mx(before, changes, rules)
    new["alias_domains"] = resettable(
        before.alias_domains, changes, "alias_domains", "add_alias_domain", "remove_alias_domain"
    )
    # Other programs have stored it already: then it can be removed, and everything else changed.
    if fold(before.name) in map(fold, without(new["alias_domains"], before.alias_domains)):
        param = "alias_domains" if "alias_domains" in changes else "add_alias_domain"
        raise problem(param, "INVALID_DOMAIN_NAME", "A domain cannot be its own alias domain.")
    new["settings"] = _settings(before.settings, changes, features, rules)
    return replace(before, **new)


def _backup_mx(before: Domain, changes: Mapping[str, Any], rules: Rules) -> dict[str, Any]:
    if "is_backupmx" not in changes:
        return {}
    if changes["is_backupmx"]:
        return {"backupmx": True, "transport": transports.backup_mx(changes.get("primarymx", ""))}
    relayed = before.transport.startswith("relay:")
    return {
        "backupmx": False,
        "transport": rules.default_transport if relayed else before.transport,
    }


def _settings(
    settings: account_settings.Settings,
    changes: Mapping[str, Any],
    features: Set[Feature],
    rules: Rules,
) -> account_settings.Settings:
    values = {
        "default_quota": "default_user_quota",
        "max_user_quota": "max_user_quota",
        "min_password_length": "min_passwd_length",
        "max_password_length": "max_passwd_length",
        "language": "default_language",
    }
    before = settings
    for name, key in values.items():
        if name in changes:
            settings = account_settings.with_value(settings, key, changes[name])
    if changes.get("suspend", now_suspended := suspension.is_suspended(settings)) != now_suspended:
        text = "" if now_suspended else "yes"
        settings = account_settings.with_value(settings, suspension.DOMAIN_KEY, text)
    if changes.keys() & {"services", "add_service", "remove_service"}:
        there = account_settings.words(settings, "enabled_services")
        known = SERVICES | CONDITIONS if Feature.ANY_SERVICE in features else SERVICES
        kept = resettable(there, changes, "services", "add_service", "remove_service", only=known)
        if Feature.ANY_SERVICE in features and "services" in changes:
            kept |= there & CONDITIONS
        settings = account_settings.with_value(settings, "enabled_services", kept)
    _check_lengths(before, settings, changes, rules)
    for what in ("domain_profile", "user_profile", "user_preference"):
        off, on = changes.get(f"disable_{what}", ()), changes.get(f"enable_{what}", ())
        if off or on:
            key = f"disabled_{what}s"
            words = (account_settings.words(settings, key) - set(on)) | set(off)
            settings = account_settings.with_value(settings, key, words)
    return settings


def _check_lengths(
    before: account_settings.Settings,
    settings: account_settings.Settings,
    changes: Mapping[str, Any],
    rules: Rules,
) -> None:
    """Refuse lengths that no password could have: a maximum below the minimum.

    Where the domain has no length, the server's applies.
    """
    sent = [name for name in ("max_password_length", "min_password_length") if name in changes]
    if not sent or all(before.get(key) == settings.get(key) for key in _LENGTHS):
        return
    number = account_settings.number
    lowest = max(number(settings, "min_passwd_length"), 0) or rules.min_password_length
    highest = max(number(settings, "max_passwd_length"), 0) or rules.max_password_length
    if 0 < highest < lowest:
        raise problem(
            sent[0],
            "INVALID_NUMBER",
            f"No password would be valid: the maximum length ({highest}) is below the minimum "
            f"({lowest}).",
        )


def replace_in_defaults(before: Domain, old: str, new: str = "") -> Domain:
    """Return the domain with an address renamed in the default groups and lists of new users.

    Without ``new`` it is removed from them.
    """
    settings, old = before.settings, fold(old)
    for key in ("default_groups", "default_mailing_lists"):
        groups = account_settings.words(settings, key)
        if old in groups:
            kept = (groups - {old}) | ({new} if new else set())
            settings = account_settings.with_value(settings, key, kept)
    return before if settings is before.settings else replace(before, settings=settings)


def activate_alias_domains(domain: Domain, named: Collection[str]) -> Domain:
    """Return the domain with the alias domains of ``addAliasDomain`` active.

    For admins who need not verify ownership. A reset (``aliasDomains``) does not activate any: it
    may repeat what was read.
    """
    return replace(domain, inactive_alias_domains=without(domain.inactive_alias_domains, named))


def primary_mx(transport: str) -> str:
    """Return the primary MX in the transport of a backup MX domain; empty: found by DNS."""
    return transport.partition(":")[2] if transport.startswith("relay:") else ""
