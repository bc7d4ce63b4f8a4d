"""Forms of mail domains."""

from __future__ import annotations

from iredapi.schemas import fields
from iredapi.schemas.listing import Chosen, WithExtras
from iredapi.schemas.params import Params, param
from iredapi.schemas.views import Viewed

_LEGACY = {"cn": "name", "preferredLanguage": "language"}
_CONFLICTS_WITH_TRANSPORT = (("transport", "is_backupmx"), ("transport", "primarymx"))


class DomainView(Viewed, WithExtras):
    """In which form to show a domain, and what is added."""


class DomainFilter(Viewed, Chosen, WithExtras):
    """Which domains to list, and in which form."""

    conflicts = (("status", "disabled_only"), ("fields", "name_only"), ("with", "name_only"))
    paging = Chosen.paging | WithExtras.paging

    sort: fields.DomainSort = param(
        "Order of the list; `-` in front: descending. Equal values are sorted by domain.",
        "-created",
    )
    name_only: fields.YesNo = param("Only names, as a plain list.", "yes", alias="name_only")
    disabled_only: fields.YesNo = param("Only disabled domains.", "yes", alias="disabled_only")


class DomainEdit(Params):
    """Changes of a domain. Parameters that are not sent change nothing."""

    conflicts = (
        *_CONFLICTS_WITH_TRANSPORT,
        ("aliasDomains", "addAliasDomain"),
        ("aliasDomains", "removeAliasDomain"),
        ("services", "addService"),
        ("services", "removeService"),
    )
    needs = (("primarymx", "is_backupmx"),)
    legacy = _LEGACY | {
        "backupmx": "is_backupmx",
        "enableService": "addService",
        "disableService": "removeService",
        "removeAllServices": "services",
    }
    only_empty = {
        "removeAllServices": "It takes no value. Alias domains are removed with removeAliasDomain, "
        "single services with removeService."
    }

    name: fields.Name = param("Short description, such as the company's name.", "Example Inc.")
    quota: fields.Megabytes = param(
        "Maximum sum of all mailbox quotas of the domain, in MB; 0 is unlimited.", "2048"
    )
    language: fields.Language = param(
        "Language of new users, such as `en_US`; empty removes it.", "en_US"
    )
    transport: fields.Transport = param(
        "Postfix transport; empty is the server's default. Normal admins may use local delivery, "
        "`smtp:`, `relay:` and `lmtp:`.",
        "dovecot",
    )
    default_quota: fields.Megabytes = param(
        "Quota of new users when none is given, in MB; 0 removes it.", "1024"
    )
    max_user_quota: fields.Megabytes = param(
        "Maximum quota of one user, in MB; 0 removes it.", "2048"
    )
    number_of_users: fields.Limit = param(
        "Maximum number of mail users; 0: unlimited, -1: none.", "20"
    )
    number_of_aliases: fields.Limit = param(
        "Maximum number of mail alias accounts; 0: unlimited, -1: none.", "30"
    )
    number_of_lists: fields.Limit = param(
        "Maximum number of mailing lists; 0: unlimited, -1: none.", "40"
    )
    sender_bcc: fields.OptionalMail = param(
        "Address that gets a copy of what the domain's users send; empty removes it.",
        "archive@example.com",
    )
    recipient_bcc: fields.OptionalMail = param(
        "Address that gets a copy of what the domain's users receive; empty removes it.",
        "archive@example.com",
    )
    account_status: fields.Status = param(
        "`disabled` stops mail and logins of the whole domain; its accounts keep their own status.",
        "active",
    )
    suspend: fields.YesNo = param(
        "`yes`: mail is still received, but no user of the domain logs in or sends. `no` switches "
        "on what was on before. For global admins and admins who may create domains.",
        "yes",
    )
    min_password_length: fields.PasswordLength = param(
        "Minimum length of passwords of its users, in characters; 0: the server's rule.", "8"
    )
    max_password_length: fields.PasswordLength = param(
        "Maximum length of passwords of its users, in characters; 0: the server's rule.", "64"
    )
    is_backupmx: fields.YesNo = param(
        "`yes`: this server only relays the domain's mail; without `primarymx` Postfix asks the "
        "DNS where to.",
        "yes",
        alias="is_backupmx",
    )
    primarymx: fields.NextHop = param(
        "Host or IP address of the primary MX, with an optional port.",
        "[192.0.2.10]:25",
        alias="primarymx",
    )
    catchall: fields.Mails = param(
        "Addresses that get mail for unknown recipients of the domain; empty removes them.",
        "postmaster@example.com",
    )
    outbound_relay: fields.Relay = param(
        "Host that mail sent from the domain goes through; a leading `smtp:` is dropped, because "
        "Postfix would read it as a host name. Empty removes it.",
        "[192.0.2.20]:25",
    )
    add_alias_domain: fields.Domains = param(
        "New alias domains: mail to `user@alias` goes to `user@domain`. One that waits for a proof "
        "of its ownership is switched on when a global admin adds it again.",
        "example.net",
    )
    remove_alias_domain: fields.GoneDomains = param("Alias domains to remove.", "example.net")
    alias_domains: fields.Domains = param(
        "All alias domains; empty removes them.", "example.net,example.org"
    )
    add_service: fields.Services = param(
        "Services to switch on. On SQL only `self-service` exists; on LDAP also `mail`, "
        "`domainalias`, `senderbcc` and `recipientbcc`, which come with what needs them. Others "
        "are ignored.",
        "self-service",
    )
    remove_service: fields.Services = param("Services to switch off.", "self-service")
    services: fields.Services = param(
        "All services; empty switches all off, but for those that mail needs on LDAP: only "
        "`removeService` takes them.",
        "self-service",
    )
    disable_domain_profile: fields.DomainProfiles = param(
        "Domain settings that normal admins may not change any more.", "bcc,relay"
    )
    enable_domain_profile: fields.DomainProfiles = param(
        "Domain settings that normal admins may change again.", "bcc,relay"
    )
    disable_user_profile: fields.UserProfiles = param(
        "User settings that normal admins may not change any more.", "forwarding"
    )
    enable_user_profile: fields.UserProfiles = param(
        "User settings that normal admins may change again.", "forwarding"
    )
    disable_user_preference: fields.UserPreferences = param(
        "Settings that users may not change themselves any more.", "wblist"
    )
    enable_user_preference: fields.UserPreferences = param(
        "Settings that users may change themselves again.", "wblist"
    )


class DomainDraft(DomainEdit):
    """A new domain, with the parameters of a change."""


class DomainAdmins(Params):
    """Changes of the list of a domain's admins; removals come first."""

    add_admin: fields.ExistingMails = param(
        "New admins: standalone admins or mail users. A normal admin may only name mail users of "
        "domains it manages.",
        "alice@example.com",
    )
    remove_admin: fields.GoneMails = param("Admins to remove.", "bob@example.com")
    remove_all_admins: fields.Present = param(
        "Remove all admins of the domain; the value does not matter.", ""
    )


class Keep(Params):
    """How long mailboxes stay on disk."""

    keep_mailbox_days: fields.Days = param(
        "Days after which the mailboxes may be removed from disk; 0 or absent: never.",
        "30",
        alias="keep_mailbox_days",
    )
