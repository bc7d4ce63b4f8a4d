"""API tokens; only the hash of a secret is stored.

Nothing is cached, so that a revoked token is refused by every replica at once.
"""

import hashlib
import logging
import re
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Row, and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.domain.tokens import PREFIX, Grant
from iredapi.state.connections import Connections, StateUnavailable
from iredapi.state.sessions import Role
from iredapi.state.tables import tokens

USED_WRITE_INTERVAL = 60.0
"""Seconds between two writes of ``used`` of one token."""

EXPIRED_RETENTION = 30 * 86400.0
"""Seconds for which an expired token is still listed."""

MAX_TOKENS_PER_OWNER = 100
"""How many tokens one owner may have."""

ALL_DOMAINS = "*"
"""The value of the column ``domains`` for all domains of the owner. Other values are lists."""

_SECRET = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}", re.ASCII)  # secrets.token_urlsafe(32)
_logger = logging.getLogger(__name__)


class TooManyTokens(Exception):
    """The owner has ``MAX_TOKENS_PER_OWNER`` tokens already."""


@dataclass(frozen=True, slots=True)
class Token:
    """A stored token. Times are seconds since the epoch."""

    id: str
    hint: str
    """The first characters of the secret, to recognise it in lists."""
    owner: str
    role: Role
    """The owner's role at the time of creation."""
    account: str
    """Identifies the owner's account; a later account of that name differs (64 characters)."""
    label: str
    grant: Grant
    created: float
    used: float | None
    """The last use, up to ``USED_WRITE_INTERVAL`` seconds old."""
    credential: str | None
    """A fingerprint of the owner's password hash (64 characters); None: not stored yet."""
    old_until: float
    """Until when the previous secret works after a rotation; 0: it does not."""


def hash_secret(secret: str) -> str | None:
    """Return the stored form of a secret; None: the secret is malformed."""
    if not _SECRET.fullmatch(secret):
        return None
    return hashlib.sha256(secret.encode("ascii")).hexdigest()


class Tokens:
    """The API tokens of all replicas."""

    def __init__(self, connections: Connections, *, clock: Callable[[], float]) -> None:
        self._connections = connections
        self._clock = clock

    def now(self) -> float:
        """Return the time in seconds since the epoch, by the clock of this repository."""
        return self._clock()

    async def count(self) -> int:
        """Return how many tokens are valid, of all owners."""
        valid = or_(tokens.c.expires.is_(None), tokens.c.expires > self._clock())
        rows = await self._connections.read(select(func.count()).where(valid))
        return int(rows[0][0])

    async def create(
        self, owner: str, role: Role, account: str, credential: str, label: str, grant: Grant
    ) -> tuple[Token, str]:
        """Create a token; the secret is not stored. Raises ``TooManyTokens``."""
        await self._purge()
        secret = _new_secret()
        token = Token(
            id=secrets.token_hex(8),
            hint=_hint(secret),
            owner=owner,
            role=role,
            account=account,
            label=label,
            grant=grant,
            created=self._clock(),
            used=None,
            credential=credential,
            old_until=0.0,
        )
        row = {
            "id": token.id,
            "secret_hash": hash_secret(secret),
            "old_hash": None,
            "old_until": 0.0,
            "hint": token.hint,
            "owner": owner,
            "role": role,
            "account": account,
            "label": label,
            "read_only": int(grant.read_only),
            "domains": _serialised(grant.domains),
            "networks": ",".join(sorted(grant.networks)),
            "created": token.created,
            "expires": grant.expires,
            "used": None,
            "credential": credential,
        }

        async def add(connection: AsyncConnection) -> None:
            count = select(func.count()).select_from(tokens).where(tokens.c.owner == owner)
            if (await connection.scalar(count) or 0) >= MAX_TOKENS_PER_OWNER:
                raise TooManyTokens
            await connection.execute(insert(tokens).values(row))

        await self._connections.transact(add)
        return token, secret

    async def load(self, secret: str) -> Token | None:
        """Return the token of a secret; None when it is unknown, revoked or expired. One SELECT."""
        hashed = hash_secret(secret)
        if hashed is None:
            return None
        now, table = self._clock(), tokens.c
        rows = await self._connections.read(
            select(tokens).where(
                or_(
                    table.secret_hash == hashed,
                    and_(table.old_hash == hashed, table.old_until > now),
                )
            )
        )
        token = _read(rows[0]) if rows else None
        if token is None or (token.grant.expires is not None and token.grant.expires <= now):
            return None
        return token

    async def touch(self, token: Token) -> None:
        """Store that a token was used, at most once in ``USED_WRITE_INTERVAL`` seconds."""
        now = self._clock()
        if token.used is not None and now - token.used < USED_WRITE_INTERVAL:
            return
        old = or_(tokens.c.used.is_(None), tokens.c.used <= now - USED_WRITE_INTERVAL)
        await self._connections.write_if_possible(
            update(tokens).where(tokens.c.id == token.id, old).values(used=now)
        )

    async def bind(self, token: Token, credential: str) -> None:
        """Store the password fingerprint of a token that has none (of an earlier version)."""
        unbound = tokens.c.credential.is_(None)
        await self._connections.write(
            update(tokens).where(tokens.c.id == token.id, unbound).values(credential=credential)
        )

    async def rebind_credential(self, owner: str, old: str, new: str) -> None:
        """Keep tokens valid after a rehash of the owner's password."""
        table = tokens.c
        await self._connections.write(
            update(tokens)
            .where(table.owner == owner, table.credential == old)
            .values(credential=new)
        )

    async def get(self, token_id: str) -> Token | None:
        """Return a token by its id."""
        rows = await self._connections.read(select(tokens).where(tokens.c.id == token_id))
        return _read(rows[0]) if rows else None

    async def list(self, owner: str = "") -> list[Token]:
        """Return all tokens, or those of one owner, the oldest first."""
        statement = select(tokens).order_by(tokens.c.owner, tokens.c.created, tokens.c.id)
        if owner:
            statement = statement.where(tokens.c.owner == owner)
        return [_read(row) for row in await self._connections.read(statement)]

    async def rotate(self, token: Token, overlap: float) -> tuple[Token, str] | None:
        """Give a token a new secret; the previous one works for ``overlap`` seconds more.

        None: it was revoked meanwhile.
        """
        secret = _new_secret()
        until = self._clock() + overlap if overlap > 0 else 0.0
        # MariaDB assigns from left to right: the old hash first.
        values: list[tuple[Any, Any]] = [
            (tokens.c.old_hash, tokens.c.secret_hash if overlap > 0 else None),
            (tokens.c.old_until, until),
            (tokens.c.secret_hash, hash_secret(secret)),
            (tokens.c.hint, _hint(secret)),
        ]
        changed = await self._connections.write(
            update(tokens).where(tokens.c.id == token.id).ordered_values(*values)
        )
        if not changed:
            return None
        return replace(token, hint=_hint(secret), old_until=until), secret

    async def revoke(self, token_id: str) -> bool:
        """Remove a token; return whether it existed."""
        return await self._connections.write(delete(tokens).where(tokens.c.id == token_id)) > 0

    async def end_owners(self, owners: Collection[str]) -> int:
        """Remove every token of these accounts; return their number."""
        if not owners:
            return 0
        return await self._connections.write(
            delete(tokens).where(tokens.c.owner.in_(sorted(owners)))
        )

    async def end_domain(self, domain: str, *, but: Collection[str] = ()) -> None:
        """Remove the tokens of a domain's accounts, except ``but``.

        The domain is removed from other tokens. One that was limited to this domain keeps an
        empty list and gives access to nothing.
        """
        suffix = f"%@{_escaped(domain)}"

        async def remove(connection: AsyncConnection) -> None:
            await connection.execute(
                delete(tokens).where(
                    tokens.c.owner.like(suffix, escape="|"), tokens.c.owner.not_in(sorted(but))
                )
            )
            named = tokens.c.domains.like(f"%,{_escaped(domain)},%", escape="|")
            rows = (
                await connection.execute(
                    select(tokens.c.id, tokens.c.domains).where(named).order_by(tokens.c.id)
                )
            ).all()
            for row in rows:
                left = (_domains(row.domains) or frozenset()) - {domain}
                await connection.execute(
                    update(tokens).where(tokens.c.id == row.id).values(domains=_serialised(left))
                )

        await self._connections.transact(remove)

    async def _purge(self) -> None:
        over = tokens.c.expires <= self._clock() - EXPIRED_RETENTION
        try:
            await self._connections.write(delete(tokens).where(over))
        except StateUnavailable as error:
            _logger.warning("Expired tokens were not removed: %s", error)


def _new_secret() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def _hint(secret: str) -> str:
    return secret[: len(PREFIX) + 4]


def _serialised(domains: frozenset[str] | None) -> str:
    return ALL_DOMAINS if domains is None else f",{','.join(sorted(domains))},"


def _domains(stored: str) -> frozenset[str] | None:
    if stored == ALL_DOMAINS:
        return None
    return frozenset(name for name in stored.split(",") if name)


def _escaped(text: str) -> str:
    return text.replace("|", "||").replace("%", "|%").replace("_", "|_")


def _read(row: Row[Any]) -> Token:
    return Token(
        id=row.id,
        hint=row.hint,
        owner=row.owner,
        role="global" if row.role == "global" else "normal",
        account=row.account,
        label=row.label,
        grant=Grant(
            read_only=bool(row.read_only),
            domains=_domains(row.domains),
            networks=frozenset(name for name in row.networks.split(",") if name),
            expires=row.expires,
        ),
        created=row.created,
        used=row.used,
        credential=row.credential,
        old_until=row.old_until,
    )
