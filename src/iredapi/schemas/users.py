"""Forms of mail users."""

from __future__ import annotations

from typing import ClassVar

from iredapi.schemas import fields
from iredapi.schemas.listing import Chosen, WithExtras
from iredapi.schemas.params import Params, param
from iredapi.schemas.views import Viewed

_LEGACY = {
    "cn": "name",
    "mailQuota": "quota",
    "preferredLanguage": "language",
    "mailbox_format": "mailboxFormat",
    "mailbox_folder": "mailboxFolder",
    "domainGlobalAdmin": "isGlobalAdmin",
}
_PASSWORDS = (("password", "password_hash"),)


class UserView(Viewed, WithExtras):
    """In which form to show a user, and what is added."""


class UserFilter(Viewed, Chosen, WithExtras):
    """Which users to list, and in which form."""

    conflicts = (
        ("status", "disabled_only"), ("fields", "email_only"), ("with", "email_only"),
    )  # fmt: skip
    paging = Chosen.paging | WithExtras.paging

    sort: fields.UserSort = param(
        "Order of the list; `-` in front: descending. `used` is the size of the mailbox. Equal "
        "values are sorted by address.",
        "-created",
    )
    email_only: fields.YesNo = param("Only addresses, as a plain list.", "yes", alias="email_only")
    disabled_only: fields.YesNo = param("Only disabled users.", "yes", alias="disabled_only")


class UserEdit(Params):
    """Changes of a user. Parameters that are not sent change nothing."""

    conflicts: ClassVar[tuple[tuple[str, str], ...]] = (
        *_PASSWORDS,
        ("forwarding", "addForwarding"),
        ("forwarding", "removeForwarding"),
        ("aliases", "addAlias"),
        ("aliases", "removeAlias"),
        ("services", "addService"),
        ("services", "removeService"),
    )
    legacy = _LEGACY | {
        "givenName": "gn",
        "employeeNumber": "employeeid",
        "employee_id": "employeeid",
    }

    name: fields.Name = param("Display name.", "Alice Example")
    password: fields.Password = param("Plain password.", "Corr3ct-Horse")
    password_hash: fields.PasswordHash = param(
        "A password that is hashed already, with its `{SCHEME}`; no policy can check it.",
        "{SSHA512}q+0R05jSyeEetqfhSwLRarIfsiOlYByGxXfT1DhSYYQ"
        "AOVxCYtj8vjUCOPr8coR9K4m25vl/jq85oHB7JtUIswKzHUCh+DRv",
        alias="password_hash",
    )
    language: fields.Language = param("Language of iRedAdmin's pages.", "en_US")
    quota: fields.Megabytes = param("Mailbox quota in MB; 0 is unlimited.", "1024")
    account_status: fields.Status = param(
        "`disabled` users neither receive mail nor log in.", "active"
    )
    is_global_admin: fields.GlobalAdmin = param("Global admins only may send it.", "no")
    mailbox_format: fields.MailboxFormat = param(
        "Format of the mailbox; mail that is there already is not converted.", "maildir"
    )
    mailbox_folder: fields.MailboxFolder = param(
        "Folder in the user's home; mail that is there already is not moved.", "Maildir"
    )
    maildir: fields.Path = param(
        "Absolute path of the mailbox under a storage root, lower-cased; global admins only.",
        "/var/vmail/vmail1/example.com/alice",
    )
    gn: fields.Name = param("Given name.", "Alice")
    sn: fields.Name = param("Surname.", "Example")
    employeeid: fields.Name = param("Number or name in the organisation.", "4711")
    transport: fields.Transport = param(
        "Postfix transport of this user; empty: the domain's.", "dovecot"
    )
    forwarding: fields.Mails = param(
        "All destinations of the user's mail; name the user itself to keep a copy. Empty ends "
        "forwarding.",
        "alice@example.com,bob@example.net",
    )
    add_forwarding: fields.Mails = param("Destinations to add.", "bob@example.net")
    remove_forwarding: fields.GoneMails = param("Destinations to remove.", "bob@example.net")
    sender_bcc: fields.OptionalMail = param(
        "Address that gets a copy of what the user sends; empty removes it.", "archive@example.com"
    )
    recipient_bcc: fields.OptionalMail = param(
        "Address that gets a copy of what the user receives; empty removes it.",
        "archive@example.com",
    )
    aliases: fields.AccountMails = param(
        "All further addresses of the user, in its domain or its alias domains; empty removes "
        "them. Addresses in use are left out and reported in `_skipped`.",
        "sales@example.com",
    )
    add_alias: fields.AccountMails = param("Addresses to add.", "sales@example.com")
    remove_alias: fields.GoneMails = param("Addresses to remove.", "sales@example.com")
    services: fields.Services = param(
        "All services of the user. On SQL unknown ones are ignored; on LDAP any word is a service, "
        "and the conditions of all mail (`mail`, `forward`, `shadowaddress`, `senderbcc`, "
        "`recipientbcc`, `displayedInGlobalAddressBook`) are taken by `removeService` only. Logins "
        "over TLS need `imaptls`, `pop3tls` and `smtpsecured`.",
        "smtpsecured,imaptls,deliver",
    )
    add_service: fields.Services = param("Services to switch on.", "imaptls")
    remove_service: fields.Services = param("Services to switch off.", "pop3,pop3tls")
    suspend: fields.YesNo = param(
        "`yes`: mail is still received, but the user neither logs in nor sends. `no` switches on "
        "what was on before.",
        "yes",
    )
    telephone_number: fields.Name = param("Telephone number.", "+49 30 1234567")
    mobile: fields.Name = param("Mobile phone number.", "+49 170 1234567")


class UserDraft(UserEdit):
    """A new user, with the parameters of a change; `password` or `password_hash` is required."""

    conflicts = (*UserEdit.conflicts, ("restore", "maildir"))

    restore: fields.Restore = param(
        "`yes`: the user gets the mailbox that an earlier user with this address had, with the "
        "mail in it; of several the one that was deleted last. Or its id in "
        "`GET /api/deleted_mailboxes`. Send the earlier `mailboxFormat` and `mailboxFolder` again "
        "if they were not the server's.",
        "yes",
    )


class UsersEdit(Params):
    """Changes of all users of a domain."""

    legacy = {"preferredLanguage": "language", "mailQuota": "quota"}

    quota: fields.Megabytes = param(
        "Mailbox quota of each user in MB; 0 is unlimited. Together they must fit into the "
        "domain's quota, unless no user gets more.",
        "1024",
    )
    account_status: fields.Status = param("Status of all users.", "active")
    password: fields.Password = param("Plain password of all users.", "Corr3ct-Horse")
    language: fields.Language = param("Language of iRedAdmin's pages.", "en_US")
    transport: fields.Transport = param(
        "Postfix transport of all users; empty: the domain's.", "dovecot"
    )
