"""The measured requests on OpenLDAP: the service's library in threads, without a framework."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qsl

import bonsai
import orjson
from bonsai import LDAPEntry, LDAPSearchScope

from iredapi.domain.passwords import Scheme, hash_password

CONNECTIONS = 8
PAGE = 100
_HEADERS = [(b"content-type", b"application/json")]
CLASSES = ["inetOrgPerson", "mailUser", "shadowAccount", "amavisAccount"]
SERVICES = (
    "mail deliver forward smtp smtpsecured smtptls imap imapsecured imaptls pop3 pop3secured"
    " pop3tls sieve sievesecured sievetls managesieve managesievesecured managesievetls lda lmtp"
    " internal doveadm lib-storage indexer-worker dsync quota-status senderbcc recipientbcc"
    " shadowaddress displayedInGlobalAddressBook sogo"
).split()


class Directory:
    """The program; ``given`` has URI, BASE, DN and PASSWORD."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._base = given["BASE"]
        self._client = bonsai.LDAPClient(given["URI"])
        self._client.set_credentials("SIMPLE", user=given["DN"], password=given["PASSWORD"])
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(CONNECTIONS)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        kind, _, name = scope["path"][1:].partition("/")
        work: Callable[[Any], Any]
        if scope["method"] == "POST":
            form = dict(parse_qsl((await receive())["body"].decode()))
            work = lambda connection: self._create(connection, name, form)  # noqa: E731
        elif kind == "user":
            work = lambda connection: self._read(connection, name)  # noqa: E731
        else:
            names = ["mail"] if kind == "names" else None
            work = lambda connection: self._list(connection, name, names)  # noqa: E731
        data = await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work)
        answer = {"_success": True} if data is None else {"_data": data, "_success": True}
        body = orjson.dumps(answer, default=str)
        headers = [*_HEADERS, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _run(self, work: Callable[[Any], Any]) -> Any:
        try:
            connection = self._free.get_nowait()
        except queue.Empty:
            connection = self._client.connect()
        found = work(connection)
        self._free.put(connection)
        return found

    def _users(self, domain: str) -> str:
        return f"ou=Users,domainName={domain},{self._base}"

    def _read(self, connection: Any, mail: str) -> Any:
        dn = f"mail={mail},{self._users(mail.partition('@')[2])}"
        (entry,) = connection.search(dn, LDAPSearchScope.BASE)
        return _shown(entry)

    def _list(self, connection: Any, domain: str, names: list[str] | None) -> Any:
        found = connection.paged_search(
            self._users(domain), LDAPSearchScope.ONE, "(objectClass=mailUser)", names,
            page_size=PAGE,
        )  # fmt: skip
        return [entry["mail"][0] if names else _shown(entry) for entry in found]

    def _create(self, connection: Any, mail: str, form: Mapping[str, str]) -> None:
        local, _, domain = mail.partition("@")
        entry = LDAPEntry(f"mail={mail},{self._users(domain)}")
        entry["objectClass"] = CLASSES
        entry["mail"], entry["uid"], entry["cn"], entry["sn"] = mail, local, form["name"], local
        entry["userPassword"] = hash_password(form["password"], Scheme.SSHA)
        entry["homeDirectory"] = f"/var/vmail/vmail1/{domain}/{local}/"
        entry["accountStatus"] = "active"
        entry["enabledService"] = SERVICES
        connection.add(entry)


def _shown(entry: Any) -> dict[str, Any]:
    return {name: values for name, values in entry.items() if name not in {"dn", "userPassword"}}
