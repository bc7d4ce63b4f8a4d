"""Every update parameter on every database: what it changes, and that nothing else changes.

One case for each parameter: sent alone with a good value, sent empty, sent as nonsense. All rows of
all databases are compared before and after. A new parameter without a case fails.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from iredapi.domain import services, suspension
from iredapi.domain.passwords import Scheme, hash_password, verify_password
from iredapi.schemas.admins import AdminEdit
from iredapi.schemas.aliases import AliasDraft, AliasEdit, AliasFilter
from iredapi.schemas.domains import (
    DomainAdmins,
    DomainDraft,
    DomainEdit,
    DomainFilter,
    DomainView,
    Keep,
)
from iredapi.schemas.params import Params
from iredapi.schemas.users import UserDraft, UserEdit, UserFilter, UsersEdit, UserView
from tests.clients import Client
from tests.servers import rich
from tests.servers.snapshot import Arranged, Arrangement, Difference, Opened, moment
from tests.servers.store import Store

pytestmark = pytest.mark.sql_only(
    "exact rows of vmail; tests/contract/test_canonical.py compares what OpenLDAP holds"
)

EMPTY = "EMPTY_NOT_ALLOWED"
PASSWORD = "Brand-New-Pass1"
HASHED = hash_password("Made-Elsewhere1", Scheme.SSHA512)
CONTROL = "a\nb"
LONG = "x" * 256
NOTHING: Difference = {}


class _Recent:
    """Equals every time of the last minute, in UTC."""

    def __eq__(self, other: object) -> bool:
        now = datetime.now(UTC).replace(tzinfo=None)
        return now - timedelta(minutes=1) < moment(other) < now + timedelta(seconds=2)

    def __repr__(self) -> str:
        return "RECENT"

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class _HashOf:
    """Equals every hash of a password that names its scheme."""

    plain: str

    def __eq__(self, other: object) -> bool:
        hashed = str(other)
        return hashed.startswith("{SSHA512}") and verify_password(self.plain, hashed)

    __hash__ = None  # type: ignore[assignment]


RECENT: Any = _Recent()
NEW_PASSWORD = {"password": _HashOf(PASSWORD), "passwordlastchange": RECENT}


@dataclass(frozen=True)
class Case:
    """One parameter. ``empty`` is what changes when it is sent empty, or the code of the error."""

    param: str
    good: str
    changes: Difference
    empty: Difference | str
    nonsense: tuple[str, ...]
    more: Mapping[str, str] = field(default_factory=dict)
    """What must be sent together with it, and changes nothing itself (see ``changes``)."""
    path: str = ""
    """Where to send it, when it is not the form's usual target."""


def _domain(**columns: Any) -> Difference:
    return {"~domain ex.com": columns}


def _settings(**keys: str) -> Difference:
    return _domain(settings=rich.changed(rich.DOMAIN_SETTINGS, **keys))


def _admin(**columns: Any) -> Difference:
    return {"~admin norm@admins.test": columns}


def _limits(**keys: str) -> Difference:
    return _admin(settings=rich.changed(rich.ADMIN_SETTINGS, **keys))


def _user(**columns: Any) -> Difference:
    return {"~mailbox u@ex.com": columns}


def _all_users(**columns: Any) -> Difference:
    mails = ("u@ex.com", "v@ex.com", "w@ex.com", "boss@ex.com")
    return {f"~mailbox {mail}": columns for mail in mails}


def _alias(**columns: Any) -> Difference:
    return {"~alias list@ex.com": columns}


def _route(forwarding: str, domain: str = "ex.com", **flags: int) -> dict[str, Any]:
    """Return what is told of a new, active row of ``forwardings``."""
    destination = forwarding.rpartition("@")[2]
    return {"domain": domain, "dest_domain": destination, "active": 1, **flags}


def _moderators(*names: str) -> Difference:
    return {
        f"+moderators list@ex.com {name}": {
            "domain": "ex.com",
            "dest_domain": name.partition("@")[2],
        }
        for name in names
    }


def _off(*routes: str) -> Difference:
    return {f"~forwardings {route}": {"active": 0} for route in routes}


def _services(*, but: str = "") -> dict[str, Any]:
    """Return the columns of ``u@ex.com`` that a reset of its services changes.

    ``enablepop3`` and ``enablesogocalendar`` are off already, and ``enabledsync`` is nobody's.
    """
    kept = {*but.split(), "pop3", "sogocalendar"}
    return {
        f"enable{name}": "n" if name in services.YES_NO_COLUMNS else 0
        for name in services.MANAGED - kept
    }


def _suspended(before: str) -> dict[str, Any]:
    """Return the columns of a user like ``u@ex.com`` that its suspension changes."""
    on = ",".join(sorted(suspension.LOGINS - {"pop3", "sogocalendar"}))
    settings = f"{before}timezone:Asia/Shanghai;".replace("*", on)
    return {**_services(but="deliver lda lmtp"), "settings": settings}


def _bcc(side: str, what: str, key: str) -> tuple[Difference, Difference]:
    table = f"{side}_bcc_{what} {key}"
    return {f"~{table}": {"bcc_address": "new@far.org"}}, {f"-{table}": {}}


NO_NUMBERS = ("-2", "12MB", "1.5", "", "9" * 25)
NO_MAILS = ("nobody", "a@b", "a b@c.com", "a@c.com\nb@c.com")
NO_LANGUAGES = ("klingon", "de_DE;x:1", "de\nx")
NO_PASSWORDS = ("short", "all-lower-case-1", "Ümläute-Aa1-x", "{SSHA512}abcdefgh")
NO_HOSTS = ("a b", "[10.0.0.2]:99999", "300.1.1.1", "smtp:", "[", "a\nb")


def _numbers(*more: str) -> tuple[str, ...]:
    return tuple(value for value in (*NO_NUMBERS, *more) if value)


DOMAIN_CASES = (
    Case("name", "Neue & Söhne", _domain(description="Neue & Söhne"), _domain(description=""),
         (CONTROL, LONG)),
    Case("accountStatus", "disabled", _domain(active=0), EMPTY, ("perhaps", "2", "active,")),
    Case("quota", "2048", _domain(maxquota=2048), EMPTY, _numbers("-1")),
    Case("language", "fr_FR", _settings(default_language="fr_FR"), _settings(default_language=""),
         NO_LANGUAGES),
    Case("transport", "smtp:[10.0.0.9]:25", _domain(transport="smtp:[10.0.0.9]:25"),
         _domain(transport="dovecot"), ("a b", "dovecot\nx", "ü:", ":x", "x" * 256)),
    Case("defaultQuota", "2048", _settings(default_user_quota="2048"), EMPTY, _numbers("-1")),
    Case("maxUserQuota", "8192", _settings(max_user_quota="8192"), EMPTY, _numbers("-1")),
    Case("numberOfUsers", "30", _domain(mailboxes=30), EMPTY, _numbers("2147483648")),
    Case("numberOfAliases", "-1", _domain(aliases=-1), EMPTY, _numbers("2147483648")),
    Case("numberOfLists", "0", _domain(maillists=0), EMPTY, _numbers("2147483648")),
    Case("senderBcc", "new@far.org", *_bcc("sender", "domain", "ex.com"),
         (*NO_MAILS, "a@b.com,c@d.com")),
    Case("recipientBcc", "NEW@far.org", *_bcc("recipient", "domain", "ex.com"),
         (*NO_MAILS, "a@b.com,c@d.com")),
    Case("minPasswordLength", "12", _settings(min_passwd_length="12"), EMPTY, _numbers("256")),
    Case("maxPasswordLength", "0", _settings(max_passwd_length=""), EMPTY, _numbers("256")),
    Case("is_backupmx", "yes", _domain(backupmx=1, transport="relay:"), EMPTY, ("maybe", "-")),
    Case("primarymx", "10.0.0.1", _domain(backupmx=1, transport="relay:[10.0.0.1]"), EMPTY,
         ("a b", "300.1.1.1", "host:99999", "smtp:[10.0.0.1]"), more={"is_backupmx": "yes"}),
    Case("catchall", "v@ex.com, far@gmail.com",
         {"-forwardings ex.com u@ex.com": {},
          "+forwardings ex.com v@ex.com": _route("v@ex.com"),
          "+forwardings ex.com far@gmail.com": _route("far@gmail.com")},
         {"-forwardings ex.com u@ex.com": {}},
         (*NO_MAILS, "v@ex.com,nonsense", "@far.org")),
    Case("outboundRelay", "smtp:[10.0.0.2]:25",
         {"~sender_relayhost @ex.com": {"relayhost": "[10.0.0.2]:25"}},
         {"-sender_relayhost @ex.com": {}}, NO_HOSTS),
    Case("addAliasDomain", "New.com",
         {"+alias_domain new.com": {"target_domain": "ex.com", "active": 1}}, NOTHING,
         ("nodot", "a b.com", "-x.com", "new.com,n_w.com", "ex.com")),
    Case("removeAliasDomain", "al.com",
         {"-alias_domain al.com": {}, "-forwardings bob@al.com u@ex.com": {},
          "-forwardings val@al.com v@ex.com": {}},
         NOTHING, ("nodot", "a b.com")),
    Case("aliasDomains", "al.com,new.com",
         {"-alias_domain al2.com": {}, "-domain_ownership norm@admins.test ex.com al2.com": {},
          "+alias_domain new.com": {"target_domain": "ex.com", "active": 1}},
         {"-alias_domain al.com": {}, "-alias_domain al2.com": {},
          "-domain_ownership norm@admins.test ex.com al2.com": {},
          "-forwardings bob@al.com u@ex.com": {}, "-forwardings val@al.com v@ex.com": {}},
         ("nodot", "new.com,a b.com")),
    Case("addService", "self-service,ldap-only",
         {"~domain other.com": {
             "settings": rich.changed(rich.DOMAIN_SETTINGS, enabled_services="")
             + "enabled_services:self-service;"}},
         NOTHING, (), path="domain/other.com"),
    Case("removeService", "self-service,ldap-only", _settings(enabled_services=""), NOTHING, ()),
    Case("services", "ldap-only", _settings(enabled_services=""), _settings(enabled_services=""),
         ()),
    Case("suspend", "yes",
         {"~domain other.com": {
             "settings": rich.changed(rich.DOMAIN_SETTINGS, enabled_services="")
             + "suspended:yes;"},
          "~mailbox x@other.com": {**_suspended("domain_suspended_services:*,none;"),
                                   "modified": RECENT}},
         EMPTY, ("perhaps", "2"), path="domain/other.com"),
    Case("disableDomainProfile", "aliases,bcc",
         _settings(disabled_domain_profiles="aliases,bcc,relay"), NOTHING, ("nonsense", "bcc,x")),
    Case("enableDomainProfile", "bcc", _settings(disabled_domain_profiles="relay"), NOTHING,
         ("nonsense",)),
    Case("disableUserProfile", "aliases",
         _settings(disabled_user_profiles="aliases,bcc,forwarding"), NOTHING,
         ("nonsense", "catchall")),
    Case("enableUserProfile", "bcc,forwarding", _settings(disabled_user_profiles=""), NOTHING,
         ("nonsense",)),
    Case("disableUserPreference", "personal_info",
         _settings(disabled_user_preferences="personal_info,quarantine,wblist"), NOTHING,
         ("nonsense",)),
    Case("enableUserPreference", "wblist", _settings(disabled_user_preferences="quarantine"),
         NOTHING, ("nonsense",)),
)  # fmt: skip

_NO_BOSS: Difference = {
    "-domain_admins boss@ex.com ex.com": {},
    "~mailbox boss@ex.com": {"isadmin": 0},
}
_NO_ADMINS: Difference = {
    **_NO_BOSS,
    "-domain_admins norm@admins.test ex.com": {},
    "-domain_admins x@other.com ex.com": {},
}
DOMAIN_ADMINS_CASES = (
    Case("addAdmin", "v@ex.com,gone@admins.test,nobody@ex.com",
         {"+domain_admins v@ex.com ex.com": {"active": 1}, "~mailbox v@ex.com": {"isadmin": 1},
          "+domain_admins gone@admins.test ex.com": {"active": 1}},
         NOTHING, NO_MAILS),
    Case("removeAdmin", "boss@ex.com,x@other.com",
         {**_NO_BOSS, "-domain_admins x@other.com ex.com": {}}, NOTHING, NO_MAILS),
    Case("removeAllAdmins", "no", _NO_ADMINS, _NO_ADMINS, ()),
)  # fmt: skip

_NOT_LIMITED: Difference = _admin(settings="timezone:Asia/Shanghai;of_the_future:x,y;")
ADMIN_CASES = (
    Case("name", "Neue Ümläute", _admin(name="Neue Ümläute"), _admin(name=""), (CONTROL, LONG)),
    Case("password", PASSWORD, _admin(**NEW_PASSWORD), "PW_EMPTY", NO_PASSWORDS),
    Case("accountStatus", "disabled", _admin(active=0), EMPTY, ("perhaps", "2")),
    Case("language", "fr_FR", _admin(language="fr_FR"), _admin(language=""), NO_LANGUAGES),
    Case("isGlobalAdmin", "yes",
         {**_NOT_LIMITED, "+domain_admins norm@admins.test ALL": {"active": 1}}, EMPTY,
         ("perhaps", "ALL")),
    Case("maxDomains", "7", _limits(create_max_domains="7"), EMPTY, _numbers("2147483648")),
    Case("maxQuota", "20", _limits(create_max_quota="20"), _limits(create_max_quota=""),
         _numbers("2147483648"),
         more={"quotaUnit": "GB"}),
    Case("quotaUnit", "tb", _limits(create_quota_unit="TB"), EMPTY, ("PB", "G", "GB;x:y"),
         more={"maxQuota": "10"}),
    Case("maxUsers", "-1", _limits(create_max_users="-1"), EMPTY, _numbers("2147483648")),
    Case("maxAliases", "0", _limits(create_max_aliases=""), EMPTY, _numbers("2147483648")),
    Case("maxLists", "21", _limits(create_max_lists="21"), EMPTY, _numbers("2147483648")),
    Case("disableViewingMailLog", "no", _limits(disable_viewing_mail_log=""), EMPTY, ("perhaps",)),
    Case("disableManagingQuarantinedMails", "yes",
         _limits(disable_managing_quarantined_mails="yes"), EMPTY, ("perhaps",)),
)  # fmt: skip

_OF_U = (
    "u@ex.com u@ex.com", "u@ex.com far@gmail.com", "bob@ex.com u@ex.com", "bob@al.com u@ex.com",
    "ex.com u@ex.com", "list@ex.com u@ex.com", "olist@other.com u@ex.com", "x@other.com u@ex.com",
)  # fmt: skip
USER_CASES = (
    Case("name", "Neue Ümläute", _user(name="Neue Ümläute"), _user(name=""), (CONTROL, LONG)),
    Case("gn", "G", _user(first_name="G"), _user(first_name=""), (CONTROL, LONG)),
    Case("sn", "S", _user(last_name="S"), _user(last_name=""), (CONTROL, LONG)),
    Case("employeeid", "E-5", _user(employeeid="E-5"), _user(employeeid=""), (CONTROL, LONG)),
    Case("mobile", "+49 170", _user(mobile="+49 170"), _user(mobile=""), (CONTROL, LONG)),
    Case("telephoneNumber", "+49 30", _user(telephone="+49 30"), _user(telephone=""),
         (CONTROL, LONG)),
    Case("password", PASSWORD, _user(**NEW_PASSWORD), "PW_EMPTY", NO_PASSWORDS),
    Case("password_hash", HASHED, _user(password=HASHED, passwordlastchange=RECENT), EMPTY,
         ("plain", "{NOSUCH}abcdef", "{SSHA512}abc", "{PLAIN}" + "x" * 255)),
    Case("language", "fr_FR", _user(language="fr_FR"), _user(language=""), NO_LANGUAGES),
    Case("quota", "2048", _user(quota=2048), EMPTY, _numbers("-1")),
    Case("accountStatus", "disabled", {**_user(active=0), **_off(*_OF_U)}, EMPTY,
         ("perhaps", "2")),
    Case("isGlobalAdmin", "yes",
         {**_user(isglobaladmin=1), "+domain_admins u@ex.com ALL": {"active": 1}}, EMPTY,
         ("perhaps", "ALL")),
    Case("mailboxFormat", "MDBOX", _user(mailboxformat="mdbox"), EMPTY, ("mbox", "maildir:x")),
    Case("mailboxFolder", "Mail", _user(mailboxfolder="Mail"), EMPTY, ("../x", "a b", "x" * 21)),
    Case("maildir", "/var/vmail/vmail1/ex.com/New/", _user(maildir="ex.com/new"), EMPTY,
         ("relative/path", "/etc/passwd", "/var/vmail/vmail1", "/var/vmail/vmail1/../x",
          "/var/vmail/vmail1/ex.com", f"/var/vmail/vmail1/{rich.MAILDIRS['v@ex.com']}",
          "/var/vmail/vmail1/%d/x", "/var/vmail/vmail1/a\nb", "/var/vmail/vmail1/" + LONG)),
    Case("transport", "smtp:[10.0.0.9]", _user(transport="smtp:[10.0.0.9]"), _user(transport=""),
         ("a b", "dovecot\nx", ":x", "x" * 256)),
    Case("forwarding", "v@ex.com,new@far.org",
         {"-forwardings u@ex.com u@ex.com": {}, "-forwardings u@ex.com far@gmail.com": {},
          "+forwardings u@ex.com v@ex.com": _route("v@ex.com", is_forwarding=1),
          "+forwardings u@ex.com new@far.org": _route("new@far.org", is_forwarding=1)},
         {"-forwardings u@ex.com far@gmail.com": {}}, (*NO_MAILS, "new@far.org,nonsense")),
    Case("addForwarding", "New@far.org, ,far@gmail.com",
         {"+forwardings u@ex.com new@far.org": _route("new@far.org", is_forwarding=1)}, NOTHING,
         NO_MAILS),
    Case("removeForwarding", "far@gmail.com,other@far.org",
         {"-forwardings u@ex.com far@gmail.com": {}}, NOTHING, NO_MAILS),
    Case("senderBcc", "new@far.org", *_bcc("sender", "user", "u@ex.com"),
         (*NO_MAILS, "a@b.com,c@d.com")),
    Case("recipientBcc", "new@far.org", *_bcc("recipient", "user", "u@ex.com"),
         (*NO_MAILS, "a@b.com,c@d.com")),
    Case("aliases", "carl@ex.com,bob@al.com",
         {"-forwardings bob@ex.com u@ex.com": {},
          "+forwardings carl@ex.com u@ex.com": _route("u@ex.com", is_alias=1)},
         {"-forwardings bob@ex.com u@ex.com": {}, "-forwardings bob@al.com u@ex.com": {}},
         (*NO_MAILS, "x@gmail.com", "y@other.com", "a+b@ex.com", "-a@ex.com")),
    Case("addAlias", "carl@al2.com,carl@ex.com",
         {"+forwardings carl@al2.com u@ex.com": _route("u@ex.com", is_alias=1),
          "+forwardings carl@ex.com u@ex.com": _route("u@ex.com", is_alias=1)},
         NOTHING, (*NO_MAILS, "x@gmail.com", "y@other.com", "a+b@ex.com")),
    Case("removeAlias", "bob@al.com,val@al.com", {"-forwardings bob@al.com u@ex.com": {}}, NOTHING,
         NO_MAILS),
    Case("services", "imaptls,deliver,no-such,lib-storage",
         _user(**_services(but="imaptls deliver lda lmtp")), _user(**_services()), ()),
    Case("suspend", "yes", _user(**_suspended("suspended_services:*;")), EMPTY,
         ("perhaps", "2")),
    Case("addService", "pop3,sogocalendar,dsync", _user(enablepop3=1, enablesogocalendar="y"),
         NOTHING, ()),
    Case("removeService", "imap,sogowebmail,managesieve,doveadm",
         _user(enableimap=0, enablesogowebmail="n", enablemanagesieve=0, enablesieve=0), NOTHING,
         ()),
)  # fmt: skip

_ROUTES_OF_ALL = (
    *_OF_U, "v@ex.com v@ex.com", "v@ex.com far@gmail.com", "val@al.com v@ex.com",
    "list@ex.com v@ex.com", "boss@ex.com boss@ex.com",
)  # fmt: skip
USERS_CASES = (
    Case("accountStatus", "disabled",
         {"~mailbox u@ex.com": {"active": 0}, "~mailbox v@ex.com": {"active": 0},
          "~mailbox boss@ex.com": {"active": 0}, **_off(*_ROUTES_OF_ALL)},
         EMPTY, ("perhaps",)),
    Case("password", PASSWORD, _all_users(**NEW_PASSWORD), "PW_EMPTY", NO_PASSWORDS),
    Case("language", "fr_FR", _all_users(language="fr_FR"),
         {"~mailbox u@ex.com": {"language": ""}, "~mailbox v@ex.com": {"language": ""}},
         NO_LANGUAGES),
    Case("transport", "smtp:[10.0.0.9]", _all_users(transport="smtp:[10.0.0.9]"),
         {"~mailbox u@ex.com": {"transport": ""}, "~mailbox v@ex.com": {"transport": ""}},
         ("a b", "dovecot\nx", ":x")),
    Case("quota", "2048", _all_users(quota=2048), EMPTY, _numbers("-1")),
)  # fmt: skip

_MEMBERS = ("list@ex.com u@ex.com", "list@ex.com v@ex.com", "list@ex.com far@gmail.com")
ALIAS_CASES = (
    Case("name", "Neue Ümläute", _alias(name="Neue Ümläute"), _alias(name=""), (CONTROL, LONG)),
    Case("accountStatus", "disabled", {**_alias(active=0), **_off(*_MEMBERS)}, EMPTY,
         ("perhaps", "2")),
    Case("accessPolicy", "MembersOnly", _alias(accesspolicy="membersonly"), EMPTY,
         ("everybody", "public,domain")),
    Case("members", "v@ex.com,new@far.org,list@ex.com",
         {"-forwardings list@ex.com u@ex.com": {}, "-forwardings list@ex.com far@gmail.com": {},
          "+forwardings list@ex.com new@far.org": _route("new@far.org", is_list=1)},
         {f"-forwardings {route}": {} for route in _MEMBERS},
         (*NO_MAILS, "new@far.org,nonsense")),
    Case("addMember", "new@far.org,u@ex.com,list@ex.com,nobody@ex.com",
         {"+forwardings list@ex.com new@far.org": _route("new@far.org", is_list=1)}, NOTHING,
         NO_MAILS),
    Case("removeMember", "far@gmail.com,bob@ex.com",
         {"-forwardings list@ex.com far@gmail.com": {}}, NOTHING, NO_MAILS),
    Case("moderators", "v@ex.com,new@far.org,*@far.org,*@ex.com,nobody@ex.com",
         {"-moderators list@ex.com u@ex.com": {}, "-moderators list@ex.com x@other.com": {},
          **_moderators("new@far.org", "*@far.org", "*@ex.com")},
         {f"-moderators list@ex.com {who}": {} for who in ("u@ex.com", "v@ex.com", "x@other.com")},
         NO_MAILS),
    Case("addModerator", "new@far.org,u@ex.com,nobody@ex.com", _moderators("new@far.org"), NOTHING,
         NO_MAILS),
    Case("removeModerator", "U@ex.com,bob@ex.com", {"-moderators list@ex.com u@ex.com": {}},
         NOTHING, NO_MAILS),
)  # fmt: skip

FORMS: Mapping[type[Params], tuple[str, tuple[Case, ...]]] = {
    DomainEdit: ("domain/ex.com", DOMAIN_CASES),
    DomainAdmins: ("domain/admins/ex.com", DOMAIN_ADMINS_CASES),
    AdminEdit: ("admin/norm@admins.test", ADMIN_CASES),
    UserEdit: ("user/u@ex.com", USER_CASES),
    UsersEdit: ("users/ex.com", USERS_CASES),
    AliasEdit: ("alias/list@ex.com", ALIAS_CASES),
}
NO_UPDATES = {
    DomainDraft, DomainFilter, DomainView, Keep, UserDraft, UserFilter, UserView, AliasDraft,
    AliasFilter,
}  # fmt: skip

# What a single case for each parameter does not show.
EXTRAS: Mapping[str, tuple[str, Mapping[str, str], Difference]] = {
    "accounts-of-a-disabled-domain": ("domain/ex.com", {"accountStatus": "active"}, NOTHING),
    "no-backup-mx-is-none": ("domain/ex.com", {"is_backupmx": "no"}, NOTHING),
    "same-values": (
        "domain/ex.com",
        {"name": "Example", "quota": "100000", "catchall": "u@ex.com", "senderBcc": "bcc@x.com",
         "outboundRelay": "[10.0.0.1]:25", "aliasDomains": "al2.com,al.com",
         "services": "self-service", "language": "de_DE"},
        NOTHING,
    ),
    "another-domains-alias-domain": ("domain/ex.com", {"removeAliasDomain": "oal.com"}, NOTHING),
    "members-of-a-disabled-alias": (
        "alias/off@ex.com",
        {"addMember": "new@far.org"},
        {"+forwardings off@ex.com new@far.org": {"domain": "ex.com", "dest_domain": "far.org",
                                                 "is_list": 1}},
    ),
    "enabling-a-user-leaves-disabled-aliases-alone": (
        "user/w@ex.com",
        {"accountStatus": "active"},
        {"~mailbox w@ex.com": {"active": 1}, "~forwardings w@ex.com w@ex.com": {"active": 1}},
    ),
    "enabling-all-users-leaves-disabled-aliases-alone": (
        "users/ex.com",
        {"accountStatus": "active"},
        {"~mailbox w@ex.com": {"active": 1}, "~forwardings w@ex.com w@ex.com": {"active": 1}},
    ),
    "a-disabled-users-new-routes": (
        "user/w@ex.com",
        {"addForwarding": "new@far.org", "addAlias": "wal@al.com"},
        {"+forwardings w@ex.com new@far.org": {"domain": "ex.com", "dest_domain": "far.org",
                                               "is_forwarding": 1},
         "+forwardings wal@al.com w@ex.com": {"domain": "ex.com", "dest_domain": "ex.com",
                                              "is_alias": 1}},
    ),
    "somebody-elses-alias": ("user/u@ex.com", {"addAlias": "val@al.com,v@al.com"}, NOTHING),
    "the-last-forwarding": (
        "user/x@other.com",
        {"removeForwarding": "x@other.com,u@ex.com"},
        {"-forwardings x@other.com u@ex.com": {}},
    ),
    "forwarding-to-nobody": (
        "user/u@ex.com",
        {"forwarding": "nobody@ex.com"},
        {"-forwardings u@ex.com far@gmail.com": {}},
    ),
    "an-admin-who-may-create-no-domains": (
        "admin/norm@admins.test", {"maxDomains": "-1"},
        _limits(create_new_domains="", create_max_domains="-1"),
    ),
    "older-word-for-a-policy": (
        "alias/list@ex.com", {"accessPolicy": "allowedonly"}, _alias(accesspolicy="moderatorsonly"),
    ),
    "a-normal-admin-still": ("admin/norm@admins.test", {"isGlobalAdmin": "no"}, NOTHING),
    "self-service-goes": (
        "domain/ex.com", {"services": ""}, _settings(enabled_services=""),
    ),
    "nothing-at-all": ("user/u@ex.com", {}, NOTHING),
    "unknown-parameters": ("user/u@ex.com", {"givenname": "x", "domain": "other.com"}, NOTHING),
}  # fmt: skip


async def _fill(store: Store, _root: Client) -> None:
    await rich.fill(store)


_ARRANGEMENT = Arrangement(_fill)


@pytest_asyncio.fixture(loop_scope="session")
async def arranged(selected_store: Store, _services: Opened) -> AsyncIterator[Arranged]:
    async with _ARRANGEMENT.on(selected_store, _services) as found:
        yield found


def _touched(path: str, name: str) -> bool:
    """Tell whether a changed row is the account that the path names (or one of them)."""
    kind, _, target = path.partition("/")
    if kind == "users":
        return name.startswith("~mailbox ") and name.endswith(f"@{target}")
    table = {"user": "mailbox"}.get(kind, kind)
    return name == f"~{table} {target}"


def _without_marks(path: str, found: Difference) -> tuple[Difference, bool]:
    """Take ``modified`` of the touched accounts away; tell whether it was there."""
    marked = False
    rest: Difference = {}
    for name, columns in found.items():
        values = dict(columns)
        if _touched(path, name) and "modified" in values:
            assert values.pop("modified") == RECENT, name
            marked = True
            if not values:
                continue
        if name == "~mailbox u@ex.com" and values.get("isglobaladmin") == 1:
            # The other mark of an admin: both kinds of rows exist in the field.
            values.pop("isadmin", None)
        rest[name] = values
    return rest, marked


async def _check(
    arranged: Arranged, path: str, sent: Mapping[str, str], wanted: Difference
) -> None:
    status, answer = await arranged.root.call("PUT", path, data=dict(sent))
    assert (status, answer["_success"]) == (200, True), answer
    found, marked = _without_marks(path, await arranged.changes())
    assert found == wanted
    if path.startswith("users/"):
        return
    # Whoever changes an account says so.
    if wanted and "/admins/" not in path:
        assert marked
    if not wanted:
        assert not marked


CASES = [
    pytest.param(form, case, id=f"{form.__name__}-{case.param}")
    for form, (_, cases) in FORMS.items()
    for case in cases
]


@pytest.mark.parametrize("form,case", CASES)
async def test_parameter(arranged: Arranged, form: type[Params], case: Case) -> None:
    path = case.path or FORMS[form][0]
    # Most are refused before any database is asked: all of them on one, some on all.
    nonsense = case.nonsense if arranged.store.name == "sqlite" else case.nonsense[-2:]
    for value in nonsense:
        sent = {**case.more, case.param: value}
        status, answer = await arranged.root.call("PUT", path, data=sent)
        assert (status, answer["_success"]) == (400, False), (value, answer)
        assert case.param in {error["param"] for error in answer["_errors"]}, (value, answer)
    if isinstance(case.empty, str):
        status, answer = await arranged.root.call("PUT", path, data={**case.more, case.param: ""})
        assert (status, answer["_msg"]) == (400, case.empty)
        assert [error["param"] for error in answer["_errors"]] == [case.param]
    if case.nonsense or isinstance(case.empty, str):
        assert await arranged.changes() == NOTHING
    if isinstance(case.empty, dict):
        await _check(arranged, path, {**case.more, case.param: ""}, case.empty)
        await arranged.restore()
    await _check(arranged, path, {**case.more, case.param: case.good}, case.changes)


@pytest.mark.parametrize("name", EXTRAS)
async def test_extra(arranged: Arranged, name: str) -> None:
    await _check(arranged, *EXTRAS[name])


async def test_user_without_any_route(arranged: Arranged) -> None:
    """Whoever has no self row, for whatever reason, gets none for a new name."""
    await arranged.store.execute("DELETE FROM forwardings WHERE address = 'u@ex.com'")
    before = await arranged.changes()
    await arranged.root.ok("PUT", "user/u@ex.com", name="New")
    found, _ = _without_marks("user/u@ex.com", await arranged.changes())
    assert found == {**before, **_user(name="New")}


@pytest.mark.stores("sqlite")
async def test_json_null_is_empty(arranged: Arranged) -> None:
    status, _ = await arranged.root.call("PUT", "user/u@ex.com", json={"name": None, "quota": 5})
    assert status == 200
    found, _ = _without_marks("user/u@ex.com", await arranged.changes())
    assert found == _user(name="", quota=5)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_lesson_47_every_parameter_has_a_case(form: type[Params]) -> None:
    assert sorted(case.param for case in FORMS[form][1]) == sorted(form.wire_names().values())


def test_every_form_is_looked_at() -> None:
    names = (f"iredapi.schemas.{name}" for name in ("domains", "admins", "users", "aliases"))
    found = {
        item
        for name in names
        for item in vars(importlib.import_module(name)).values()
        if isinstance(item, type) and issubclass(item, Params)
        if item.__module__ == name and not item.__name__.startswith("_")
    }
    assert found == set(FORMS) | NO_UPDATES
