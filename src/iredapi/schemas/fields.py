"""The types of parameters: an annotated type for each meaning.

A value is text, or a list of texts from JSON. ``web.request_body`` has converted booleans to yes
and no, numbers to digits and null to the empty text. A parameter that was not sent is absent from
a form's ``changes()``; that is different from an empty one. The validators are functions of
``field_validators``.

============================  ==========  ==================
meaning in the request        if empty    types
============================  ==========  ==================
yes / no                      error       YesNo, Status
amount, never empty           error       Megabytes, Limit …
one value, empty clears       removes     OptionalMail, …
comma list, empty clears      removes all Mails, Domains, …
comma list of items to remove nothing     GoneMails, …
comma list, bad ones dropped  nothing     RemoteAddresses
present means yes             yes         Present
============================  ==========  ==================
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainValidator, WithJsonSchema

from iredapi.domain import (
    addresses,
    aliases,
    domains,
    http_urls,
    limits,
    list_footers,
    listing,
    lists,
    search,
    sender_patterns,
    throttles,
    tokens,
    wblists,
)
from iredapi.domain.account_records import RecordType
from iredapi.schemas import field_validators as parse
from iredapi.schemas import log_validators, mailbox_validators, webhook_validators
from iredapi.schemas.params import LongList


def _schema(kind: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": kind, **more})


def _orders(names: tuple[str, ...]) -> list[str]:
    return [word for name in names for word in (name, f"-{name}")]


_OF_ACCOUNTS = ("address", "name", "created", "modified")
_OF_DOMAINS = ("domain", "name", "created", "modified", "quota")
_OF_ADMINS = ("address", "name")
_OF_ALIAS_DOMAINS = ("domain", "target")
_OF_USERS = ("address", "name", "created", "modified", "quota", "used")
YesNo = Annotated[bool, BeforeValidator(parse.yes_no), _schema("string", enum=["yes", "no"])]
Yes = Annotated[bool, BeforeValidator(mailbox_validators.yes), _schema("string", enum=["yes"])]
GlobalAdmin = Annotated[
    bool, BeforeValidator(parse.global_admin), _schema("string", enum=["yes", "no"])
]
Status = Annotated[
    bool, BeforeValidator(parse.status), _schema("string", enum=["active", "disabled"])
]
Present = Annotated[bool, BeforeValidator(parse.present), _schema("string")]
Switch = Annotated[
    bool, BeforeValidator(parse.switch), _schema("string", enum=["enable", "disable"])
]
Megabytes = Annotated[
    int,
    BeforeValidator(parse.whole_number(0, limits.MAX_QUOTA)),
    _schema("integer", minimum=0, maximum=limits.MAX_QUOTA),
]
Limit = Annotated[
    int,
    BeforeValidator(parse.whole_number(-1, 2**31 - 1)),
    _schema("integer", minimum=-1, maximum=2**31 - 1),
]
OptionalLimit = Annotated[
    int,
    BeforeValidator(parse.optional_limit),
    _schema("integer", minimum=-1, maximum=2**31 - 1),
]
PasswordLength = Annotated[
    int, BeforeValidator(parse.whole_number(0, 255)), _schema("integer", minimum=0, maximum=255)
]
Days = Annotated[
    int, BeforeValidator(parse.whole_number(0, 36500)), _schema("integer", minimum=0, maximum=36500)
]
Restore = Annotated[
    str,
    BeforeValidator(mailbox_validators.restore),
    _schema("string", pattern="^(yes|no|[0-9]{1,18})$"),
]
Day = Annotated[date, BeforeValidator(mailbox_validators.day), _schema("string", format="date")]
MailboxOwner = Annotated[
    str,
    BeforeValidator(parse.checked(addresses.existing_mail, "INVALID_MAIL", empty=False)),
    _schema("string"),
]
ExistingDomain = Annotated[
    str,
    BeforeValidator(parse.checked(addresses.existing_domain, "INVALID_DOMAIN_NAME", empty=False)),
    _schema("string"),
]
AdminName = Annotated[str, BeforeValidator(log_validators.admin_name), _schema("string")]
LogEvents = Annotated[tuple[str, ...], BeforeValidator(log_validators.events), _schema("string")]
ClientAddress = Annotated[
    tuple[str, ...], BeforeValidator(log_validators.client_address), _schema("string")
]
Period = Annotated[
    int,
    BeforeValidator(parse.whole_number(1, throttles.MAX_PERIOD)),
    _schema("integer", minimum=1, maximum=throttles.MAX_PERIOD),
]
ThrottleLimit = Annotated[
    int,
    BeforeValidator(parse.inheritable_limit),
    _schema("integer", minimum=throttles.INHERIT, maximum=throttles.MAX_LIMIT),
]
Name = Annotated[str, BeforeValidator(parse.printable_text(255)), _schema("string", maxLength=255)]
Description = Annotated[
    str, BeforeValidator(parse.printable_text(1024)), _schema("string", maxLength=1024)
]
Language = Annotated[str, BeforeValidator(parse.language), _schema("string", maxLength=5)]
OptionalMail = Annotated[
    str, BeforeValidator(parse.checked(addresses.any_mail, "INVALID_MAIL")), _schema("string")
]
Transport = Annotated[
    str,
    BeforeValidator(parse.checked(parse.transport, "INVALID_TRANSPORT")),
    _schema("string", maxLength=255),
]
NextHop = Annotated[
    str,
    BeforeValidator(parse.checked(parse.next_hop, "INVALID_RELAY", empty=False)),
    _schema("string"),
]
Relay = Annotated[
    str, BeforeValidator(parse.checked(parse.relay, "INVALID_RELAY")), _schema("string")
]
Mails = Annotated[
    tuple[str, ...],
    BeforeValidator(parse.list_of(addresses.any_mail, "INVALID_MAIL")),
    _schema("string"),
    LongList(),
]
AccountMails = Annotated[
    tuple[str, ...],
    BeforeValidator(parse.list_of(addresses.new_account, "INVALID_MAIL")),
    _schema("string"),
    LongList(),
]
ExistingMails = Annotated[
    tuple[str, ...],
    BeforeValidator(parse.list_of(addresses.existing_mail, "INVALID_MAIL")),
    _schema("string"),
    LongList(),
]
GoneMails = Annotated[
    tuple[str, ...],
    PlainValidator(parse.names_to_remove(addresses.existing_mail, "INVALID_MAIL")),
    _schema("string"),
]
GoneDomains = Annotated[
    tuple[str, ...],
    PlainValidator(parse.names_to_remove(addresses.existing_domain, "INVALID_DOMAIN_NAME")),
    _schema("string"),
]
Domains = Annotated[
    tuple[str, ...],
    BeforeValidator(
        parse.list_of(addresses.domain_name, "INVALID_DOMAIN_NAME", most=parse.MAX_DOMAINS)
    ),
    _schema("string"),
]
ExistingDomains = Annotated[
    tuple[str, ...],
    BeforeValidator(parse.list_of(addresses.existing_domain, "INVALID_DOMAIN_NAME")),
    _schema("string"),
    LongList(),
]
GreylistingSenders = Annotated[
    tuple[str, ...],
    BeforeValidator(parse.list_of(sender_patterns.greylisting_sender, "INVALID_SENDER")),
    _schema("string"),
    LongList(),
]
Entries = Annotated[tuple[str, ...], BeforeValidator(parse.entries), _schema("string"), LongList()]
Services = Annotated[tuple[str, ...], BeforeValidator(parse.words_of(None)), _schema("string")]
DomainProfiles = Annotated[
    tuple[str, ...], BeforeValidator(parse.words_of(domains.PROFILES)), _schema("string")
]
UserProfiles = Annotated[
    tuple[str, ...], BeforeValidator(parse.words_of(domains.USER_PROFILES)), _schema("string")
]
UserPreferences = Annotated[
    tuple[str, ...], BeforeValidator(parse.words_of(domains.USER_PREFERENCES)), _schema("string")
]
Password = Annotated[str, BeforeValidator(parse.password), _schema("string", format="password")]
PasswordHash = Annotated[
    str, BeforeValidator(parse.password_hash), _schema("string", maxLength=255)
]
View = Annotated[
    str, BeforeValidator(parse.choice(parse.VIEWS)), _schema("string", enum=list(parse.VIEWS))
]
PageSize = Annotated[
    int,
    BeforeValidator(parse.whole_number(1, listing.MAX_LIMIT)),
    _schema("integer", minimum=1, maximum=listing.MAX_LIMIT),
]
Cursor = Annotated[str, BeforeValidator(parse.cursor), _schema("string")]
FieldNames = Annotated[tuple[str, ...], BeforeValidator(parse.field_names), _schema("string")]
Extras = Annotated[
    tuple[str, ...], BeforeValidator(parse.some_words_of(("usage",))), _schema("string")
]
AccountSort = Annotated[
    str,
    BeforeValidator(parse.sort_order(_OF_ACCOUNTS)),
    _schema("string", enum=_orders(_OF_ACCOUNTS)),
]
DomainSort = Annotated[
    str,
    BeforeValidator(parse.sort_order(_OF_DOMAINS)),
    _schema("string", enum=_orders(_OF_DOMAINS)),
]
AdminSort = Annotated[
    str, BeforeValidator(parse.sort_order(_OF_ADMINS)), _schema("string", enum=_orders(_OF_ADMINS))
]
AliasDomainSort = Annotated[
    str,
    BeforeValidator(parse.sort_order(_OF_ALIAS_DOMAINS)),
    _schema("string", enum=_orders(_OF_ALIAS_DOMAINS)),
]
UserSort = Annotated[
    str, BeforeValidator(parse.sort_order(_OF_USERS)), _schema("string", enum=_orders(_OF_USERS))
]
SearchKinds = Annotated[
    tuple[str, ...], BeforeValidator(parse.some_words_of(search.KINDS)), _schema("string")
]
SearchText = Annotated[
    str,
    BeforeValidator(parse.search_text),
    _schema("string", minLength=parse.MIN_SEARCH, maxLength=parse.MAX_SEARCH),
]
Moment = Annotated[datetime, BeforeValidator(parse.moment), _schema("string")]
QuotaUnit = Annotated[
    str,
    BeforeValidator(parse.choice(("MB", "GB", "TB"), upper=True)),
    _schema("string", enum=["MB", "GB", "TB"]),
]
AccessPolicy = Annotated[
    str,
    BeforeValidator(parse.choice(aliases.POLICIES, dict(aliases.LEGACY_POLICIES))),
    _schema("string", enum=list(aliases.POLICIES)),
]
AliasPolicy = Annotated[
    str, BeforeValidator(parse.alias_policy), _schema("string", enum=list(aliases.POLICIES))
]
MailboxFormat = Annotated[
    str,
    BeforeValidator(parse.choice(("maildir", "mdbox", "sdbox"))),
    _schema("string", enum=["maildir", "mdbox", "sdbox"]),
]
MailboxFolder = Annotated[
    str, BeforeValidator(parse.mailbox_folder), _schema("string", pattern="^[A-Za-z0-9]{1,20}$")
]
Path = Annotated[
    str, BeforeValidator(parse.checked(str, "INVALID_MAILDIR", empty=False)), _schema("string")
]
Label = Annotated[str, BeforeValidator(parse.label), _schema("string", minLength=1, maxLength=100)]
TokenDays = Annotated[
    int,
    BeforeValidator(parse.whole_number(1, tokens.MAX_DAYS)),
    _schema("integer", minimum=1, maximum=tokens.MAX_DAYS),
]
Overlap = Annotated[
    int,
    BeforeValidator(parse.whole_number(0, tokens.MAX_OVERLAP)),
    _schema("integer", minimum=0, maximum=tokens.MAX_OVERLAP),
]
Networks = Annotated[
    tuple[str, ...],
    BeforeValidator(parse.list_of(parse.network, "INVALID_NETWORK", most=tokens.MAX_NETWORKS)),
    _schema("string"),
]
LoginName = Annotated[str, BeforeValidator(parse.printable_text(255)), _schema("string")]
SpamScore = Annotated[
    float | None,
    BeforeValidator(parse.spam_score),
    _schema("string", pattern=r"^(-?[0-9]{1,3}(\.[0-9]{1,3})?)?$"),
]
RuleNames = Annotated[
    tuple[str, ...], BeforeValidator(parse.rule_names), _schema("string", maxLength=64)
]
RemoteAddresses = Annotated[
    wblists.AddressList, BeforeValidator(parse.remote_addresses), _schema("string"), LongList()
]
MessageSize = Annotated[
    int, BeforeValidator(parse.message_size), _schema("integer", minimum=0, maximum=lists.MAX_SIZE)
]
SubjectPrefix = Annotated[
    str, BeforeValidator(parse.subject_prefix), _schema("string", maxLength=128)
]
Headers = Annotated[tuple[str, ...], BeforeValidator(parse.headers), _schema("string")]
HeaderNames = Annotated[
    tuple[str, ...],
    BeforeValidator(
        parse.list_of(list_footers.header_name, "INVALID_TEXT", most=list_footers.MAX_HEADERS)
    ),
    _schema("string"),
]
Footer = Annotated[
    str, BeforeValidator(parse.footer), _schema("string", maxLength=list_footers.MAX_FOOTER)
]
Subscribers = Annotated[
    tuple[str, ...],
    BeforeValidator(parse.list_of(lists.stored_subscriber, "")),
    _schema("string"),
    LongList(),
]
ListPolicy = Annotated[
    str,
    BeforeValidator(parse.choice(lists.POLICIES, dict(aliases.LEGACY_POLICIES))),
    _schema("string", enum=list(lists.POLICIES)),
]
Subscription = Annotated[
    str, BeforeValidator(parse.choice(lists.VERSIONS)), _schema("string", enum=list(lists.VERSIONS))
]
OnExisting = Annotated[
    str,
    BeforeValidator(parse.choice(("skip", "update", "fail"))),
    _schema("string", enum=["skip", "update", "fail"]),
]
FileFormat = Annotated[
    str, BeforeValidator(parse.choice(("ndjson", "csv"))), _schema("string", enum=["ndjson", "csv"])
]
RecordTypes = Annotated[
    str,
    BeforeValidator(parse.choice(tuple(RecordType))),
    _schema("string", enum=[item.value for item in RecordType]),
]
WebhookUrl = Annotated[
    str, BeforeValidator(webhook_validators.url), _schema("string", maxLength=http_urls.MAX_URL)
]
EventKinds = Annotated[
    tuple[str, ...], BeforeValidator(webhook_validators.kinds), _schema("string")
]
