"""Forms of standalone admins."""

from __future__ import annotations

from iredapi.schemas import fields
from iredapi.schemas.params import Params, param


class AdminEdit(Params):
    """A standalone admin, new or changed. Limits are for normal admins, and dropped otherwise."""

    needs = (("quotaUnit", "maxQuota"),)
    legacy = {
        "cn": "name",
        "preferredLanguage": "language",
        "domainGlobalAdmin": "isGlobalAdmin",
    }

    name: fields.Name = param("Display name.", "Alice Example")
    password: fields.Password = param("Plain password; required for a new admin.", "Corr3ct-Horse")
    account_status: fields.Status = param("`disabled` admins cannot log in.", "active")
    language: fields.Language = param("Language of iRedAdmin's pages.", "en_US")
    is_global_admin: fields.GlobalAdmin = param("Manages everything.", "yes")
    max_domains: fields.Limit = param(
        "Maximum number of domains that the admin may create; without a number above 0 it may "
        "create none.",
        "5",
    )
    max_quota: fields.OptionalLimit = param(
        "Maximum mailbox quota over all domains of the admin, in `quotaUnit`; 0 or empty is "
        "unlimited and needs no unit. Without a unit the stored one stays.",
        "20",
    )
    quota_unit: fields.QuotaUnit = param("Unit of `maxQuota`.", "GB")
    max_users: fields.Limit = param(
        "Maximum number of mail users over all domains of the admin; 0: unlimited, -1: none.", "100"
    )
    max_aliases: fields.Limit = param(
        "Maximum number of mail aliases over all domains of the admin; 0: unlimited, -1: none.",
        "200",
    )
    max_lists: fields.Limit = param(
        "Maximum number of mailing lists over all domains of the admin; 0: unlimited, -1: none.",
        "300",
    )
    disable_viewing_mail_log: fields.YesNo = param("iRedAdmin hides the mail log.", "yes")
    disable_managing_quarantined_mails: fields.YesNo = param(
        "iRedAdmin hides quarantined mails.", "yes"
    )
