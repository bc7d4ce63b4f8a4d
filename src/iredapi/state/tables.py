"""The tables of the state database, and the conversion of texts to keys.

Times are seconds since the epoch (UTC) as doubles: leases may be shorter than a second. A change
here needs a new file in ``migrations/versions``; ``tests/contract/test_state.py`` compares the two.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    CHAR,
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql.dml import Insert
from sqlalchemy.sql.elements import ColumnElement

KEY_LENGTH = 320
"""Characters in ``login_attempts.key``: 64 + ``@`` + 255, the longest mail address."""

NAME_LENGTH = 255
"""Characters in ``locks.name``."""

ACCOUNT_LENGTH = 320
"""Characters in ``events.account``."""

REQUEST_ID_LENGTH = 64
"""Characters in ``log_details.request_id``."""

CLIENT_LENGTH = 64
"""Characters in ``sessions.client``: an IPv6 address with a zone."""

# With MariaDB's default collations "a" equals "A" and "ä".
MARIADB_OPTIONS: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (
        ("engine", "InnoDB"),
        ("charset", "utf8mb4"),
        ("collate", "utf8mb4_bin"),
        ("row_format", "DYNAMIC"),
    )
}

_MARIADB = ("mysql", "mariadb")
metadata = MetaData()

sessions = Table(
    "sessions",
    metadata,
    Column("id_hash", CHAR(64), primary_key=True),
    Column("username", String(255), nullable=False),
    Column("role", String(16), nullable=False),
    Column("credential", CHAR(64), nullable=False),
    Column("client", String(CLIENT_LENGTH), nullable=False),
    Column("created", Double, nullable=False),
    Column("seen", Double, nullable=False),
    Column("expires", Double, nullable=False),
    Index("sessions_username", "username"),
    **MARIADB_OPTIONS,
)
"""Login sessions. ``id_hash`` is the SHA-256 of the id, which only the client has;
``seen`` is the last use, ``expires`` the absolute end."""

login_attempts = Table(
    "login_attempts",
    metadata,
    Column("key", String(KEY_LENGTH), primary_key=True),
    Column("count", Integer, nullable=False),
    Column("window_start", Double, nullable=False),
    Column("guesses", Text, nullable=True),
    Index("login_attempts_window_start", "window_start"),
    **MARIADB_OPTIONS,
)
"""Attempts to log in since ``window_start``, per account and per client address. ``guesses`` holds
short keyed tags of the passwords that were tried, with commas around each."""

known_networks = Table(
    "known_networks",
    metadata,
    Column("account", String(255), primary_key=True),
    Column("network", String(CLIENT_LENGTH), primary_key=True),
    Column("seen", Double, nullable=False),
    **MARIADB_OPTIONS,
)
"""Networks from which accounts have logged in, with the time of the last login."""

locks = Table(
    "locks",
    metadata,
    Column("name", String(NAME_LENGTH), primary_key=True),
    Column("holder", CHAR(32), nullable=False),
    Column("expires", Double, nullable=False),
    **MARIADB_OPTIONS,
)
"""Leased locks; after ``expires`` any holder may take the row over."""


journal = Table(
    "journal",
    metadata,
    Column("id", CHAR(32), primary_key=True),
    Column("names", Text, nullable=False),
    Column("plan", Text().with_variant(mysql.LONGTEXT(), *_MARIADB), nullable=False),
    Column("created", Double, nullable=False),
    **MARIADB_OPTIONS,
)
"""Writes to LDAP that have begun and not ended: ``names`` (JSON) are the locks that they hold,
``plan`` (JSON) is how they are undone. Contains password hashes of the changed entries."""


tokens = Table(
    "tokens",
    metadata,
    Column("id", CHAR(16), primary_key=True),
    Column("secret_hash", CHAR(64), nullable=False),
    Column("old_hash", CHAR(64), nullable=True),
    Column("old_until", Double, nullable=False),
    Column("hint", String(16), nullable=False),
    Column("owner", String(255), nullable=False),
    Column("role", String(16), nullable=False),
    Column("account", CHAR(64), nullable=False),
    Column("label", String(255), nullable=False),
    Column("read_only", Integer, nullable=False),
    Column("domains", Text, nullable=False),
    Column("networks", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("expires", Double, nullable=True),
    Column("used", Double, nullable=True),
    Column("credential", CHAR(64), nullable=True),
    Index("tokens_secret_hash", "secret_hash", unique=True),
    Index("tokens_old_hash", "old_hash"),
    Index("tokens_owner", "owner"),
    **MARIADB_OPTIONS,
)
"""API tokens. ``secret_hash`` is the SHA-256 of the token, which only the client has; ``old_hash``
that of the previous one, valid until ``old_until``; lists have commas around every item;
``credential`` is a fingerprint of the owner's password, NULL before the first use."""


renames = Table(
    "renames",
    metadata,
    Column("name", String(NAME_LENGTH), primary_key=True),
    Column("begun", Double, nullable=False),
    **MARIADB_OPTIONS,
)
"""Renames of accounts that have begun and not ended; ``name`` is made of both addresses."""


guarded_mailboxes = Table(
    "guarded_mailboxes",
    metadata,
    Column("path", String(NAME_LENGTH), primary_key=True),
    Column("since", Double, nullable=False),
    **MARIADB_OPTIONS,
)
"""Directories of removed users who were global admins."""


signing_keys = Table(
    "signing_keys",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", CHAR(64), nullable=False),
    **MARIADB_OPTIONS,
)
"""Random keys that sign what clients send back (cursors of lists); ``value`` is hexadecimal. A key
in this table gives no rights to who knows it."""


idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("id", CHAR(64), primary_key=True),
    Column("request", CHAR(64), nullable=False),
    Column("holder", CHAR(32), nullable=False),
    Column("phase", String(16), nullable=False),
    Column("lease", Double, nullable=False),
    Column("created", Double, nullable=False),
    Column("outcome", Text().with_variant(mysql.LONGTEXT(), *_MARIADB), nullable=True),
    Column("journaled", Integer, nullable=False),
    Column("status", Integer, nullable=True),
    Column("headers", Text, nullable=True),
    Column("body", Text().with_variant(mysql.LONGTEXT(), *_MARIADB), nullable=True),
    Index("idempotency_keys_created", "created"),
    **MARIADB_OPTIONS,
)
"""Requests with a key. ``id`` is a digest of caller and key, ``request`` a keyed digest of the
request. ``holder`` carries it out until ``lease``; ``outcome`` (JSON) tells whether a commit that
was begun was made, unless ``journaled`` says that the journal does. Then there is the answer."""


written_servers = Table(
    "written_servers",
    metadata,
    Column("process", CHAR(32), primary_key=True),
    Column("name", String(32), primary_key=True),
    Column("server", String(255), nullable=False),
    Column("shown", String(255), nullable=False),
    Column("host", String(255), nullable=False),
    Column("since", Double, nullable=False),
    Column("seen", Double, nullable=False),
    Index("written_servers_seen", "seen"),
    **MARIADB_OPTIONS,
)
"""The server of each database (``name``) to which a process writes. ``server`` is what
``Topology.writer`` says, ``shown`` and ``host`` are for people: the server and the process's host;
``since`` is when the process found itself on that server, ``seen`` when it last looked."""


log_detail_blocks = Table(
    "log_detail_blocks",
    metadata,
    Column("bucket", BigInteger, primary_key=True, autoincrement=False),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("entries", Text().with_variant(mysql.MEDIUMTEXT(), *_MARIADB), nullable=False),
    Column("created", Double, nullable=False),
    Index("log_detail_blocks_created", "created"),
    **MARIADB_OPTIONS,
)
"""What is kept beside entries of iRedAdmin's log (docs/adr/0017): ``entries`` is a JSON list of
``[id, digest, request id, kind of record, changes]``, without secrets. The entries' ids divided by
``log_details.BUCKET`` are ``bucket``; ``id`` is random."""


pending_events = Table(
    "pending_events",
    metadata,
    Column("id", CHAR(32), primary_key=True),
    Column("written", Double, nullable=False),
    Column("due", Double, nullable=False),
    Column("account", String(ACCOUNT_LENGTH), nullable=False),
    Column("body", Text().with_variant(mysql.MEDIUMTEXT(), *_MARIADB), nullable=False),
    Index("pending_events_account", "account"),
    Index("pending_events_due", "due"),
    **MARIADB_OPTIONS,
)
"""Events of writes whose commit is about to begin (docs/adr/0019). After ``due`` any replica
publishes them; ``body`` is the event as JSON."""


events = Table(
    "events",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("id", CHAR(32), nullable=False),
    Column("time", Double, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("account", String(ACCOUNT_LENGTH), nullable=False),
    Column("domain", String(NAME_LENGTH), nullable=False),
    Column("body", Text().with_variant(mysql.MEDIUMTEXT(), *_MARIADB), nullable=False),
    Index("events_id", "id"),
    Index("events_domain", "domain", "position"),
    **MARIADB_OPTIONS,
)
"""Published events, in the order of ``position``; a repeated event has its first one's ``id``.
``body`` is JSON: what the event says beside the other columns."""


event_counter = Table(
    "event_counter",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("value", BigInteger, nullable=False),
    **MARIADB_OPTIONS,
)
"""``events``: the position of the last published event. Who publishes holds the lock of this row
until the commit, so positions become visible in their order. ``interrupted``: a position that no
event has; changes were made of which there are no events, and earlier cursors are not continued."""


webhooks = Table(
    "webhooks",
    metadata,
    Column("id", CHAR(16), primary_key=True),
    Column("owner", String(255), nullable=False),
    Column("role", String(16), nullable=False),
    Column("account", CHAR(64), nullable=False),
    Column("label", String(255), nullable=False),
    Column("url", Text, nullable=False),
    Column("kinds", Text, nullable=False),
    Column("domains", Text().with_variant(mysql.MEDIUMTEXT(), *_MARIADB), nullable=False),
    Column("secret", String(64), nullable=False),
    Column("old_secret", String(64), nullable=False),
    Column("old_until", Double, nullable=False),
    Column("created", Double, nullable=False),
    Column("enabled", Integer, nullable=False),
    Column("reason", String(32), nullable=False),
    Column("changed", Double, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("progress", Text().with_variant(mysql.MEDIUMTEXT(), *_MARIADB), nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("delivered", Double, nullable=True),
    Column("failing", Double, nullable=True),
    Index("webhooks_owner", "owner"),
    **MARIADB_OPTIONS,
)
"""Webhooks (``domain.webhooks.Webhook``). ``secret`` is as it was shown: requests are signed with
it. ``domains`` is ``*`` for all that the owner manages; other lists have commas between items. The
sender alone writes ``position``, ``progress``, ``attempts``, ``delivered`` and ``failing``."""


webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("webhook", CHAR(16), primary_key=True),
    Column("slot", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
    Column("event", CHAR(32), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("time", Double, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("status", Integer, nullable=True),
    Column("reason", String(32), nullable=False),
    Column("milliseconds", Integer, nullable=False),
    Index("webhook_deliveries_time", "time"),
    **MARIADB_OPTIONS,
)
"""The last attempts of each webhook: ``number`` counts them, ``slot`` is its place in a ring."""


def as_key(text: str, length: int) -> str:
    """Return ``text``, or its SHA-256 if a column of ``length`` characters cannot store it exactly.

    Hashed are texts that are too long, or contain blanks, NUL or other than printable ASCII.
    """
    if len(text) <= length and text.isascii() and text.isprintable() and " " not in text:
        return text
    return "sha256 " + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def upsert(
    dialect: str,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    changes: Sequence[tuple[str, ColumnElement[Any]]],
) -> Insert:
    """Return an INSERT of ``rows`` that applies ``changes`` to existing rows instead; atomic.

    MariaDB assigns from left to right: a change must not read a column that an earlier one has set.
    """
    if dialect in ("mysql", "mariadb"):
        return mysql.insert(table).values(rows).on_duplicate_key_update(list(changes))
    key = list(table.primary_key)
    if dialect == "postgresql":
        return (
            postgresql.insert(table)
            .values(rows)
            .on_conflict_do_update(index_elements=key, set_=dict(changes))
        )
    return (
        sqlite.insert(table)
        .values(rows)
        .on_conflict_do_update(index_elements=key, set_=dict(changes))
    )


def upsert_values(
    dialect: str, table: Table, rows: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> Insert:
    """Return an INSERT of ``rows`` that stores these columns' values in existing rows; atomic.

    No rows: those with which it is run.
    """
    if dialect in _MARIADB:
        to_mysql = mysql.insert(table).values(rows) if rows else mysql.insert(table)
        return to_mysql.on_duplicate_key_update([(name, to_mysql.inserted[name]) for name in names])
    kind = postgresql if dialect == "postgresql" else sqlite
    new: Any = kind.insert(table).values(rows) if rows else kind.insert(table)
    stored: Insert = new.on_conflict_do_update(
        index_elements=list(table.primary_key), set_={name: new.excluded[name] for name in names}
    )
    return stored
