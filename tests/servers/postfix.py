"""What Postfix finds in the databases: the real ``postmap`` with iRedMail's lookups.

The lookups in OpenLDAP are in ``postfix_ldap``. The queries are written from the description of the
lookups (conditions and results), not copied.
``%s`` is the key, ``%u`` and ``%d`` its local part and domain; Postfix gives no answer for a key
without ``@`` where a query uses the latter two.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy.engine import make_url

from tests.servers import postfix_ldap
from tests.servers.process import (
    ServerError,
    find_program,
    remove_directory,
    run,
    temporary_directory,
)
from tests.servers.store import Store

# Same text on both kinds of database: CONCAT() and POSITION() are understood by both.
QUERIES: Mapping[str, str] = {
    "virtual_mailbox_domains": """
        SELECT own.domain FROM domain own
        WHERE own.domain = '%s' AND own.active = 1 AND own.backupmx = 0
        UNION
        SELECT other.alias_domain FROM alias_domain other
        JOIN domain target ON target.domain = other.target_domain
        WHERE other.alias_domain = '%s' AND other.active = 1
          AND target.active = 1 AND target.backupmx = 0
    """,
    "relay_domains": """
        SELECT own.domain FROM domain own
        WHERE own.domain = '%s' AND own.active = 1 AND own.backupmx = 1
    """,
    "virtual_mailbox_maps": """
        SELECT CONCAT(box.storagenode, '/', box.maildir, '/Maildir/') FROM mailbox box
        JOIN domain own ON own.domain = box.domain
        WHERE box.username = '%s' AND box.active = 1 AND box.enabledeliver = 1
          AND own.active = 1
    """,
    "virtual_alias_maps": """
        SELECT entry.forwarding FROM forwardings entry
        JOIN domain own ON own.domain = entry.domain
        WHERE entry.address = '%s' AND entry.active = 1
          AND own.active = 1 AND own.backupmx = 0
    """,
    "domain_alias_maps": """
        SELECT entry.forwarding FROM forwardings entry
        JOIN alias_domain other ON entry.address = CONCAT('%u', '@', other.target_domain)
        JOIN domain target ON target.domain = other.target_domain
        WHERE other.alias_domain = '%d' AND other.active = 1
          AND entry.active = 1 AND target.backupmx = 0
    """,
    "catchall_maps": """
        SELECT entry.forwarding FROM forwardings entry
        JOIN domain own ON own.domain = entry.address
        WHERE entry.address = '%d' AND entry.active = 1 AND POSITION('+' IN '%u') = 0
          AND own.active = 1 AND own.backupmx = 0
    """,
    "domain_alias_catchall_maps": """
        SELECT entry.forwarding FROM forwardings entry
        JOIN alias_domain other ON entry.address = other.target_domain
        WHERE other.alias_domain = '%d' AND other.active = 1 AND entry.active = 1
    """,
    "transport_user": """
        SELECT box.transport FROM mailbox box
        JOIN domain own ON own.domain = box.domain
        WHERE box.username = '%s' AND box.domain = '%d' AND box.transport <> ''
          AND box.active = 1 AND box.enabledeliver = 1
          AND own.active = 1 AND own.backupmx = 0
    """,
    "transport_maillist": """
        SELECT list.transport FROM maillists list
        JOIN domain own ON own.domain = list.domain
        WHERE list.address = '%s' AND list.active = 1 AND own.active = 1
    """,
    "transport_domain": """
        SELECT own.transport FROM domain own WHERE own.domain = '%s' AND own.active = 1
    """,
    "sender_relayhost": """
        SELECT relay.relayhost FROM sender_relayhost relay WHERE relay.account = '%s'
    """,
    "sender_login_maps": """
        SELECT box.username FROM mailbox box
        JOIN domain own ON own.domain = box.domain
        WHERE box.username = '%s' AND box.active = 1 AND box.enablesmtp = 1
          AND own.active = 1 AND own.backupmx = 0
    """,
    **{
        f"{direction}_bcc_user": f"""
        SELECT bcc.bcc_address FROM {direction}_bcc_user bcc
        JOIN domain own ON own.domain = bcc.domain
        WHERE bcc.username = '%s' AND bcc.domain = '%d' AND bcc.active = 1
          AND own.active = 1 AND own.backupmx = 0
        """
        for direction in ("sender", "recipient")
    },
    **{
        f"{direction}_bcc_domain": f"""
        SELECT bcc.bcc_address FROM {direction}_bcc_domain bcc
        JOIN domain own ON own.domain = bcc.domain
        WHERE bcc.domain = '%d' AND own.active = 1
        """
        for direction in ("sender", "recipient")
    },
}

TYPES = {"postgresql": "pgsql", "mariadb": "mysql", "openldap": "ldap"}

PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "virtual_mailbox_domains": ("virtual_mailbox_domains",),
    "relay_domains": ("relay_domains",),
    "transport_maps": ("transport_user", "transport_maillist", "transport_domain"),
    "virtual_mailbox_maps": ("virtual_mailbox_maps",),
    "virtual_alias_maps": (
        "virtual_alias_maps",
        "domain_alias_maps",
        "catchall_maps",
        "domain_alias_catchall_maps",
    ),
    "sender_bcc_maps": ("sender_bcc_user", "sender_bcc_domain"),
    "recipient_bcc_maps": ("recipient_bcc_user", "recipient_bcc_domain"),
    "sender_dependent_relayhost_maps": ("sender_relayhost",),
    "smtpd_sender_login_maps": ("sender_login_maps",),
}
"""Parameter of main.cf → its tables, in their order."""


def missing() -> str | None:
    """Why there can be no lookups of Postfix here, or None."""
    if find_program("postmap") is None:
        return "postmap (Postfix) is not installed"
    for kind in TYPES.values():
        if not any(directory.joinpath(f"postfix-{kind}.so").exists() for directory in _LIBRARIES):
            return f"postfix-{kind} is not installed"
    return None


_LIBRARIES = (Path("/usr/lib/postfix"), Path("/usr/lib64/postfix"))


class PostfixMaps:
    """A Postfix configuration of our own, and its lookups; no daemon runs."""

    def __init__(self, store: Store) -> None:
        reason = missing()
        program = find_program("postmap")
        if reason is not None or program is None:
            raise ServerError(reason)
        self._program = program
        self._type = TYPES[store.name]
        self._directory = temporary_directory("postfix")
        self.parameters = PARAMETERS if store.openldap is None else postfix_ldap.PARAMETERS
        (self._directory / "queue").mkdir()
        self._write(
            "main.cf",
            f"""
compatibility_level = 3.6
myhostname = mail.test
mydomain = test
queue_directory = {self._directory}/queue
data_directory = {self._directory}
smtputf8_enable = no
recipient_delimiter = +
""",
        )
        self._write(
            "dynamicmaps.cf",
            "".join(f"{kind} postfix-{kind}.so dict_{kind}_open\n" for kind in TYPES.values()),
        )
        if store.openldap is not None:
            self._tables = {
                name: search.configuration(store.openldap)
                for name, search in postfix_ldap.MAPS.items()
            }
        else:
            self._tables = self._sql_tables(store)
        for name, content in self._tables.items():
            self._write(f"{name}.cf", content)

    def _sql_tables(self, store: Store) -> dict[str, str]:
        url = make_url(store.vmail_reader)
        return {
            name: f"""
hosts = {url.host}:{url.port or {"pgsql": 5432, "mysql": 3306}[self._type]}
user = {url.username}
password = {url.password}
dbname = {url.database}
query = {" ".join(query.split())}
"""
            for name, query in QUERIES.items()
        }

    def _write(self, name: str, content: str) -> None:
        path = self._directory / name
        path.write_text(content.lstrip("\n"), encoding="utf-8")
        path.chmod(0o600)
        # Postfix waits for two seconds before it believes a file that has just been written.
        long_ago = time.time() - 60
        os.utime(path, (long_ago, long_ago))

    def query(self, map_name: str, key: str) -> set[str]:
        """The answers of one map for one key; no answer is an empty set.

        Raises :class:`ServerError` when the lookup itself fails or Postfix warns of something.
        """
        if map_name not in self._tables:
            raise ValueError(
                f"{map_name}: no such map; there are {', '.join(sorted(self._tables))}"
            )
        table = f"{self._type}:{self._directory / map_name}.cf"
        done = run([self._program, "-c", self._directory, "-q", key, table])
        if done.stderr.strip() or done.returncode not in (0, 1):
            raise ServerError(
                f"postmap -q {key} {map_name}: status {done.returncode}: {done.stderr.strip()}"
            )
        if done.returncode == 1:
            return set()
        return set(done.stdout.rstrip("\n").split(","))

    def query_many(self, map_name: str, keys: Sequence[str]) -> set[str]:
        """All answers of one map for some keys, by one process."""
        table = f"{self._type}:{self._directory / map_name}.cf"
        command = [str(word) for word in (self._program, "-c", self._directory, "-q", "-", table)]
        done = subprocess.run(
            command, input="\n".join(keys).encode(), capture_output=True, check=False, timeout=60
        )
        if done.stderr.strip() or done.returncode not in (0, 1):
            raise ServerError(f"postmap {map_name}: {done.returncode}: {done.stderr!r}")
        lines = done.stdout.decode("latin-1").splitlines()
        return {value for line in lines for value in line.partition("\t")[2].split(",")}

    def close(self) -> None:
        remove_directory(self._directory)
