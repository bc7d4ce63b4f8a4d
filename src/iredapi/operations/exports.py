"""Operations of the LDIF export."""

from __future__ import annotations

from typing import Final

from iredapi.backends.unit_of_work import ReadUnit
from iredapi.domain import ldif
from iredapi.domain.ldif import Export
from iredapi.errors import NotFound, NotSupported

_PASSWORD: Final = frozenset({"userPassword"})


async def records(unit: ReadUnit, what: Export, name: str) -> list[ldif.Record]:
    """Return the entries of an account or a domain, without hidden attributes.

    Hashes are for global admins, not for limited tokens, and only where the settings do not hide
    them.
    """
    if unit.ldif is None:
        raise NotSupported
    found = await unit.ldif.records(what, name)
    if not found:
        raise NotFound("NO_SUCH_DOMAIN" if what is Export.DOMAIN else "NO_SUCH_ACCOUNT")
    rules = unit.rules
    hidden = rules.hidden_admin_fields if what is Export.ADMIN else rules.hidden_user_fields
    return ldif.without(found, hidden if unit.actor.sees_hashes else hidden | _PASSWORD)
