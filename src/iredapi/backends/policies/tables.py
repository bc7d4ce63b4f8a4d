"""Tables of the databases `amavisd`, `iredapd` and `iredadmin` that we read or write.

iRedMail creates these databases; our `CREATE TABLE` is for embedded SQLite files and tests. They
are three databases: on SQLite use one file for each (`deleted_mailboxes` is in `vmail`, too). Sizes
in `throttle` are in bytes, periods in seconds.
"""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    CHAR,
    REAL,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
    func,
    insert,
    select,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine

from iredapi.database.column_types import (
    BIG,
    FLAG,
    ID,
    ID32,
    MYSQL,
    ByteText,
    ddl,
    mysql_options,
    number_column,
    since,
    text_column,
    varchar_column,
)
from iredapi.database.datetimes import DATE, DATETIME
from iredapi.domain.spam import SHIPPED

__all__ = [
    "SEEDS",
    "ByteText",
    "amavisd_metadata",
    "deleted_mailboxes",
    "domain_ownership",
    "greylisting",
    "greylisting_tracking",
    "greylisting_whitelist_domain_spf",
    "greylisting_whitelist_domains",
    "greylisting_whitelists",
    "iredadmin_metadata",
    "iredapd_metadata",
    "log",
    "mailaddr",
    "outbound_wblist",
    "policy",
    "seed",
    "settings",
    "throttle",
    "throttle_tracking",
    "users",
    "wblist",
]

amavisd_metadata = MetaData()
iredapd_metadata = MetaData()
iredadmin_metadata = MetaData()


_NOT_POSTGRESQL: Any = (*MYSQL, "sqlite")

_ACCOUNT = String(255).with_variant(String(100), *MYSQL)
_PRIORITY = SmallInteger().with_variant(mysql.TINYINT(), *MYSQL)
_SECONDS = BIG.with_variant(mysql.INTEGER(unsigned=True), *MYSQL)


def _table(metadata: MetaData, name: str, *items: Any, info: dict[str, Any] | None = None) -> Table:
    return Table(name, metadata, *items, info=info or {}, **mysql_options())


def _id(kind: Any = ID32) -> Column[Any]:
    return Column("id", kind, primary_key=True, autoincrement=True)


def _reference(name: str, **kw: Any) -> Column[Any]:
    """Return a column with the id of a row in another table, without a foreign key."""
    return Column(name, ID32, nullable=False, autoincrement=False, **kw)


def _not_negative(*names: str) -> list[CheckConstraint]:
    return [CheckConstraint(f"{name} >= 0").ddl_if(dialect="postgresql") for name in names]


# --- amavisd --------------------------------------------------------------------------------------

users = _table(
    amavisd_metadata,
    "users",
    _id(),
    number_column("priority", Integer(), 7),
    _reference("policy_id", server_default="1", index=True),
    Column("email", ByteText, nullable=False, unique=True),
    Column("fullname", String(255)),
    *_not_negative("policy_id"),
)

mailaddr = _table(
    amavisd_metadata,
    "mailaddr",
    _id(),
    number_column("priority", Integer(), 7),
    Column("email", ByteText, nullable=False, unique=True),
)


def _wblist(name: str) -> Table:
    return _table(
        amavisd_metadata,
        name,
        _reference("rid", primary_key=True),
        _reference("sid", primary_key=True),
        Column("wb", String(10), nullable=False),
        *_not_negative("rid", "sid"),
    )


wblist = _wblist("wblist")
"""Inbound lists: `rid` refers to `users`, `sid` to `mailaddr`."""

outbound_wblist = _wblist("outbound_wblist")
"""Outbound lists: `rid` refers to `mailaddr`, `sid` to `users`."""


def _inherited(kind: TypeEngine[Any], names: str, *, optional: bool = False) -> list[Column[Any]]:
    """Return columns of `policy`; NULL means that the next policy's value applies."""
    return [Column(name, kind, info=since("?") if optional else {}) for name in names.split()]


_CHAR = CHAR(1)
_LEVEL: TypeEngine[Any] = REAL().with_variant(mysql.FLOAT(), *MYSQL)

policy = _table(
    amavisd_metadata,
    "policy",
    _id(),
    Column(
        "policy_name",
        String(255),
        unique=True,
        info=ddl(mysql="VARCHAR(255) NOT NULL DEFAULT ''"),
    ),
    *_inherited(_CHAR, "virus_lover spam_lover banned_files_lover bad_header_lover"),
    *_inherited(
        _CHAR,
        "bypass_virus_checks bypass_spam_checks bypass_banned_checks bypass_header_checks",
    ),
    *_inherited(String(64), "virus_quarantine_to spam_quarantine_to"),
    *_inherited(String(64), "banned_quarantine_to bad_header_quarantine_to"),
    *_inherited(String(64), "spam_subject_tag2 banned_rulenames"),
    *_inherited(_LEVEL, "spam_tag_level spam_tag2_level spam_kill_level"),
    # We never write the following columns.
    *_inherited(
        _CHAR,
        "unchecked_lover warnvirusrecip warnbannedrecip warnbadhrecip",
        optional=True,
    ),
    *_inherited(
        String(64),
        "unchecked_quarantine_to clean_quarantine_to archive_quarantine_to addr_extension_virus"
        " addr_extension_spam addr_extension_banned addr_extension_bad_header newvirus_admin"
        " virus_admin banned_admin bad_header_admin spam_admin spam_subject_tag spam_subject_tag3"
        " disclaimer_options forward_method sa_userconf sa_username",
        optional=True,
    ),
    *_inherited(
        _LEVEL,
        "spam_tag3_level spam_dsn_cutoff_level spam_quarantine_cutoff_level",
        optional=True,
    ),
    *_inherited(Integer(), "message_size_limit", optional=True),
)

# --- iredapd --------------------------------------------------------------------------------------

_THROTTLE_ID: TypeEngine[int] = Integer().with_variant(mysql.BIGINT(unsigned=True), *MYSQL)

throttle = _table(
    iredapd_metadata,
    "throttle",
    _id(_THROTTLE_ID),
    Column("account", String(255), nullable=False),
    varchar_column("kind", 10, "outbound"),
    number_column("priority", BIG.with_variant(mysql.TINYINT(1, unsigned=True), *MYSQL)),
    number_column("period", _SECONDS),
    # -1: the next account's limit applies; 0: unlimited. msg_size and max_quota in bytes.
    *(number_column(name, BIG, -1) for name in ("msg_size", "max_msgs", "max_quota", "max_rcpts")),
    # PostgreSQL has no unique key here: two rows of an account and kind can exist.
    UniqueConstraint("account", "kind").ddl_if(dialect=_NOT_POSTGRESQL),
    Index("ix_throttle_account", "account").ddl_if(dialect="postgresql"),
)

throttle_tracking = _table(
    iredapd_metadata,
    "throttle_tracking",
    _id(_THROTTLE_ID),
    Column("tid", _THROTTLE_ID, ForeignKey("throttle.id"), nullable=False, index=True),
    Column("account", String(255), nullable=False),
    number_column("period", _SECONDS),
    number_column("cur_msgs", BIG.with_variant(mysql.MEDIUMINT(unsigned=True), *MYSQL)),
    number_column("cur_quota", _SECONDS),  # bytes
    number_column("init_time", _SECONDS),
    number_column("last_time", _SECONDS),
    number_column("last_notify_time", _SECONDS, info=since("?")),
    UniqueConstraint("tid", "account").ddl_if(dialect=_NOT_POSTGRESQL),
)


def _account(name: str) -> Column[Any]:
    return Column(name, _ACCOUNT, nullable=False, server_default="")


greylisting = _table(
    iredapd_metadata,
    "greylisting",
    _id(ID),
    _account("account"),
    number_column("priority", _PRIORITY),
    _account("sender"),
    number_column("sender_priority", _PRIORITY),
    varchar_column("comment"),
    number_column("active", FLAG, 1),
    UniqueConstraint("account", "sender"),
)


def _whitelist(name: str) -> Table:
    return _table(
        iredapd_metadata,
        name,
        _id(ID),
        _account("account"),
        _account("sender"),
        varchar_column("comment"),
        UniqueConstraint("account", "sender"),
    )


greylisting_whitelists = _whitelist("greylisting_whitelists")
greylisting_whitelist_domain_spf = _whitelist("greylisting_whitelist_domain_spf")

greylisting_whitelist_domains = _table(
    iredapd_metadata,
    "greylisting_whitelist_domains",
    _id(ID),
    varchar_column("domain", unique=True),
)

greylisting_tracking = _table(
    iredapd_metadata,
    "greylisting_tracking",
    _id(ID),
    varchar_column("sender"),
    varchar_column("recipient"),
    varchar_column("client_address", 40),
    varchar_column("sender_domain", index=True),
    varchar_column("rcpt_domain", index=True),
    *(number_column(n, _SECONDS) for n in ("init_time", "block_expired", "record_expired")),
    number_column("blocked_count", _SECONDS),
    number_column("passed", FLAG),
    UniqueConstraint("sender", "recipient", "client_address"),
)

# --- iredadmin ------------------------------------------------------------------------------------


def _now(name: str) -> Column[Any]:
    info = ddl(mysql="TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP")
    default = func.current_timestamp()
    return Column(name, DATETIME, nullable=False, server_default=default, info=info)


log = _table(
    iredadmin_metadata,
    "log",
    _id(ID),
    _now("timestamp"),
    varchar_column("admin", index=True),
    varchar_column("ip", 40, index=True),
    varchar_column("domain", index=True),
    varchar_column("username", index=True),
    varchar_column("event", 20, index=True),
    varchar_column("loglevel", 10, "info"),
    text_column("msg"),
)

settings = _table(
    iredadmin_metadata,
    "settings",
    _id(ID),
    varchar_column("account", default="global"),
    varchar_column("k"),
    text_column("v"),
    UniqueConstraint("account", "k"),
    info=since("?"),
)

domain_ownership = _table(
    iredadmin_metadata,
    "domain_ownership",
    _id(ID),
    varchar_column("admin"),
    varchar_column("domain"),
    varchar_column("alias_domain"),
    varchar_column("verify_code", 100),
    number_column("verified", FLAG),
    text_column("message"),
    Column("last_verify", DATETIME),
    number_column("expire", BIG.with_variant(mysql.INTEGER(), *MYSQL)),
    UniqueConstraint("admin", "domain", "alias_domain"),
    info=since("?"),
)

deleted_mailboxes = _table(
    iredadmin_metadata,
    "deleted_mailboxes",
    _id(ID),
    _now("timestamp"),
    varchar_column("username", index=True),
    varchar_column("domain", index=True),
    varchar_column("maildir"),
    number_column("bytes", BIG, info=since("1.7.3")),
    number_column("messages", BIG, info=since("1.7.3")),
    varchar_column("admin", index=True),
    Column("delete_date", DATE, index=True),
    # Exists with the LDAP backend only.
    info={**ddl(mysql="KEY (id)"), **since("?")},
)

# --- a new installation ---------------------------------------------------------------------------

SEEDS: Mapping[str, Sequence[Mapping[str, Any]]] = MappingProxyType(
    {
        "policy": ({"policy_name": "@.", **SHIPPED},),
        "users": ({"email": "@.", "priority": 0, "policy_id": 1},),
        "greylisting": (
            {"account": "@.", "priority": 0, "sender": "@.", "sender_priority": 0, "active": 1},
        ),
    }
)
"""Rows of a new iRedMail server, by table. The database assigns the ids (1)."""


async def seed(
    connection: AsyncConnection, metadata: MetaData, created: Collection[str] | None = None
) -> None:
    """Insert the rows of a new server into tables that were just created and are empty.

    `created` are the names that `create_all` returned. Without it every empty table gets its rows;
    that is wrong for a database in use, where an administrator may have deleted them.
    """
    for name, rows in SEEDS.items():
        table = metadata.tables.get(name)
        if table is None or (created is not None and name not in created):
            continue
        if await connection.scalar(select(func.count()).select_from(table)) == 0:
            await connection.execute(insert(table), [dict(row) for row in rows])
