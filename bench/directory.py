"""Filling OpenLDAP, with ``slapadd``: the same names as in the SQL databases."""

from __future__ import annotations

from collections.abc import Iterator

from bench.bare.directory import CLASSES, SERVICES
from bench.seed import ADMIN, BIG, PASSWORD, Size
from iredapi.domain.passwords import Scheme, hash_password
from tests.servers.api import add_root
from tests.servers.openldap import account_dn, domain_dn
from tests.servers.store import Store


async def fill(store: Store, size: Size) -> None:
    """Put in a global admin, the domains and the users."""
    stored = hash_password(PASSWORD, Scheme.SSHA)
    store.directory.load(_entries(size, stored))
    await add_root(store, ADMIN, PASSWORD)


def _entries(size: Size, stored: str) -> Iterator[str]:
    for number in range(size.domains):
        yield from _domain(f"d{number}.bench.test")
    yield from _domain(BIG)
    for number in range(size.users):
        yield _user(size.mail(number), stored)
    for number in range(size.big):
        yield _user(f"u{number}@{BIG}", stored)


def _domain(name: str) -> Iterator[str]:
    dn = domain_dn(name)
    yield (
        f"dn: {dn}\nobjectClass: mailDomain\ndomainName: {name}\nmtaTransport: dovecot\n"
        "accountStatus: active\nenabledService: mail\n\n"
    )
    for unit in ("Users", "Groups", "Aliases", "Externals"):
        yield f"dn: ou={unit},{dn}\nobjectClass: organizationalUnit\nou: {unit}\n\n"


def _user(mail: str, stored: str) -> str:
    local, _, domain = mail.partition("@")
    lines = [f"dn: {account_dn(mail)}", *(f"objectClass: {name}" for name in CLASSES)]
    lines += [f"mail: {mail}", f"uid: {local}", f"cn: User {local}", f"sn: {local}"]
    lines += [f"userPassword: {stored}", f"homeDirectory: /var/vmail/vmail1/{domain}/{local}/"]
    lines += ["accountStatus: active", "mailQuota: 104857600", "amavisLocal: TRUE"]
    lines += [f"enabledService: {name}" for name in SERVICES]
    return "\n".join(lines) + "\n\n"
