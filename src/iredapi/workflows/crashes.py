"""What follows the write of a process that has died after its commit (ADR 16)."""

from __future__ import annotations

from typing import Final

from iredapi.backends.unit_of_work import Skipped
from iredapi.concurrency.shield import finish
from iredapi.domain.actors import Actor
from iredapi.runtime.context import AppContext
from iredapi.runtime.transactions import WriteResult
from iredapi.workflows.list_membership import join_default_lists
from iredapi.workflows.mailing_list_steps import with_skipped

_LEAVE_LISTS: Final = frozenset(
    {"user.delete", "user.rename", "alias.delete", "alias.rename", "domain.delete"}
)
"""Actions after which an account leaves mailing lists, or is in them under another name."""


async def complete(
    context: AppContext, actor: Actor, action: str, name: str, done: WriteResult
) -> WriteResult:
    """Return the result of a write after which its process has died.

    A new user joins the default lists of its domain now. Which lists a removed account was a member
    of is not known any more.
    """
    server = context.list_server
    if server is None or not (server.accepts(name) or action == "domain.delete"):
        return done
    if action == "user.create":
        return with_skipped(done, await finish(join_default_lists(context, actor, server, name)))
    if action in _LEAVE_LISTS:
        return with_skipped(done, [Skipped("mailing_lists", name, "OUTCOME_UNKNOWN")])
    return done
