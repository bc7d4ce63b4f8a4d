"""What can be wrong: a code, a sentence, what it means, and the fix if one answer is right.

Pure, and the same for SQL and LDAP: the rooms beside it only say how each is looked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Severity(StrEnum):
    """How bad it is. A note alone leaves the exit status at 0."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that can be wrong. An empty ``fix``: a person has to decide."""

    severity: Severity
    sentence: str
    meaning: str
    fix: str = ""
    named: str = ""
    """What ``--fix`` does only with what the operator names."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where a check failed. ``subject`` is an address, a domain or another key."""

    code: str
    subject: str
    detail: str = ""
    fixed: bool = False

    @property
    def check(self) -> Check:
        """What the code stands for."""
        return CHECKS[self.code]


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE


def _repair(check: Check) -> str:
    return f"With `--named SUBJECT`: {check.named}" if check.named else check.fix or "-"


ON_DEMAND: Final = frozenset({"FOLDER_SHARED"})
"""What is looked for only when ``--only`` names it: it is nothing wrong."""

CHECKS: Final[Mapping[str, Check]] = MappingProxyType(
    {
        # The servers.
        "SERVER_AWAY": Check(
            _E, "A server does not answer.", "Nothing that it holds could be examined."
        ),
        "REMOVAL_HELD_BACK": Check(
            _E,
            "So many rows of a table would be removed that none was.",
            "Nothing was removed. It seems that the account storage is empty, another server's, or "
            "not restored yet; if it is right, `--remove-strays NUMBER` removes up to so many rows "
            "of each table.",
        ),
        "SCHEMA_LACKS": Check(
            _E,
            "A table or column that every supported release has is missing.",
            "The API cannot work on this database.",
        ),
        "SCHEMA_OLDER": Check(
            _N,
            "A table or column of newer releases is missing.",
            "The API does without; what it would hold is not stored.",
        ),
        "RIGHT_MISSING": Check(
            _E,
            "The login lacks a right that the API needs.",
            "Calls that need it fail with 500 or 503 and change nothing.",
        ),
        "DIRECTORY_READS_ONLY": Check(
            _E,
            "No LDAP server that can be reached takes writes.",
            "Reading works; changes are answered with 503. Name the provider in IREDAPI_LDAP_URI.",
        ),
        "STATE_OUTDATED": Check(
            _N,
            "The state database is not at this version's revision.",
            "The next start of the service brings it up to date.",
        ),
        "WRITE_UNFINISHED": Check(
            _W,
            "A write to the directory broke off and was not taken back yet.",
            "An account may be half made, until the service or the next write takes it back.",
            "It is taken back.",
        ),
        # Domains.
        "ALIAS_DOMAIN_IS_DOMAIN": Check(
            _E,
            "An alias domain is also a mail domain.",
            "Postfix sees both: mail reaches the accounts of one, the other, or both.",
        ),
        "ALIAS_DOMAIN_WITHOUT_TARGET": Check(
            _W,
            "An alias domain points to a domain that is not hosted.",
            "Mail to it is refused, and nobody else can use the name.",
            "The row is removed.",
        ),
        "ALIAS_DOMAIN_OF_ALIAS_DOMAIN": Check(
            _W,
            "An alias domain points to another alias domain.",
            "Postfix follows one step only: mail to it is refused.",
        ),
        "ALIAS_DOMAIN_TWICE": Check(
            _E,
            "Two domains have the same alias domain.",
            "Mail to it reaches the accounts of one, the other, or both.",
        ),
        "ALIAS_DOMAINS_OFF": Check(
            _E,
            "A domain has alias domains, but not the service domainalias.",
            "Postfix does not know the alias domains: mail to them is refused.",
            "The service is switched on.",
        ),
        "CONTAINER_MISSING": Check(
            _E,
            "One of a domain's containers is missing.",
            "Accounts that belong into it cannot be made; Postfix reports errors.",
            "The container is made.",
        ),
        "COUNTER_WRONG": Check(
            _N,
            "A domain's counter is not what the domain holds.",
            "The panel shows a wrong number; nothing else reads it.",
            "The right number is stored.",
        ),
        "TRANSPORT_EMPTY": Check(
            _W,
            "A domain has an empty transport.",
            "Postfix warns at every lookup and uses its default.",
            "The default transport is stored.",
        ),
        "TRANSPORT_BARE_ADDRESS": Check(
            _W,
            "A transport names an IP address without brackets.",
            "Postfix looks the digits up as a host name; mail stays in the queue.",
            "The address is put into brackets.",
        ),
        "BACKUP_MX_DELIVERS_HERE": Check(
            _E,
            "A backup MX domain has a transport that delivers on this server.",
            "Its mail is accepted for relaying and then bounces.",
        ),
        "SETTINGS_UNREADABLE": Check(
            _W,
            "The settings of an account hold an item that iRedAdmin cannot read.",
            "The panel fails on this account. (One colon in an item, no more, no less.)",
        ),
        # Accounts.
        "NOT_LOWER_CASE": Check(
            _E,
            "An address or domain name is stored with upper-case letters.",
            "Where the database minds the case, Postfix and Dovecot never find it.",
        ),
        "ACCOUNT_WITHOUT_DOMAIN": Check(
            _E,
            "An account is in a domain that is not hosted.",
            "It gets no mail and cannot log in; it comes to life when the domain is added.",
        ),
        "ACCOUNT_DOMAIN_WRONG": Check(
            _E,
            "The domain column of an account is not the domain of its address.",
            "It counts for another domain, whose admins may manage it; deliveries fail.",
            "The domain of the address is stored.",
        ),
        "ENTRY_MISPLACED": Check(
            _W,
            "An entry does not lie where its kind and address belong, or has several addresses.",
            "Postfix and the API find it by its address; iRedAdmin does not, nor do the lookups of "
            "BCC addresses and relay hosts.",
        ),
        "DOMAIN_STATUS_MISSING": Check(
            _E,
            "An account of a disabled domain is not marked as such.",
            "Postfix and Dovecot look at accounts only: it gets mail, and its user can log in.",
            "The account is marked.",
        ),
        "DOMAIN_STATUS_LEFT": Check(
            _E,
            "An account is marked as one of a disabled domain, but the domain is active.",
            "It gets no mail and its user cannot log in.",
            "The mark is removed.",
        ),
        "TWIN_MISSING": Check(
            _E,
            "An account or a member of a list lacks its address in an alias domain.",
            "LDAP rewrites no domains: mail to that address is refused.",
            "The address is added, unless somebody else has it.",
        ),
        "ALIAS_ADDRESS_WITHOUT_DOMAIN": Check(
            _W,
            "An account has an address in a domain that is neither hosted nor an alias domain.",
            "It is dead, and comes to life when somebody adds the domain.",
            "The address is removed.",
        ),
        "ADDRESS_TWICE": Check(
            _E,
            "Two accounts have the same address.",
            "Mail goes to both, or to one of them by chance.",
        ),
        "ALIAS_ADDRESS_SHARED": Check(
            _W,
            "An alias address belongs to more than one user.",
            "Each of them gets the mail, and may send under the address.",
        ),
        "MAILBOX_SHARED": Check(
            _E,
            "Two users have the same mailbox directory.",
            "They read and delete each other's mail.",
        ),
        "MAILBOX_IN_REMOVAL_QUEUE": Check(
            _E,
            "The directory of a living mailbox waits in the queue of deleted ones.",
            "The clean-up job removes the user's mail on the day that the row names.",
            "The row is taken out of the queue.",
        ),
        "DATE_UNKNOWN": Check(
            _N,
            "What is stored as a date is none: zeros, month 0, infinity, beyond year 9999, text.",
            "The API shows and takes it for no date; other programs may fail on it, and on MariaDB"
            " a table that holds it may refuse to be altered.",
        ),
        "LOGIN_NETWORKS_EMPTY": Check(
            _E,
            "The list of networks that a user may log in from is empty, not absent.",
            "Dovecot lets the user in from nowhere.",
            "The list is removed: any network, as for users without one.",
        ),
        "SOGO_SWITCH_NUMERIC": Check(
            _W,
            "A SOGo switch holds 0 or 1 instead of n or y.",
            "SOGo does not understand it.",
            "0 becomes n, 1 becomes y.",
        ),
        "USER_NAME_REFUSED": Check(
            _E,
            "A user's address has characters that Dovecot refuses in names.",
            "The user cannot log in, and Dovecot 2.3 delivers no mail to it. Change its address, or"
            " widen Dovecot's `auth_username_chars` and IREDAPI_AUTH_USERNAME_CHARS.",
        ),
        "PASSWORD_BARE_CRYPT": Check(
            _W,
            "A crypt hash is stored without its scheme, or with one that Dovecot does not know.",
            "Dovecot 2.4 has no default scheme: the user cannot log in.",
            "The right scheme is put in front; the hash stays.",
        ),
        "PASSWORD_WITHOUT_SCHEME": Check(
            _W,
            "A password is stored without a scheme.",
            "Nobody can tell what it is; Dovecot 2.4 refuses the user.",
        ),
        "PASSWORD_SPELLING": Check(
            _W,
            "A password's scheme is not spelt as slapd spells it.",
            "Dovecot 2.3 lets slapd check the password: the user cannot log in.",
            "The scheme is spelt anew; the hash stays.",
        ),
        "PASSWORD_UNKNOWN_TO_SLAPD": Check(
            _N,
            "slapd cannot check a password's scheme.",
            "Dovecot 2.3 lets slapd check passwords: the user cannot log in. 2.4 checks itself.",
        ),
        "INTERNAL_SERVICE_OFF": Check(
            _N,
            "A service that Dovecot itself needs is switched off for a user.",
            "doveadm, quota, indexing or shared folders fail for the user.",
        ),
        "LIST_WITHOUT_ID": Check(
            _W,
            "A mailing list has no id.",
            "A second list without one cannot be stored.",
        ),
        # Routes.
        "LIST_UNDELIVERABLE": Check(
            _E,
            "A subscribable list lacks the services or the transport that bring mail to it.",
            "Mail to it is refused or bounces.",
            "What is missing is added.",
        ),
        "LIST_MARK_WRONG": Check(
            _N,
            "A list's mark for having members is wrong.",
            "The panel shows it wrongly; nothing else reads it.",
            "The mark is corrected.",
        ),
        "MEMBER_OF_NO_LIST": Check(
            _W,
            "Somebody is a member of a list that does not exist.",
            "Postfix looks at members only: the list still gets mail that no panel shows.",
        ),
        "MEMBER_NAME_DEAD": Check(
            _W,
            "A list names the entry of a member that does not exist.",
            "SOGo expands the list with it.",
            "The name is removed.",
        ),
        "USER_WITHOUT_ROUTE": Check(
            _E,
            "A mail user has no row in forwardings, not even its own.",
            "A catch-all takes the user's mail, and mail through alias domains is refused.",
            "The user's own row is added.",
        ),
        "DISABLED_USER_ROUTED": Check(
            _W,
            "A route from or to a disabled user is active.",
            "Mail is accepted and bounces later, to forged senders too.",
            "The route is made inactive; it comes back when the user is enabled.",
        ),
        "ACTIVE_USER_NOT_ROUTED": Check(
            _E,
            "The own row of an active user is inactive.",
            "Mail to the user is refused, or goes to the catch-all.",
            "The row is made active.",
        ),
        "DISABLED_ALIAS_ROUTED": Check(
            _E,
            "A disabled alias or list has active routes.",
            "It still gets mail: Postfix looks at nothing but the routes.",
            "The routes are made inactive.",
        ),
        "ACTIVE_ALIAS_NOT_ROUTED": Check(
            _W,
            "An active alias or list has an inactive route, to nobody who is disabled.",
            "The member gets no mail.",
            "The route is made active.",
        ),
        "LIST_WITHOUT_ROUTE": Check(
            _E,
            "A mailing list has no row in forwardings.",
            "Postfix refuses mail to it as unknown.",
            "The row is added.",
        ),
        "LIST_ADDRESS_OPEN": Check(
            _W,
            "A mailing list that takes mail from some domains only has another address.",
            "iRedAPD does not know that address as the list's: everybody can send to it.",
        ),
        "ALIAS_CLOSED": Check(
            _W,
            "Only moderators may send to an alias, and it has none.",
            "iRedAPD refuses everybody. Name moderators, or change its accessPolicy.",
        ),
        "SELF_ROUTE_WITHOUT_ACCOUNT": Check(
            _E,
            "A row sends an address to itself, but there is no such user or list.",
            "Mail is accepted and bounces; the address counts as taken.",
            "The row is removed.",
        ),
        "FORWARDING_WITHOUT_USER": Check(
            _W,
            "An address is forwarded, but there is no such user.",
            "Mail flows although no panel shows it. Make an alias of it, or remove the rows.",
            named="The row is removed.",
        ),
        "MEMBERS_WITHOUT_ALIAS": Check(
            _W,
            "There are members of an alias that does not exist.",
            "Mail flows although no panel shows it. Make the alias, or remove the rows.",
            named="The row is removed.",
        ),
        "ALIAS_ADDRESS_WITHOUT_USER": Check(
            _E,
            "An alias address belongs to a user that does not exist.",
            "Mail is accepted and bounces; the address counts as taken.",
            "The row is removed.",
        ),
        "ALIAS_OF_ITSELF": Check(
            _E,
            "An alias is its own member.",
            "Mail to it looks for a mailbox that does not exist.",
            "The member is removed.",
        ),
        "DEAD_DESTINATION": Check(
            _W,
            "Mail is sent on to an address of a hosted domain that does not exist.",
            "It bounces. Correct the address, or remove it.",
        ),
        "ROUTE_WITHOUT_DOMAIN": Check(
            _W,
            "A route is for an address whose domain is neither hosted nor a living alias domain.",
            "It is dead, and comes to life when the domain is added.",
            "The row is removed.",
        ),
        "ROUTE_DOMAIN_WRONG": Check(
            _E,
            "The domain of a route is not the mail domain that its address belongs to.",
            "The address is dead, or dies with a domain that is not its own.",
            "The right domain is stored.",
        ),
        "ROUTE_DESTINATION_WRONG": Check(
            _W,
            "The destination's domain of a route is not that of its destination.",
            "Postfix does not mind; removing a domain would leave or take the wrong rows.",
            "The right domain is stored.",
        ),
        "ROUTE_OF_FOREIGN_ADDRESS": Check(
            _E,
            "A route redirects an address of a domain that is not hosted.",
            "Mail that local users send to that stranger goes elsewhere.",
        ),
        "ROUTE_WITHOUT_KIND": Check(
            _W,
            "A route is neither a user's, an alias's, a list's nor a catch-all.",
            "Mail flows although no panel shows it.",
            named="The row is removed.",
        ),
        # What hangs on accounts.
        "BCC_DOMAIN_WRONG": Check(
            _W,
            "The domain of a user's BCC row is not that of the user.",
            "Postfix never finds it: no copies are sent.",
            "The right domain is stored.",
        ),
        "BCC_WITHOUT_ACCOUNT": Check(
            _W,
            "A BCC row is for an account or domain that does not exist.",
            "Copies are sent as soon as somebody gets the address.",
            "The row is removed.",
        ),
        "BCC_INACTIVE_BUT_USED": Check(
            _E,
            "A domain's BCC row is marked inactive.",
            "Postfix does not look at the mark: copies are still sent.",
            "The row is removed, which is what switches it off.",
        ),
        "RELAY_EMPTY": Check(
            _W,
            "A relay host is empty.",
            "Postfix warns at every mail of the sender.",
            "The row is removed.",
        ),
        "RELAY_WITH_PREFIX": Check(
            _E,
            "A relay host begins with smtp:, relay: or lmtp:.",
            "Postfix looks for a host of that name: the sender's mail stays in the queue.",
            "The prefix is removed.",
        ),
        "RELAY_WITHOUT_ACCOUNT": Check(
            _W,
            "A relay host is for an address of a hosted domain that does not exist.",
            "Whoever gets the address sends through that host.",
            "The row is removed.",
        ),
        "RELAY_OF_ALIAS": Check(
            _N,
            "A relay host is set for an alias or a mailing list.",
            "Postfix uses it for mail that is sent under that address.",
            named="The row is removed.",
        ),
        "USAGE_WITHOUT_USER": Check(
            _W,
            "Sizes or logins are stored for a user that does not exist.",
            "A new user of that address begins with them.",
            "The row is removed.",
        ),
        "SHARE_WITHOUT_USER": Check(
            _W,
            "A shared folder belongs to, or is open to, a user that does not exist.",
            "A new user of that address could read mail that was never shared with them.",
            "The row is removed.",
        ),
        "FOLDER_SHARED": Check(
            _N,
            "A user has opened folders to another one, or to anyone.",
            "Nothing is wrong; Dovecot shows these folders. Only told with `--only FOLDER_SHARED`.",
            named="The row is removed.",
        ),
        "MODERATOR_WITHOUT_LIST": Check(
            _W,
            "A moderator or owner is stored for an alias or list that does not exist.",
            "A new list of that address begins with them.",
            "The row is removed.",
        ),
        "MODERATOR_GONE": Check(
            _W,
            "A moderator or owner in a hosted domain does not exist.",
            "Whoever gets the address may post to the list, or owns it.",
            "It is removed.",
        ),
        # Rights.
        "NO_GLOBAL_ADMIN": Check(
            _E,
            "There is no active global admin.",
            "Nobody can manage admins and domains: iredapi admin create --global makes one.",
        ),
        "ADMIN_WITHOUT_ACCOUNT": Check(
            _E,
            "Rights are stored for an admin that does not exist.",
            "Whoever gets the address gets the rights.",
            "It is removed.",
        ),
        "ADMIN_OF_NO_DOMAIN": Check(
            _W,
            "Rights are stored for a domain that is not hosted.",
            "When somebody adds the domain, the old admin manages it.",
            "The row is removed.",
        ),
        "GLOBAL_MARK_WITHOUT_ALL": Check(
            _W,
            "A mail user is marked as global admin and has no ALL row.",
            "The user logs in as global admin, but others do not see a global admin.",
            "The ALL row is added: the login already has the rights.",
        ),
        "ALL_WITHOUT_GLOBAL_MARK": Check(
            _E,
            "A mail user has an ALL row and is not marked as global admin.",
            "Parts of the system see a global admin, others do not: set isGlobalAdmin.",
        ),
        "ADMIN_MARK_WITHOUT_DOMAIN": Check(
            _W,
            "A mail user is marked as admin and manages nothing.",
            "The user can log in as an admin without rights.",
            "The mark is removed.",
        ),
        "DOMAIN_WITHOUT_ADMIN_MARK": Check(
            _W,
            "A mail user manages a domain and is not marked as admin.",
            "The user cannot log in as admin; the rights revive with the mark.",
        ),
        "ADMIN_IN_HOSTED_DOMAIN": Check(
            _W,
            "A standalone admin's address is in a hosted domain.",
            "A mail user of that name would share its rights.",
        ),
        "ADMIN_WITHOUT_RIGHTS": Check(
            _N,
            "A standalone admin manages no domain and may create none.",
            "It can log in and do nothing.",
        ),
        # Amavisd, iRedAPD and the panel.
        "POLICY_WITHOUT_ACCOUNT": Check(
            _W,
            "A spam policy or wblist is for an account or domain that does not exist.",
            "It applies to whoever gets the address.",
            "What is stored for it is removed.",
        ),
        "THROTTLE_WITHOUT_ACCOUNT": Check(
            _W,
            "A throttle is for an account or domain that does not exist.",
            "It applies to whoever gets the address.",
            "The throttle and its counters are removed.",
        ),
        "GREYLISTING_WITHOUT_ACCOUNT": Check(
            _W,
            "Greylisting is set for an account or domain that does not exist.",
            "It applies to whoever gets the address.",
            "The rows are removed.",
        ),
        "PANEL_SETTING_WITHOUT_ACCOUNT": Check(
            _W,
            "The panel has settings of an account or domain that does not exist.",
            "They apply to whoever gets the address.",
            "The rows are removed.",
        ),
        "WIDER_SETTING": Check(
            _N,
            "A policy, throttle or greylisting row is for an IP address, a network, a domain above "
            "or a local part.",
            "The daemons obey it, and no call of the API shows it as an account's.",
            named="The row is removed.",
        ),
        "GREYLISTING_OF_SENDER": Check(
            _N,
            "Greylisting is set for an account and one sender.",
            "iRedAPD obeys it; no call of the API sets it.",
            named="The account's rows of this kind are removed.",
        ),
        "POLICY_OF_EVERYBODY": Check(
            _E,
            "An account is tied to the global spam policy.",
            "The global policy wins over the domain's for this account.",
            "The tie is cut: the account inherits as usual.",
        ),
        "POLICY_MISSING": Check(
            _W,
            "An account is tied to a spam policy that does not exist.",
            "It inherits; a policy that gets the number would apply to it.",
            "The tie is cut.",
        ),
        "POLICY_OF_ANOTHER": Check(
            _W,
            "An account is tied to another account's spam policy.",
            "Changing the one changes the other.",
        ),
        "POLICY_LOSES_MAIL": Check(
            _W,
            "A spam policy neither delivers nor keeps a kind of mail.",
            "Such mail is lost without a trace.",
        ),
        "PRIORITY_WRONG": Check(
            _E,
            "The priority of a policy is not that of its kind of account.",
            "A wider setting wins over a narrower one, or chance decides.",
            "The right priority is stored.",
        ),
        "WBLIST_DANGLING": Check(
            _W,
            "A wblist entry names an account or address that is not there.",
            "It is dead, and applies to a stranger when the number is given out again.",
            "The row is removed.",
        ),
        "POLICY_NOT_LOWER_CASE": Check(
            _W,
            "A policy's account is stored with upper-case letters.",
            "The daemons ask in lower case: it has no effect.",
        ),
        "THROTTLE_TWICE": Check(
            _W,
            "An account has two throttles of the same kind.",
            "Chance decides which one counts. Setting it once through the API makes one of them.",
        ),
        "THROTTLE_WITHOUT_PERIOD": Check(
            _W,
            "A throttle has a period of 0 seconds.",
            "The daemon skips it: nothing is limited.",
        ),
        "SPF_ROW_WITHOUT_DOMAIN": Check(
            _W,
            "Addresses are whitelisted for a sender domain that is not listed any more.",
            "They are never greylisted, and no job refreshes them.",
            "The rows are removed.",
        ),
        "OWNERSHIP_EXPIRES_AT_ONCE": Check(
            _W,
            "A pending proof of ownership carries a date where the clean-up expects seconds.",
            "The hourly job removes it before it can be used.",
            "The date is removed.",
        ),
    }
)


def document() -> str:
    """Return ``docs/doctor.md``: every code, what it means, and what ``--fix`` does."""
    lines = [
        "# iredapi doctor",
        "",
        "Generated by `iredapi docs doctor`; a test keeps it true. `iredapi doctor` looks at every",
        "database and server of the configuration and says what is wrong. It changes nothing;",
        "`iredapi doctor --fix` repairs what has one right answer, and writes to the panel's log",
        "what it did. `--only CODE` limits both, `--json` prints one JSON object. Run it with the",
        "service running: each repair looks again under a lock.",
        "",
        "Rows are removed with care. None is when the account storage holds no domain, or when",
        "more than 10 percent and more than 20 rows of a table would go: that is",
        "`REMOVAL_HELD_BACK`, with the number, and exit status 1. `--remove-strays NUMBER` allows",
        "so many rows of each table. What is removed is written to a file before, as SQL that puts",
        "it back: `doctor-TIME-DATABASE.sql` in `IREDAPI_DATA_DIR` (`--removed-to DIRECTORY`:",
        "there), readable by its owner only. The report names it. When it cannot be written",
        "nothing is removed, and the exit status is 2.",
        "",
        "Exit status: 0 nothing is wrong (or everything was fixed; notes do not count), 1",
        "something is, also when a removal was held back, 2 the configuration is wrong, 3",
        "something could not be examined.",
        "",
        "| code | severity | what is wrong | what it means | `--fix` |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{code}` | {check.severity} | {check.sentence} | {check.meaning} | {_repair(check)} |"
        for code, check in CHECKS.items()
    ]
    return "\n".join(lines) + "\n"
