"""Forms of mail alias accounts."""

from __future__ import annotations

from iredapi.schemas import fields
from iredapi.schemas.listing import Chosen
from iredapi.schemas.params import Params, param
from iredapi.schemas.views import Viewed


class AliasFilter(Viewed, Chosen):
    """Which aliases to list, and in which form."""

    conflicts = (("status", "disabled_only"), ("fields", "email_only"))

    sort: fields.AccountSort = param(
        "Order of the list; `-` in front: descending. Equal values are sorted by address.", "name"
    )
    email_only: fields.YesNo = param("Only addresses, as a plain list.", "yes", alias="email_only")
    disabled_only: fields.YesNo = param("Only disabled aliases.", "yes", alias="disabled_only")


class AliasEdit(Params):
    """Changes of an alias account. Parameters that are not sent change nothing."""

    conflicts = (
        ("members", "addMember"),
        ("members", "removeMember"),
        ("moderators", "addModerator"),
        ("moderators", "removeModerator"),
    )
    legacy = {"cn": "name"}

    name: fields.Name = param("Display name.", "Sales team")
    account_status: fields.Status = param("`disabled` aliases receive no mail.", "active")
    access_policy: fields.AliasPolicy = param(
        "Who may send to the alias; `moderatorsonly` without `moderators` is nobody. On LDAP no "
        "mail server program reads it: only `public` (or empty) is possible there, others are 501.",
        "public",
    )
    members: fields.Mails = param(
        "All members. Those in the own domain must exist, others are reported in `_skipped`.",
        "alice@example.com,bob@example.net",
    )
    add_member: fields.Mails = param("Members to add.", "alice@example.com")
    remove_member: fields.GoneMails = param("Members to remove.", "bob@example.net")
    moderators: fields.Mails = param(
        "All who may send to the alias under `accessPolicy=moderatorsonly` (or "
        "`membersandmoderatorsonly`); `*@example.com` is everybody there. Those in the own domain "
        "must exist. 501 on LDAP, where no mail server program reads them.",
        "alice@example.com,*@example.org",
    )
    add_moderator: fields.Mails = param("Moderators to add.", "alice@example.com")
    remove_moderator: fields.GoneMails = param("Moderators to remove.", "*@example.org")


class AliasDraft(AliasEdit):
    """A new alias account, with the parameters of a change."""
