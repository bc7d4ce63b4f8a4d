"""Forms of mail alias accounts."""

from __future__ import annotations

from iredapi.schemas import fields
from iredapi.schemas.params import Params, param
from iredapi.schemas.views import Viewed


class AliasFilter(Viewed):
    """Which aliases, and how much of them."""

    email_only: fields.YesNo = param("Only addresses, as a plain list.", "yes", alias="email_only")
    disabled_only: fields.YesNo = param("Only disabled aliases.", "yes", alias="disabled_only")


class AliasEdit(Params):
    """Changes of an alias account: what is not sent stays as it is."""

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
        "daemon looks: there `public` (or empty) holds anyway, and all others are 501.",
        "public",
    )
    members: fields.Mails = param(
        "All members. Those in the own domain must exist, others are told in `_skipped`.",
        "alice@example.com,bob@example.net",
    )
    add_member: fields.Mails = param("Members to add.", "alice@example.com")
    remove_member: fields.GoneMails = param("Members to remove.", "bob@example.net")
    moderators: fields.Mails = param(
        "All who may send to the alias under `accessPolicy=moderatorsonly` (or "
        "`membersandmoderatorsonly`); `*@example.com` is everybody there. Those in the own domain "
        "must exist. 501 on LDAP, where no daemon looks.",
        "alice@example.com,*@example.org",
    )
    add_moderator: fields.Mails = param("Moderators to add.", "alice@example.com")
    remove_moderator: fields.GoneMails = param("Moderators to remove.", "*@example.org")


class AliasDraft(AliasEdit):
    """A new alias account: whatever can be said of one later."""
