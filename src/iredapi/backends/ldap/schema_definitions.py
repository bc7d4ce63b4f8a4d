"""The LDAP schemas of iRedMail and Amavisd: names, OIDs and syntaxes, and as text for OpenLDAP.

``iredapi ldap-schema`` prints the contents of ``deploy/openldap/*.schema``. An iRedMail server has
its own copies; these are for new servers, and for the spelling of attributes.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

_IREDMAIL: Final = "1.3.6.1.4.1.32349.1.2"
_AMAVIS: Final = "1.3.6.1.4.1.15312.2.2"
_SYNTAX: Final = "1.3.6.1.4.1.1466.115.121.1"


@dataclass(frozen=True)
class Kind:
    """Syntax and matching rules of an attribute."""

    syntax: str
    """OID of RFC 4517: .7 boolean, .15 UTF-8 text, .24 time, .26 ASCII, .27 integer."""
    equality: str
    substrings: str | None = None


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "word": Kind(f"{_SYNTAX}.26", "caseIgnoreIA5Match", "caseIgnoreSubstringsMatch"),
        "ascii": Kind(f"{_SYNTAX}.26", "caseIgnoreIA5Match", "caseIgnoreIA5SubstringsMatch"),
        "host": Kind(f"{_SYNTAX}.26", "caseIgnoreIA5Match"),
        "path": Kind(f"{_SYNTAX}.26", "caseExactIA5Match"),
        "exact": Kind(f"{_SYNTAX}.26", "caseExactIA5Match", "caseExactSubstringsMatch"),
        "text": Kind(f"{_SYNTAX}.15", "caseIgnoreMatch", "caseIgnoreSubstringsMatch"),
        "integer": Kind(f"{_SYNTAX}.27", "integerMatch"),
        "time": Kind(f"{_SYNTAX}.24", "generalizedTimeMatch"),
        "boolean": Kind(f"{_SYNTAX}.7", "booleanMatch"),
    }
)


@dataclass(frozen=True)
class AttributeType:
    """One attribute type. ``length`` is a hint, in characters; slapd does not enforce it."""

    name: str
    oid: str
    kind: Kind
    length: int | None
    single_value: bool


@dataclass(frozen=True)
class ObjectClass:
    """One object class; all of them derive from ``top``."""

    name: str
    oid: str
    kind: Literal["STRUCTURAL", "AUXILIARY"]
    must: tuple[str, ...]
    may: tuple[str, ...]


@dataclass(frozen=True)
class Schema:
    """One schema file. ``needs`` are those that have to be loaded before."""

    title: str
    needs: tuple[str, ...]
    attributes: tuple[AttributeType, ...]
    classes: tuple[ObjectClass, ...]


_ROW: Final = re.compile(r"(\d+\.\d+) +(\w+) ([a-z]+)(?:\((\d+)\))?( many)?")


def _attributes(arc: str, table: str) -> tuple[AttributeType, ...]:
    """Read a table of lines: end of the OID, name, kind (with a length), "many"."""
    found = []
    for line in table.strip().splitlines():
        row = _ROW.fullmatch(line.strip())
        if row is None:
            raise ValueError(line)
        number, name, kind, length, many = row.groups()
        size = int(length) if length else None
        found.append(AttributeType(name, f"{arc}.{number}", KINDS[kind], size, many is None))
    return tuple(found)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_IREDMAIL_ATTRIBUTES: Final = _attributes(
    _IREDMAIL,
    """
    1.1  domainName word(255)
    1.2  mtaTransport word
    1.3  domainStatus word
    1.4  domainAdmin word(320) many
    1.5  domainGlobalAdmin word
    1.6  domainBackupMX word
    1.7  domainSenderBccAddress word(320)
    1.8  domainRecipientBccAddress word(320)
    1.9  domainMaxQuotaSize integer
    1.10 domainCurrentQuotaSize word
    1.11 domainMaxUserNumber integer
    1.12 domainCurrentUserNumber integer
    1.13 domainMaxAliasNumber integer
    1.14 domainCurrentAliasNumber integer
    1.15 domainMaxListNumber integer
    1.16 domainCurrentListNumber integer
    1.17 disclaimer text
    1.18 domainDefaultUserQuota integer
    1.19 domainAliasName word(255) many
    1.20 domainWhitelistIP word many
    1.21 domainWhitelistSender word many
    1.22 domainBlacklistIP word many
    1.23 domainBlacklistSender word many
    1.24 domainPendingAliasName word(255) many
    2.1  mailUID integer
    2.2  mailGID integer
    2.3  storageBaseDirectory path
    2.4  mailMessageStore path
    2.5  mailQuota integer
    2.6  mailQuotaMessageLimit integer
    2.7  mailHost host
    2.8  mailForwardingAddress ascii(320) many
    2.9  accountStatus word
    2.10 userRecipientBccAddress word(320)
    2.11 userSenderBccAddress word(320)
    2.12 backupMailAddress word(320)
    2.13 enabledService word many
    2.14 memberOfGroup word(320) many
    2.18 expiredDate time
    2.19 shadowAddress word(320) many
    2.20 accountSetting word many
    2.21 userManager word(320) many
    2.22 mailWhitelistRecipient word many
    2.23 mailBlacklistRecipient word many
    2.24 disabledService word many
    2.25 allowNets text(1024)
    2.26 senderRelayHost word(255)
    2.27 maxMessageSize integer
    2.28 mailboxFormat word(50)
    2.29 mailboxFolder word(50)
    2.30 recoveryEmail word(320)
    2.31 birthday word(10)
    3.1  accessPolicy word
    3.2  hasMember word
    3.3  listAllowedUser word(320) many
    3.4  listModerator word(320) many
    3.5  listOwner word(320) many
    3.6  mailingListID word(36) many
    """,
)

_IREDMAIL_CLASSES: Final = (
    ObjectClass(
        "mailDomain",
        f"{_IREDMAIL}.4.1",
        "STRUCTURAL",
        must=("domainName",),
        may=_words("""
            cn mtaTransport domainAdmin enabledService disabledService
            domainBackupMX accountStatus mailHost domainSenderBccAddress
            domainRecipientBccAddress domainMaxQuotaSize domainCurrentQuotaSize
            domainMaxUserNumber domainCurrentUserNumber domainMaxAliasNumber
            domainCurrentAliasNumber domainMaxListNumber domainCurrentListNumber
            domainDefaultUserQuota domainAliasName domainPendingAliasName disclaimer
            description street telephoneNumber facsimileTelephoneNumber expiredDate
            accountSetting domainWhitelistIP domainWhitelistSender domainBlacklistIP
            domainBlacklistSender preferredLanguage senderRelayHost
        """),
    ),
    ObjectClass(
        "mailAdmin",
        f"{_IREDMAIL}.4.2",
        "STRUCTURAL",
        must=("mail",),
        may=_words("""
            domainGlobalAdmin description enabledService disabledService
            userPassword accountStatus cn sn preferredLanguage givenName expiredDate
            mailHost accountSetting shadowLastChange
        """),
    ),
    ObjectClass(
        "mailUser",
        f"{_IREDMAIL}.4.3",
        "AUXILIARY",
        must=(
            "mail",
            "uid",
        ),
        may=_words("""
            storageBaseDirectory mailMessageStore homeDirectory userPassword
            mailHost mailUID mailGID mailQuota mailQuotaMessageLimit
            mailForwardingAddress shadowAddress accountStatus
            userRecipientBccAddress userSenderBccAddress enabledService
            disabledService telephoneNumber backupMailAddress mtaTransport
            memberOfGroup expiredDate preferredLanguage disclaimer accountSetting
            title userManager mailWhitelistRecipient mailBlacklistRecipient
            domainGlobalAdmin allowNets senderRelayHost domainStatus maxMessageSize
            mailboxFormat mailboxFolder recoveryEmail birthday
        """),
    ),
    ObjectClass(
        "mailAlias",
        f"{_IREDMAIL}.4.4",
        "STRUCTURAL",
        must=("mail",),
        may=_words("""
            accountStatus description cn memberOfGroup enabledService
            disabledService mailForwardingAddress shadowAddress expiredDate
            accountSetting mailHost domainStatus accessPolicy listModerator
        """),
    ),
    ObjectClass(
        "mailList",
        f"{_IREDMAIL}.4.5",
        "STRUCTURAL",
        must=("mail",),
        may=_words("""
            cn accountStatus description accessPolicy shadowAddress enabledService
            disabledService memberOfGroup hasMember listAllowedUser expiredDate
            accountSetting mailHost member uniqueMember memberUid gidNumber
            domainStatus listModerator listOwner mtaTransport mailinglistID
            maxMessageSize
        """),
    ),
    ObjectClass(
        "mailExternalUser",
        f"{_IREDMAIL}.4.6",
        "STRUCTURAL",
        must=("memberOfGroup",),
        may=_words("""
            cn accountStatus mail enabledService disabledService description
            mailHost accountSetting shadowAddress domainStatus
        """),
    ),
)

_AMAVIS_ATTRIBUTES: Final = _attributes(
    _AMAVIS,
    """
    1.1  amavisVirusLover boolean
    1.2  amavisBannedFilesLover boolean
    1.3  amavisBypassVirusChecks boolean
    1.4  amavisBypassSpamChecks boolean
    1.5  amavisSpamTagLevel ascii(256)
    1.6  amavisSpamTag2Level ascii(256)
    1.7  amavisSpamKillLevel ascii(256)
    1.8  amavisSpamModifiesSubj boolean
    1.9  amavisWhitelistSender ascii(256) many
    1.10 amavisBlacklistSender ascii(256) many
    1.11 amavisSpamQuarantineTo ascii(256)
    1.12 amavisSpamLover boolean
    1.13 amavisBadHeaderLover boolean
    1.14 amavisBypassBannedChecks boolean
    1.15 amavisBypassHeaderChecks boolean
    1.16 amavisVirusQuarantineTo ascii(256)
    1.17 amavisBannedQuarantineTo ascii(256)
    1.18 amavisBadHeaderQuarantineTo ascii(256)
    1.19 amavisLocal boolean
    1.20 amavisMessageSizeLimit ascii(256)
    1.21 amavisWarnVirusRecip boolean
    1.22 amavisWarnBannedRecip boolean
    1.23 amavisWarnBadHeaderRecip boolean
    1.24 amavisVirusAdmin ascii(256)
    1.25 amavisNewVirusAdmin ascii(256)
    1.26 amavisSpamAdmin ascii(256)
    1.27 amavisBannedAdmin ascii(256)
    1.28 amavisBadHeaderAdmin ascii(256)
    1.29 amavisBannedRuleNames ascii(256)
    1.30 amavisSpamDsnCutoffLevel ascii(256)
    1.31 amavisSpamQuarantineCutoffLevel ascii(256)
    1.32 amavisSpamSubjectTag exact(256)
    1.33 amavisSpamSubjectTag2 exact(256)
    1.34 amavisArchiveQuarantineTo ascii(256)
    1.35 amavisAddrExtensionVirus exact(256)
    1.36 amavisAddrExtensionSpam exact(256)
    1.37 amavisAddrExtensionBanned exact(256)
    1.38 amavisAddrExtensionBadHeader exact(256)
    1.39 amavisSpamTag3Level ascii(256)
    1.40 amavisSpamSubjectTag3 exact(256)
    1.41 amavisUncheckedQuarantineTo ascii(256)
    1.42 amavisCleanQuarantineTo ascii(256)
    1.43 amavisUncheckedLover boolean
    1.44 amavisForwardMethod ascii(256) many
    1.45 amavisSaUserConf exact(256)
    1.46 amavisSaUserName exact(256)
    1.47 amavisDisclaimerOptions ascii(256)
    """,
)

_AMAVIS_CLASSES: Final = (
    ObjectClass(
        "amavisAccount",
        f"{_AMAVIS}.2.1",
        "AUXILIARY",
        must=(),
        may=(*(item.name for item in _AMAVIS_ATTRIBUTES), "cn", "description"),
    ),
)

SCHEMAS: Final[Mapping[str, Schema]] = MappingProxyType(
    {
        "amavis": Schema(
            "Settings of Amavisd on mail users",
            ("core",),
            _AMAVIS_ATTRIBUTES,
            _AMAVIS_CLASSES,
        ),
        "iredmail": Schema(
            "Mail domains and accounts of iRedMail",
            ("core", "cosine", "inetorgperson", "nis"),
            _IREDMAIL_ATTRIBUTES,
            _IREDMAIL_CLASSES,
        ),
    }
)
"""Sorted in the order in which slapd must load them."""


def openldap(name: str) -> str:
    """Return a schema as text for ``include`` in slapd.conf."""
    schema = SCHEMAS[name]
    lines = [
        f"# {schema.title}",
        f"# Written by `iredapi ldap-schema {name}`; a test keeps it true.",
        f"# Load before it: {', '.join(schema.needs)}.",
        "",
    ]
    lines += [_attribute_type(item) for item in schema.attributes]
    lines += [_object_class(item) for item in schema.classes]
    return "\n".join(lines)


def _attribute_type(item: AttributeType) -> str:
    size = f"{{{item.length}}}" if item.length else ""
    lines = [
        f"attributetype ( {item.oid}",
        f"    NAME '{item.name}'",
        f"    EQUALITY {item.kind.equality}",
    ]
    if item.kind.substrings:
        lines.append(f"    SUBSTR {item.kind.substrings}")
    lines.append(f"    SYNTAX {item.kind.syntax}{size}")
    if item.single_value:
        lines.append("    SINGLE-VALUE")
    return "\n".join(lines) + " )\n"


def _object_class(item: ObjectClass) -> str:
    lines = [
        f"objectclass ( {item.oid}",
        f"    NAME '{item.name}'",
        f"    SUP top {item.kind}",
    ]
    if item.must:
        lines.append(f"    MUST ( {' $ '.join(item.must)} )")
    lines.append(
        textwrap.fill(
            f"MAY ( {' $ '.join(item.may)} )",
            width=96,
            initial_indent="    ",
            subsequent_indent="          ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    )
    return "\n".join(lines) + " )\n"
