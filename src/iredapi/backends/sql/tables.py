"""The tables of iRedMail's `vmail` database, as of iRedMail 1.8.

A live server creates them itself and may be older: `database.live_schema.Schema` has what is there.
A table or column whose `info` has a `since` may be missing. The `CREATE TABLE` side serves the
embedded SQLite database and the tests. Unless said otherwise, quota columns hold MB (1048576
bytes).
"""

from typing import Any

from sqlalchemy import (
    Column,
    Index,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
)

from iredapi.backends.sql.used_quota_triggers import make_with
from iredapi.database.column_types import (
    BIG,
    COUNT,
    FLAG,
    ID,
    YES_NO,
    ascii_column,
    ddl,
    expired_column,
    moment_column,
    mysql_options,
    number_column,
    since,
    text_column,
    varchar_column,
)
from iredapi.database.datetimes import DATE, DATETIME

__all__ = [
    "BIRTHDAY_UNSET",
    "ENABLE_COLUMNS",
    "SOGO_COLUMNS",
    "admin",
    "alias",
    "alias_domain",
    "anyone_shares",
    "deleted_mailboxes",
    "domain",
    "domain_admins",
    "forwardings",
    "last_login",
    "mailbox",
    "maillist_owners",
    "maillists",
    "metadata",
    "moderators",
    "recipient_bcc_domain",
    "recipient_bcc_user",
    "sender_bcc_domain",
    "sender_bcc_user",
    "sender_relayhost",
    "share_folder",
    "used_quota",
]

metadata = MetaData()

BIRTHDAY_UNSET = "0001-01-01"
"""The `mailbox.birthday` of a user without one."""

_SERVICES = (
    "smtp smtpsecured pop3 pop3secured pop3tls imap imapsecured imaptls deliver lda lmtp"
    " managesieve managesievesecured sieve sievesecured sievetls internal doveadm lib-storage"
    " quota-status indexer-worker dsync sogo"
)

ENABLE_COLUMNS = tuple(f"enable{service}" for service in _SERVICES.split())
"""The service switches of `mailbox` that hold 0 or 1."""

SOGO_COLUMNS = ("enablesogowebmail", "enablesogocalendar", "enablesogoactivesync")
"""The service switches of `mailbox` that hold `y` or `n`."""

_OPTIONAL_ENABLE = {
    "enablequota-status": "1.0",
    # Nobody needs these, and their release is not on record.
    "enablelib-storage": "?",
    "enableindexer-worker": "?",
    "enabledsync": "?",
}


def _id() -> Column[Any]:
    return Column("id", ID, primary_key=True, autoincrement=True)


def _state(*, expired: bool = True) -> list[Column[Any]]:
    """Make the columns that end most tables: created, modified, perhaps expired, and active."""
    columns = [moment_column("created"), moment_column("modified")]
    if expired:
        columns.append(expired_column())
    return [*columns, number_column("active", FLAG, 1, index=True)]


def _table(name: str, *items: Any, info: dict[str, Any] | None = None) -> Table:
    return Table(name, metadata, *items, info=info or {}, **mysql_options())


def _by_domain(table: str, name: str) -> Index:
    """Make the index for pages of a domain's list, in our own SQLite file only.

    MariaDB's index of ``domain`` has the primary key in it; iRedMail's tables are never altered.
    """
    return Index(f"{table}_in_domain", "domain", name).ddl_if(dialect="sqlite")


domain = _table(
    "domain",
    varchar_column("domain", primary_key=True),
    text_column("description"),
    text_column("disclaimer"),
    # Limits: 0 is unlimited, -1 is none allowed.
    number_column("aliases", COUNT),
    number_column("mailboxes", COUNT),
    number_column("maillists", COUNT),
    # The sum of all mailbox quotas, in MB, 0 is unlimited. The API's "quota".
    number_column("maxquota", BIG),
    # Historical. Never written.
    number_column("quota", BIG, info=since("?")),
    varchar_column("transport", default="dovecot"),
    number_column("backupmx", FLAG, index=True),
    text_column("settings"),
    *_state(),
)

alias_domain = _table(
    "alias_domain",
    varchar_column("alias_domain", primary_key=True),
    varchar_column("target_domain", index=True),
    *_state(expired=False),
)

mailbox = _table(
    "mailbox",
    varchar_column("username", primary_key=True, info=ddl(postgresql="VARCHAR(255) NOT NULL")),
    varchar_column("password"),
    varchar_column("name"),
    varchar_column("first_name", info=since("1.7.3")),
    varchar_column("last_name", info=since("1.7.3")),
    varchar_column("mobile", info=since("1.7.3")),
    varchar_column("telephone", info=since("1.7.3")),
    varchar_column("recovery_email", info=since("1.7.3")),
    Column("birthday", DATE, nullable=False, server_default=BIRTHDAY_UNSET, info=since("1.7.3")),
    varchar_column("language", 5),
    varchar_column("mailboxformat", 50, "maildir", info=since("0.9.9")),
    varchar_column("mailboxfolder", 50, "Maildir", info=since("0.9.9")),
    varchar_column("storagebasedirectory", default="/var/vmail"),
    varchar_column("storagenode", default="vmail1"),
    varchar_column("maildir"),
    # In MB, 0 is unlimited.
    number_column("quota", BIG),
    varchar_column("domain", index=True),
    varchar_column("transport"),
    varchar_column("department", index=True, info=since("?")),
    Column(
        "rank", String(255), nullable=False, server_default="normal", quote=True, info=since("?")
    ),
    varchar_column("employeeid", index=True),
    _by_domain("mailbox", "username"),
    number_column("isadmin", FLAG, index=True),
    number_column("isglobaladmin", FLAG, index=True),
    *(
        number_column(
            name, FLAG, 1, info=since(_OPTIONAL_ENABLE[name]) if name in _OPTIONAL_ENABLE else {}
        )
        for name in ENABLE_COLUMNS
    ),
    *(
        Column(name, YES_NO, nullable=False, server_default="y", info=since("1.4.1"))
        for name in SOGO_COLUMNS
    ),
    # NULL, never '', when any client address may log in.
    Column("allow_nets", Text, nullable=True),
    text_column("disclaimer"),
    text_column("settings"),
    moment_column("passwordlastchange"),
    *_state(),
)

forwardings = _table(
    "forwardings",
    _id(),
    varchar_column("address"),
    varchar_column("forwarding", index=True),
    varchar_column("domain", index=True),
    varchar_column("dest_domain", index=True),
    number_column("is_maillist", FLAG, index=True),
    number_column("is_list", FLAG, index=True),
    number_column("is_forwarding", FLAG, index=True),
    number_column("is_alias", FLAG, index=True),
    number_column("active", FLAG, 1, index=True),
    UniqueConstraint("address", "forwarding"),
)

alias = _table(
    "alias",
    varchar_column("address", primary_key=True),
    varchar_column("name"),
    varchar_column("accesspolicy", 30),
    varchar_column("domain", index=True),
    *_state(),
    _by_domain("alias", "address"),
)

moderators = _table(
    "moderators",
    _id(),
    varchar_column("address"),
    varchar_column("moderator", index=True),
    varchar_column("domain", index=True),
    varchar_column("dest_domain", index=True),
    UniqueConstraint("address", "moderator"),
)

maillists = _table(
    "maillists",
    _id(),
    varchar_column("address", unique=True),
    varchar_column("domain", index=True),
    varchar_column("transport"),
    varchar_column("accesspolicy", 30),
    # In bytes, 0 is unlimited.
    number_column("maxmsgsize", BIG),
    varchar_column("name"),
    Column("description", Text, nullable=True),
    # 36 characters. '' can be there only once.
    varchar_column("mlid", 36, unique=True),
    number_column("is_newsletter", FLAG, index=True),
    Column("settings", Text, nullable=True),
    *_state(),
    _by_domain("maillists", "address"),
)

maillist_owners = _table(
    "maillist_owners",
    _id(),
    varchar_column("address"),
    varchar_column("owner", index=True),
    varchar_column("domain", index=True),
    varchar_column("dest_domain", index=True),
    UniqueConstraint("address", "owner"),
    info=since("1.4.0"),
)

admin = _table(
    "admin",
    varchar_column("username", primary_key=True),
    varchar_column("password"),
    varchar_column("name"),
    varchar_column("language", 5),
    moment_column("passwordlastchange"),
    text_column("settings"),
    *_state(),
)

domain_admins = _table(
    "domain_admins",
    ascii_column("username", primary_key=True),
    ascii_column("domain", primary_key=True, index=True),
    *_state(),
)


def _bcc_user(name: str) -> Table:
    return _table(
        name,
        varchar_column("username", primary_key=True),
        varchar_column("bcc_address", index=True),
        varchar_column("domain", index=True),
        *_state(),
    )


def _bcc_domain(name: str) -> Table:
    return _table(
        name,
        varchar_column("domain", primary_key=True),
        varchar_column("bcc_address", index=True),
        *_state(),
    )


sender_bcc_user = _bcc_user("sender_bcc_user")
recipient_bcc_user = _bcc_user("recipient_bcc_user")
sender_bcc_domain = _bcc_domain("sender_bcc_domain")
recipient_bcc_domain = _bcc_domain("recipient_bcc_domain")

sender_relayhost = _table(
    "sender_relayhost",
    _id(),
    varchar_column("account", unique=True),
    varchar_column("relayhost"),
)

deleted_mailboxes = _table(
    "deleted_mailboxes",
    _id(),
    Column(
        "timestamp",
        DATETIME,
        nullable=False,
        server_default=func.current_timestamp(),
        info=ddl(mysql="TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP"),
    ),
    varchar_column("username", index=True),
    varchar_column("domain", index=True),
    # An absolute path.
    varchar_column("maildir"),
    number_column("bytes", BIG, info=since("1.7.3")),
    number_column("messages", BIG, info=since("1.7.3")),
    varchar_column("admin", index=True),
    # NULL is "keep for ever".
    Column("delete_date", DATE, nullable=True, index=True),
    info=ddl(mysql="KEY (id)"),
)

used_quota = _table(
    "used_quota",
    varchar_column("username", primary_key=True),
    # The size in bytes.
    number_column("bytes", BIG),
    number_column("messages", BIG),
    varchar_column("domain", index=True),
)

last_login = _table(
    "last_login",
    varchar_column("username", primary_key=True),
    varchar_column("domain", primary_key=True, index=True),
    # Seconds since 1970, or NULL.
    Column("imap", COUNT, nullable=True, index=True),
    Column("pop3", COUNT, nullable=True, index=True),
    Column("lda", COUNT, nullable=True, index=True),
    info={**ddl(mysql="PRIMARY KEY (username)"), **since("1.2")},
)

share_folder = _table(
    "share_folder",
    ascii_column("from_user", primary_key=True),
    ascii_column("to_user", primary_key=True, index=True),
    Column("dummy", String(1), nullable=True),
)

anyone_shares = _table(
    "anyone_shares",
    varchar_column("from_user", primary_key=True),
    Column("dummy", String(1), nullable=True),
)

make_with(used_quota)
