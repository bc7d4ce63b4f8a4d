"""The measured requests with the fewest possible statements, and the JSON of the service."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import orjson

from bench.bare.drivers import Driver, Row
from iredapi.domain.passwords import hash_password, verify_password
from iredapi.domain.services import COLUMNS

_USER = "SELECT * FROM mailbox WHERE username = ?"
_ROUTES = "SELECT forwarding FROM forwardings WHERE address = ?"
_QUOTA = "SELECT bytes, messages FROM used_quota WHERE username = ?"
_DOMAIN = "SELECT * FROM domain WHERE domain = ?"
_COUNTS = (
    "SELECT (SELECT count(*) FROM mailbox WHERE domain = ?) AS users,"
    " (SELECT count(*) FROM alias WHERE domain = ?) AS aliases,"
    " (SELECT count(*) FROM maillists WHERE domain = ?) AS lists,"
    " (SELECT coalesce(sum(quota), 0) FROM mailbox WHERE domain = ?) AS quota,"
    " (SELECT coalesce(sum(bytes), 0) FROM used_quota WHERE domain = ?) AS bytes,"
    " (SELECT coalesce(sum(messages), 0) FROM used_quota WHERE domain = ?) AS messages"
)
_RELATED_ROWS = (
    "SELECT 'catchall' AS kind, forwarding AS value FROM forwardings WHERE address = ?"
    " UNION ALL SELECT 'alias', alias_domain FROM alias_domain WHERE target_domain = ?"
    " UNION ALL SELECT 'admin', username FROM domain_admins WHERE domain = ?"
)
_WBLIST = (
    "SELECT m.email FROM wblist w JOIN mailaddr m ON m.id = w.sid JOIN users u ON u.id = w.rid"
    " WHERE u.email = ? AND w.wb = 'W' ORDER BY m.email"
)
_NEW_USER = (
    "INSERT INTO mailbox (username, password, name, maildir, quota, domain, storagebasedirectory,"
    " storagenode, created, modified, passwordlastchange, settings, disclaimer)"
    " VALUES (?, ?, ?, ?, 0, ?, '/var/vmail', 'vmail1', ?, ?, ?, '', '')"
)
_NEW_ROUTE = (
    "INSERT INTO forwardings (address, forwarding, domain, dest_domain, is_forwarding)"
    " VALUES (?, ?, ?, ?, 1)"
)
_SESSION = (
    "INSERT INTO sessions (id_hash, username, role, credential, client, created, seen, expires)"
    " VALUES (?, ?, 'global', ?, '127.0.0.1', ?, ?, ?)"
)
_QUEUE = (
    "INSERT INTO deleted_mailboxes (username, domain, maildir, bytes, messages, admin)"
    " SELECT m.username, m.domain, m.maildir, coalesce(q.bytes, 0), coalesce(q.messages, 0), ?"
    " FROM mailbox m LEFT JOIN used_quota q ON q.username = m.username WHERE m.domain = ?"
)
_SERVICES = {
    name: tuple(f"enable{column}" for column in columns) for name, columns in COLUMNS.items()
}
_ON = frozenset((1, "y"))
_NOTHING: dict[str, Any] = {
    "aliases": [],
    "sender_bcc": "",
    "recipient_bcc": "",
    "outbound_relay": "",
    "last_login": None,
    "last_login_by_service": {"imap": None, "pop3": None, "lda": None},
    "managed_domains": [],
}
_HEADERS = [(b"content-type", b"application/json")]
Answer = Any
Handler = Callable[["Bare", str, Mapping[str, str]], Awaitable[Answer]]


def _user(row: Row) -> dict[str, Any]:
    found = dict(row)
    del found["password"]
    found["settings"] = {}
    found["accountStatus"] = "active" if found["active"] else "disabled"
    found["enabled_services"] = [
        name
        for name, columns in _SERVICES.items()
        if all(found[column] in _ON for column in columns)
    ]
    return found


def _dumps(data: Any) -> bytes:
    return orjson.dumps(data, default=str, option=orjson.OPT_PASSTHROUGH_DATETIME)


class Bare:
    """The program; ``databases`` by name."""

    def __init__(self, kind: str, databases: Mapping[str, Driver]) -> None:
        self._vmail = databases["vmail"]
        self._amavisd = databases["amavisd"]
        self._state = databases["state"]
        self._bytes = kind == "postgresql"
        self._text = kind == "sqlite"
        self._handlers: dict[tuple[str, str], Handler] = {
            ("GET", "user"): Bare._read_user,
            ("POST", "user"): Bare._create_user,
            ("PUT", "user"): Bare._update_user,
            ("GET", "domain"): Bare._read_domain,
            ("DELETE", "domain"): Bare._delete_domain,
            ("PUT", "users"): Bare._update_users,
            ("GET", "wblist"): Bare._read_wblist,
            ("POST", "login"): Bare._login,
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        kind, _, name = scope["path"][1:].partition("/")
        if scope["method"] == "GET" and kind in {"users", "names"}:
            pages = self._users(name) if kind == "users" else self._names(name)
            await _stream(pages, send)
            return
        form: Mapping[str, str] = {}
        if scope["method"] in {"POST", "PUT"}:
            form = dict(parse_qsl((await receive())["body"].decode()))
        data = await self._handlers[scope["method"], kind](self, name, form)
        body = _dumps({"_success": True} if data is None else {"_success": True, "_data": data})
        headers = [*_HEADERS, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _now(self) -> Any:
        moment = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
        return str(moment) if self._text else moment

    async def _read_user(self, mail: str, _: Mapping[str, str]) -> Answer:
        users, routes, quotas = await self._vmail.rows(
            (_USER, (mail,)), (_ROUTES, (mail,)), (_QUOTA, (mail,))
        )
        found = _user(users[0]) | _NOTHING
        found["forwardings"] = [row["forwarding"] for row in routes]
        found["stored_bytes"] = quotas[0]["bytes"] if quotas else 0
        found["stored_messages"] = quotas[0]["messages"] if quotas else 0
        return found

    async def _read_domain(self, name: str, _: Mapping[str, str]) -> Answer:
        domains, counts, related_rows = await self._vmail.rows(
            (_DOMAIN, (name,)), (_COUNTS, (name,) * 6), (_RELATED_ROWS, (name,) * 3)
        )
        found, count = dict(domains[0]), counts[0]
        return found | {
            "settings": {},
            "accountStatus": "active" if found["active"] else "disabled",
            "catchall": [row["value"] for row in related_rows if row["kind"] == "catchall"],
            "alias_domains": [row["value"] for row in related_rows if row["kind"] == "alias"],
            "sender_bcc": "",
            "recipient_bcc": "",
            "outbound_relay": "",
            "primarymx": "",
            "admins": [row["value"] for row in related_rows if row["kind"] == "admin"],
            "num_existing_users": count["users"],
            "num_existing_aliases": count["aliases"],
            "num_existing_maillists": count["lists"],
            "allocated_quota": int(count["quota"]),
            "used_quota": {"bytes": int(count["bytes"]), "messages": int(count["messages"])},
        }

    async def _users(self, domain: str) -> AsyncIterator[list[Any]]:
        async for rows in self._vmail.stream(
            "SELECT * FROM mailbox WHERE domain = ? ORDER BY username", domain
        ):
            yield [_user(row) for row in rows]

    async def _names(self, domain: str) -> AsyncIterator[list[Any]]:
        async for rows in self._vmail.stream(
            "SELECT username FROM mailbox WHERE domain = ? ORDER BY username", domain
        ):
            yield [row["username"] for row in rows]

    async def _create_user(self, mail: str, form: Mapping[str, str]) -> Answer:
        domain = mail.partition("@")[2]
        now = self._now()
        place = f"{domain}/{mail[0]}/{mail}-{now}/"
        values = (
            mail, hash_password(form["password"]), form["name"], place, domain, now, now, now
        )  # fmt: skip
        await self._vmail.run([(_NEW_USER, values), (_NEW_ROUTE, (mail, mail, domain, domain))])

    async def _update_user(self, mail: str, form: Mapping[str, str]) -> Answer:
        statement = "UPDATE mailbox SET name = ?, modified = ? WHERE username = ?"
        await self._vmail.run([(statement, (form["name"], self._now(), mail))])

    async def _update_users(self, domain: str, form: Mapping[str, str]) -> Answer:
        statement = "UPDATE mailbox SET language = ?, modified = ? WHERE domain = ?"
        await self._vmail.run([(statement, (form["language"], self._now(), domain))])

    async def _delete_domain(self, domain: str, _: Mapping[str, str]) -> Answer:
        await self._vmail.run(
            [
                (_QUEUE, ("bare", domain)),
                ("DELETE FROM forwardings WHERE domain = ? OR dest_domain = ?", (domain, domain)),
                ("DELETE FROM used_quota WHERE domain = ?", (domain,)),
                ("DELETE FROM alias WHERE domain = ?", (domain,)),
                ("DELETE FROM mailbox WHERE domain = ?", (domain,)),
                ("DELETE FROM domain_admins WHERE domain = ?", (domain,)),
                ("DELETE FROM alias_domain WHERE target_domain = ?", (domain,)),
                ("DELETE FROM domain WHERE domain = ?", (domain,)),
            ]
        )

    async def _read_wblist(self, account: str, _: Mapping[str, str]) -> Answer:
        account = f"@{account}"
        (rows,) = await self._amavisd.rows(
            (_WBLIST, (account.encode() if self._bytes else account,))
        )
        return [
            row["email"] if isinstance(row["email"], str) else row["email"].decode() for row in rows
        ]

    async def _login(self, _: str, form: Mapping[str, str]) -> Answer:
        (admins,) = await self._vmail.rows(
            ("SELECT password FROM admin WHERE username = ?", (form["username"],))
        )
        stored = admins[0]["password"]
        if not verify_password(form["password"], stored):
            raise ValueError("wrong password")
        session = secrets.token_urlsafe(32)
        hashed, proof = (hashlib.sha256(item.encode()).hexdigest() for item in (session, stored))
        now = time.time()
        values = (hashed, form["username"], proof, now, now, now + 3600)
        await self._state.run([(_SESSION, values)])
        return session


async def _stream(pages: AsyncIterator[list[Any]], send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    lead = b'{"_data":['
    async for page in pages:
        await send(
            {"type": "http.response.body", "body": lead + _dumps(page)[1:-1], "more_body": True}
        )
        lead = b","
    await send({"type": "http.response.body", "body": b'],"_success":true}'})
