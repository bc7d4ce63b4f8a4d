"""What the mail server makes of the accounts, asked in one way on all kinds of store.

On PostgreSQL, MariaDB and OpenLDAP the real ``postmap`` and the real Dovecot answer. On SQLite
plain SQL of the same meaning does, written from the description of the lookups once more, so that
it also checks the queries that the real ones are given.

The maps of SQL and of LDAP have different names and different parts of the work; what they come
to in the end (:func:`delivery`, :func:`transport`, …) has one meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from iredapi.domain.passwords import verify_password
from tests.servers.dovecot import Dovecot, Secured
from tests.servers.postfix import PARAMETERS, PostfixMaps
from tests.servers.process import ServerError
from tests.servers.store import Store


class MailServer(Protocol):
    """Postfix's maps and Dovecot's lookups."""

    parameters: Mapping[str, tuple[str, ...]]
    """Parameter of main.cf → its maps, in their order."""

    async def query(self, map_name: str, key: str) -> set[str]:
        """Return the answers of a map; several rows are a set, because their order is open."""
        ...

    async def login(
        self, user: str, password: str, service: str = "imap", secured: Secured = "tls"
    ) -> bool:
        """Tell whether a client may log in to a service."""
        ...

    async def user(self, user: str, service: str = "lmtp") -> dict[str, str] | None:
        """Return home, mail and quota_rule of a user for a service, or None."""
        ...


class RealMailServer:
    """``postmap`` and ``doveadm``."""

    def __init__(self, postfix: PostfixMaps, dovecot: Dovecot) -> None:
        self.parameters = postfix.parameters
        self._postfix = postfix
        self._dovecot = dovecot

    async def query(self, map_name: str, key: str) -> set[str]:
        return self._postfix.query(map_name, key)

    async def login(
        self, user: str, password: str, service: str = "imap", secured: Secured = "tls"
    ) -> bool:
        return self._dovecot.auth_test(user, password, service=service, secured=secured)

    async def user(self, user: str, service: str = "lmtp") -> dict[str, str] | None:
        return self._dovecot.user(user, service)


# What Postfix does with its maps: the first with an answer counts, for the first key with one.


async def first(server: MailServer, parameter: str, keys: Iterable[str]) -> set[str]:
    """Return the answers of a parameter's maps."""
    for key in keys:
        for name in server.parameters[parameter]:
            if answers := await server.query(name, key):
                return answers
    return set()


def _keys(address: str, *, domain: bool = True) -> list[str]:
    """The address, the address without extension, ``@domain``."""
    local, _, host = address.rpartition("@")
    keys = [address]
    if "+" in local:
        keys.append(f"{local.partition('+')[0]}@{host}")
    return [*keys, f"@{host}"] if domain else keys


async def is_hosted(server: MailServer, domain: str) -> bool:
    """Tell whether mailboxes of a domain are here (``virtual_mailbox_domains``)."""
    return bool(await first(server, "virtual_mailbox_domains", [domain]))


async def is_relayed(server: MailServer, domain: str) -> bool:
    """Tell whether we are a backup MX of a domain (``relay_domains``)."""
    return bool(await first(server, "relay_domains", [domain]))


async def accepts(server: MailServer, address: str) -> bool:
    """Tell whether mail to an address is taken from outside (``reject_unlisted_recipient``)."""
    domain = address.rpartition("@")[2]
    if not await is_hosted(server, domain):
        # No relay_recipient_maps: a backup MX takes everything.
        return await is_relayed(server, domain)
    return bool(
        await first(server, "virtual_alias_maps", _keys(address))
        or await first(server, "virtual_mailbox_maps", _keys(address))
    )


async def delivery(server: MailServer, address: str) -> set[str]:
    """Return where mail to an address ends: mailboxes, lists, addresses elsewhere.

    ``virtual_alias_maps`` are followed to the end; a part that would bounce is left out. Nothing
    when the domain is not hosted here.
    """
    if not await is_hosted(server, address.rpartition("@")[2]):
        return set()
    found: set[str] = set()
    seen: set[str] = set()
    to_do = [address.lower()]
    while to_do:
        here = to_do.pop()
        if here in seen:
            continue
        seen.add(here)
        answers = await first(server, "virtual_alias_maps", _keys(here))
        if (not answers or here in answers) and await _ends(server, here):
            found.add(here)
        to_do += answers - {here}
    return found


async def _ends(server: MailServer, address: str) -> bool:
    domain = address.rpartition("@")[2]
    if not await is_hosted(server, domain):
        return True
    if await first(server, "virtual_mailbox_maps", _keys(address, domain=False)):
        return True
    way = await transport(server, address)
    return way is not None and way.startswith("mlmmj:")


async def transport(server: MailServer, address: str) -> str | None:
    """Return what delivers mail to an address, or None for Postfix's default."""
    domain = address.rpartition("@")[2]
    answers = await first(server, "transport_maps", [*_keys(address, domain=False), domain])
    return next(iter(answers), None)


async def copies(server: MailServer, side: str, address: str) -> set[str]:
    """Return where copies of what a sender sends or a recipient gets go (``*_bcc_maps``)."""
    return await first(server, f"{side}_bcc_maps", _keys(address))


async def relayhost(server: MailServer, sender: str) -> str | None:
    """Return the host that takes what a sender sends, or None."""
    answers = await first(server, "sender_dependent_relayhost_maps", _keys(sender))
    return next(iter(answers), None)


async def sends_as(server: MailServer, address: str) -> set[str]:
    """Return the logins that may send as an address (``smtpd_sender_login_maps``)."""
    return await first(server, "smtpd_sender_login_maps", _keys(address, domain=False))


_BCC_USER = """
    SELECT c.bcc_address FROM {table} AS c, domain AS d
    WHERE c.username = :key AND c.domain = :domain AND c.active = 1
      AND d.domain = c.domain AND d.active = 1 AND d.backupmx = 0
"""
_BCC_DOMAIN = """
    SELECT c.bcc_address FROM {table} AS c, domain AS d
    WHERE c.domain = :domain AND d.domain = c.domain AND d.active = 1
"""
# ``:domain`` and ``:local`` are the parts of a key with an "@"; a map that uses them has no answer
# for other keys.
SQL: Final[Mapping[str, str]] = {
    "virtual_mailbox_domains": """
        SELECT :key WHERE EXISTS (
            SELECT 1 FROM domain WHERE domain = :key AND active = 1 AND backupmx = 0
        ) OR EXISTS (
            SELECT 1 FROM alias_domain AS a JOIN domain AS d ON d.domain = a.target_domain
            WHERE a.alias_domain = :key AND a.active = 1 AND d.active = 1 AND d.backupmx = 0
        )
    """,
    "relay_domains": """
        SELECT domain FROM domain WHERE domain = :key AND backupmx = 1 AND active = 1
    """,
    "virtual_mailbox_maps": """
        SELECT m.storagenode || '/' || m.maildir || '/Maildir/' FROM mailbox AS m, domain AS d
        WHERE m.username = :key AND m.active = 1 AND m.enabledeliver = 1
          AND d.domain = m.domain AND d.active = 1
    """,
    "virtual_alias_maps": """
        SELECT f.forwarding FROM forwardings AS f, domain AS d
        WHERE f.address = :key AND f.active = 1
          AND d.domain = f.domain AND d.active = 1 AND d.backupmx = 0
    """,
    "domain_alias_maps": """
        SELECT f.forwarding FROM forwardings AS f, alias_domain AS a, domain AS d
        WHERE a.alias_domain = :domain AND a.active = 1
          AND f.address = :local || '@' || a.target_domain AND f.active = 1
          AND d.domain = a.target_domain AND d.backupmx = 0
    """,
    "catchall_maps": """
        SELECT f.forwarding FROM forwardings AS f, domain AS d
        WHERE f.address = :domain AND f.active = 1 AND instr(:local, '+') = 0
          AND d.domain = :domain AND d.active = 1 AND d.backupmx = 0
    """,
    "domain_alias_catchall_maps": """
        SELECT f.forwarding FROM forwardings AS f, alias_domain AS a
        WHERE a.alias_domain = :domain AND a.active = 1
          AND f.address = a.target_domain AND f.active = 1
    """,
    "transport_user": """
        SELECT m.transport FROM mailbox AS m, domain AS d
        WHERE m.username = :key AND m.domain = :domain AND m.transport <> ''
          AND m.active = 1 AND m.enabledeliver = 1
          AND d.domain = m.domain AND d.active = 1 AND d.backupmx = 0
    """,
    "transport_maillist": """
        SELECT l.transport FROM maillists AS l, domain AS d
        WHERE l.address = :key AND l.active = 1 AND d.domain = l.domain AND d.active = 1
    """,
    "transport_domain": "SELECT transport FROM domain WHERE domain = :key AND active = 1",
    "sender_relayhost": "SELECT relayhost FROM sender_relayhost WHERE account = :key",
    "sender_login_maps": """
        SELECT m.username FROM mailbox AS m, domain AS d
        WHERE m.username = :key AND m.active = 1 AND m.enablesmtp = 1
          AND d.domain = m.domain AND d.active = 1 AND d.backupmx = 0
    """,
    **{f"{side}_bcc_user": _BCC_USER.format(table=f"{side}_bcc_user")
       for side in ("sender", "recipient")},
    **{f"{side}_bcc_domain": _BCC_DOMAIN.format(table=f"{side}_bcc_domain")
       for side in ("sender", "recipient")},
}  # fmt: skip
_DOVECOT = """
    SELECT m.password, m.storagebasedirectory || '/' || m.storagenode || '/' || m.maildir AS home,
      m.mailboxformat || ':~/' || m.mailboxfolder AS mail, m.quota * 1048576 AS bytes
    FROM mailbox AS m, domain AS d
    WHERE m.username = :user AND m.[enable{column}] = 1 AND m.active = 1
      AND d.domain = m.domain AND d.active = 1 AND d.backupmx = 0
"""


class SqlMailServer:
    """Plain SQL on the SQLite files."""

    def __init__(self, store: Store) -> None:
        self.parameters = PARAMETERS
        self._store = store

    async def query(self, map_name: str, key: str) -> set[str]:
        statement, key = SQL[map_name], key.lower()
        local, _, domain = key.rpartition("@")
        given = {"key": key, "local": local, "domain": domain}
        needed = {name: value for name, value in given.items() if f":{name}" in statement}
        if needed.keys() & {"local", "domain"} and not local:
            return set()
        rows = await self._store.rows(statement, **needed)
        answers = {str(value) for row in rows for value in row.values()}
        if "" in answers:
            raise ServerError(f"{map_name}: Postfix warns of an empty answer for {key}")
        return answers

    async def login(
        self, user: str, password: str, service: str = "imap", secured: Secured = "tls"
    ) -> bool:
        rows = await self._store.rows(_DOVECOT.format(column=service + secured), user=user.lower())
        return any(verify_password(password, row["password"]) for row in rows)

    async def user(self, user: str, service: str = "lmtp") -> dict[str, str] | None:
        rows = await self._store.rows(_DOVECOT.format(column=service), user=user.lower())
        if not rows:
            return None
        row = rows[0]
        return {
            "home": row["home"].lower(),
            "mail": row["mail"],
            "quota_rule": f"*:bytes={row['bytes']}",
        }
