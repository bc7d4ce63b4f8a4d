"""Forms of unsubscribable mailing lists."""

from __future__ import annotations

from iredapi.schemas import fields
from iredapi.schemas.lists import ListFilter
from iredapi.schemas.params import Params, param


class MailListFilter(ListFilter):
    """Which unsubscribable lists, and how much of them."""


class MailListEdit(Params):
    """Changes of a list: what is not sent stays as it is."""

    conflicts = (("members", "addMember"), ("members", "removeMember"))
    legacy = {"cn": "name"}

    name: fields.Name = param("Display name.", "Sales team")
    access_policy: fields.AccessPolicy = param("Who may send to the list.", "membersonly")
    members: fields.Mails = param(
        "All members. Those in the own domain must exist, others are reported in `_skipped`.",
        "alice@example.com,bob@example.net",
    )
    add_member: fields.Mails = param("Members to add.", "alice@example.com")
    remove_member: fields.GoneMails = param("Members to remove.", "bob@example.net")


class MailListDraft(MailListEdit):
    """A new list, with the parameters of a change."""


class MailListEnd(Params):
    """How a list goes."""

    archive: fields.YesNo = param("Without effect: only subscribable lists have an archive.", "no")
