"""An export: all records of a domain, or of everything, in an order in which they can be imported.

Accounts are read part by part, each in a unit of its own, so it is no snapshot: what is changed
meanwhile may be there as it was before or as it is afterwards. Mailing lists are asked for at the
list server one by one, as it has no other way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from itertools import islice
from tempfile import SpooledTemporaryFile
from typing import Final

import orjson

from iredapi.domain import canonical
from iredapi.domain import exported_records as records
from iredapi.domain.account_records import Record, RecordType
from iredapi.domain.actors import Actor
from iredapi.domain.lists import ROLE_PARAMETERS, MailingList
from iredapi.operations import account_exports, policy_exports
from iredapi.operations.account_exports import PAGE, Part, Reading, Whole
from iredapi.runtime.context import AppContext
from iredapi.workflows.mailing_list_steps import reachable

_IN_MEMORY: Final = 256 * 1024
"""Bytes of what is said again that are kept in memory; more is kept in a file."""
_OF_LISTS: Final = ("type", "mail", *ROLE_PARAMETERS)
_BEFORE_LISTS: Final[tuple[Reading, ...]] = (
    account_exports.domains,
    account_exports.admins,
    account_exports.users,
    account_exports.aliases,
)


async def pages(context: AppContext, actor: Actor, domain: str) -> AsyncIterator[Sequence[Record]]:
    """Yield all records of a domain, some at a time; of everything for an empty name.

    Raises NotFound before the first ones. Raises ApiError in the middle when a server goes away.
    """
    chosen = Whole()
    if domain:
        chosen = await context.read(actor, account_exports.whole, domain)
    with SpooledTemporaryFile(_IN_MEMORY) as later:
        for reading in _BEFORE_LISTS:
            async for part in _parts(context, actor, reading, chosen):
                later.writelines(map(_line, part.later))
                yield part.found
        async for part in _parts(context, actor, account_exports.lists, chosen):
            waiting = {record["mail"] for record in part.later}
            for item in part.found:
                record = await _list(context, item)
                if record["mail"] in waiting:
                    later.write(_line({key: record[key] for key in _OF_LISTS if key in record}))
                yield [record]
        async for part in _parts(context, actor, account_exports.maillists, chosen):
            later.writelines(map(_line, part.later))
            yield part.found
        later.seek(0)
        while some := [*islice(later, PAGE)]:
            yield [orjson.loads(line) for line in some]
    async for part in _parts(context, actor, account_exports.lists, chosen):
        for item in part.found:
            async for page in _members(context, item):
                yield page
    for reading in policy_exports.POLICIES:
        async for part in _parts(context, actor, reading, chosen):
            yield part.found


def _line(record: Record) -> bytes:
    return orjson.dumps(record) + b"\n"


async def _parts(
    context: AppContext, actor: Actor, reading: Reading, chosen: Whole
) -> AsyncIterator[Part]:
    after = None
    while True:
        part = await context.read(actor, reading, chosen, after)
        if part.found:
            yield part
        after = part.after
        if after is None:
            return


async def _list(context: AppContext, item: MailingList) -> Record:
    """Return a subscribable list; without a list server, or data there, what is stored of it."""
    server, control = context.list_server, None
    if server is not None and reachable(server, item.address):
        control = await server.get(item.address)
    return records.account(RecordType.ML, canonical.mailing_list(item, control))


async def _members(context: AppContext, item: MailingList) -> AsyncIterator[Sequence[Record]]:
    """Yield who is subscribed to a list."""
    server = context.list_server
    if server is None or not reachable(server, item.address):
        return
    if not await server.exists(item.address):
        return
    found = await server.subscribers(item.address)
    for start in range(0, len(found), PAGE):
        some = found[start : start + PAGE]
        yield [records.membership(item.address, one.mail, one.version) for one in some]
