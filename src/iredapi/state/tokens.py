"""API tokens as they are stored: of a secret only the hash.

Nothing is cached, so that a revoked token is over on every replica at once.
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

USED = 60.0
"""Seconds between two writes of ``used`` of one token."""

KEPT = 30 * 86400.0
"""Seconds for which an expired token is still listed."""

MOST = 100
"""Tokens of one owner."""

EVERYTHING = "*"
"""In the column ``domains``: all of the owner's. Any other text is a list, even an empty one."""

_SECRET = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}", re.ASCII)  # secrets.token_urlsafe(32)
_logger = logging.getLogger(__name__)


class TooManyTokens(Exception):
    """The owner has as many tokens as anybody may have."""


@dataclass(frozen=True, slots=True)
class Token:
    """A stored token. Times are seconds since the epoch."""

    id: str
    hint: str
    """The first characters of the secret: enough to tell it, too few to guess it."""
    owner: str
    role: Role
    """The owner's at the time of creation."""
    account: str
    """What tells the owner from a later account of that name (64 characters)."""
    label: str
    grant: Grant
    created: float
    used: float | None
    """The last use, up to ``USED`` seconds old."""
    credential: str | None
    """A fingerprint of the owner's password at that time (64 characters); None: not known yet."""
    old_until: float
    """Until when the secret before the last rotation works; 0: not at all."""


def hash_secret(secret: str) -> str | None:
    """The stored form of a secret; None when we cannot have issued it."""
    if not _SECRET.fullmatch(secret):
        return None
    return hashlib.sha256(secret.encode("ascii")).hexdigest()


class Tokens:
    """The API tokens of all replicas."""

    def __init__(self, connections: Connections, *, clock: Callable[[], float]) -> None:
        self._connections = connections
        self._clock = clock

    def now(self) -> float:
        """Seconds since the epoch, as this database's rows count them."""
        return self._clock()

    async def create(
        self, owner: str, role: Role, account: str, credential: str, label: str, grant: Grant
    ) -> tuple[Token, str]:
        """Make a token; the secret cannot be had a second time. Raises ``TooManyTokens``."""
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
            "domains": _stored(grant.domains),
            "networks": ",".join(sorted(grant.networks)),
            "created": token.created,
            "expires": grant.expires,
            "used": None,
            "credential": credential,
        }

        async def add(connection: AsyncConnection) -> None:
            count = select(func.count()).select_from(tokens).where(tokens.c.owner == owner)
            if (await connection.scalar(count) or 0) >= MOST:
                raise TooManyTokens
            await connection.execute(insert(tokens).values(row))

        await self._connections.transact(add)
        return token, secret

    async def load(self, secret: str) -> Token | None:
        """The token of a secret; None when it is unknown, revoked or expired. One SELECT.

        Every ``USED`` seconds an UPDATE of ``used`` as well.
        """
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
        """Remember that a token was used, at most once in ``USED`` seconds."""
        now = self._clock()
        if token.used is not None and now - token.used < USED:
            return
        old = or_(tokens.c.used.is_(None), tokens.c.used <= now - USED)
        await self._connections.write(
            update(tokens).where(tokens.c.id == token.id, old).values(used=now)
        )

    async def bind(self, token: Token, credential: str) -> None:
        """Remember the owner's password of a token that was made before that was noted."""
        unbound = tokens.c.credential.is_(None)
        await self._connections.write(
            update(tokens).where(tokens.c.id == token.id, unbound).values(credential=credential)
        )

    async def rebind_credential(self, owner: str, old: str, new: str) -> None:
        """Let tokens live on when the same password of the owner is stored in another way now."""
        table = tokens.c
        await self._connections.write(
            update(tokens)
            .where(table.owner == owner, table.credential == old)
            .values(credential=new)
        )

    async def get(self, token_id: str) -> Token | None:
        """One token by its id."""
        rows = await self._connections.read(select(tokens).where(tokens.c.id == token_id))
        return _read(rows[0]) if rows else None

    async def list(self, owner: str = "") -> list[Token]:
        """All tokens, or those of one owner, the oldest first."""
        statement = select(tokens).order_by(tokens.c.owner, tokens.c.created, tokens.c.id)
        if owner:
            statement = statement.where(tokens.c.owner == owner)
        return [_read(row) for row in await self._connections.read(statement)]

    async def rotate(self, token: Token, overlap: float) -> tuple[Token, str] | None:
        """Give a token a new secret; the one it has works for ``overlap`` seconds more.

        None when it was revoked meanwhile.
        """
        secret = _new_secret()
        until = self._clock() + overlap if overlap > 0 else 0.0
        # One column after the other on MariaDB: the old hash first.
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
        """End a token for good; False when there was none."""
        return await self._connections.write(delete(tokens).where(tokens.c.id == token_id)) > 0

    async def end_owners(self, owners: Collection[str]) -> int:
        """End every token of these accounts; how many there were."""
        if not owners:
            return 0
        return await self._connections.write(
            delete(tokens).where(tokens.c.owner.in_(sorted(owners)))
        )

    async def end_domain(self, domain: str, *, but: Collection[str] = ()) -> None:
        """Forget a domain: tokens of its accounts (but some) end.

        Those for it alone are good for nothing.
        """
        suffix = f"%@{_escaped(domain)}"

        async def forget(connection: AsyncConnection) -> None:
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
                    update(tokens).where(tokens.c.id == row.id).values(domains=_stored(left))
                )

        await self._connections.transact(forget)

    async def _purge(self) -> None:
        over = tokens.c.expires <= self._clock() - KEPT
        try:
            await self._connections.write(delete(tokens).where(over))
        except StateUnavailable as error:
            _logger.warning("Expired tokens were not removed: %s", error)


def _new_secret() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def _hint(secret: str) -> str:
    return secret[: len(PREFIX) + 4]


def _stored(domains: frozenset[str] | None) -> str:
    return EVERYTHING if domains is None else f",{','.join(sorted(domains))},"


def _domains(stored: str) -> frozenset[str] | None:
    if stored == EVERYTHING:
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
