"""Checks of admins' rights and of the policies in the related databases.

Codes, severities and texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from iredapi.doctor.catalog import Check, Severity

_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

RIGHTS: Final[Mapping[str, Check]] = {
    "NO_GLOBAL_ADMIN": Check(
        _E,
        "There is no active global admin.",
        "Nobody can manage admins and domains. Create one: `iredapi admin create --global`.",
    ),
    "ADMIN_WITHOUT_ACCOUNT": Check(
        _E,
        "Rights are stored for an admin that does not exist.",
        "A new account with this address gets the rights.",
        "The rights are removed.",
    ),
    "ADMIN_OF_NO_DOMAIN": Check(
        _W,
        "Rights are stored for a domain that is not hosted.",
        "When the domain is added, the admin manages it.",
        "The row is removed.",
    ),
    "GLOBAL_MARK_WITHOUT_ALL": Check(
        _W,
        "A mail user is marked as global admin and has no ALL row.",
        "The user logs in as global admin, but some programs do not see a global admin.",
        "The ALL row is added: the user already has the rights.",
    ),
    "ALL_WITHOUT_GLOBAL_MARK": Check(
        _E,
        "A mail user has an ALL row and is not marked as global admin.",
        "Some programs see a global admin, others do not. Set isGlobalAdmin.",
    ),
    "ADMIN_MARK_WITHOUT_DOMAIN": Check(
        _W,
        "A mail user is marked as admin and manages no domain.",
        "The user can log in as an admin without rights.",
        "The mark is removed.",
    ),
    "DOMAIN_WITHOUT_ADMIN_MARK": Check(
        _W,
        "A mail user manages a domain and is not marked as admin.",
        "The user cannot log in as admin. With the mark, the rights would apply again.",
    ),
    "ADMIN_IN_HOSTED_DOMAIN": Check(
        _W,
        "The address of a standalone admin is in a hosted domain.",
        "A mail user with the same address would have the same rights.",
    ),
    "ADMIN_WITHOUT_RIGHTS": Check(
        _N,
        "A standalone admin manages no domain and may create none.",
        "The admin can log in, but can do nothing.",
    ),
}

POLICIES: Final[Mapping[str, Check]] = {
    "POLICY_WITHOUT_ACCOUNT": Check(
        _W,
        "A spam policy or wblist is for an account or domain that does not exist.",
        "It applies when the account or domain is created.",
        "The policy and wblist are removed.",
    ),
    "THROTTLE_WITHOUT_ACCOUNT": Check(
        _W,
        "A throttle is for an account or domain that does not exist.",
        "It applies when the account or domain is created.",
        "The throttle and its counters are removed.",
    ),
    "GREYLISTING_WITHOUT_ACCOUNT": Check(
        _W,
        "Greylisting is set for an account or domain that does not exist.",
        "It applies when the account or domain is created.",
        "The rows are removed.",
    ),
    "PANEL_SETTING_WITHOUT_ACCOUNT": Check(
        _W,
        "iRedAdmin has settings of an account or domain that does not exist.",
        "They apply when the account or domain is created.",
        "The rows are removed.",
    ),
    "WIDER_SETTING": Check(
        _N,
        "A policy, throttle or greylisting row is for an IP address, a network, a parent domain or "
        "a local part.",
        "The daemons apply it, and no call of the API shows it with an account.",
        named="The row is removed.",
    ),
    "GREYLISTING_OF_SENDER": Check(
        _N,
        "Greylisting is set for an account and one sender.",
        "iRedAPD applies it. No call of the API sets it.",
        named="The account's rows of this kind are removed.",
    ),
    "POLICY_OF_EVERYBODY": Check(
        _E,
        "An account uses the global spam policy as its own.",
        "For this account the global policy has precedence over the policy of its domain.",
        "The reference is removed: the account inherits as usual.",
    ),
    "POLICY_MISSING": Check(
        _W,
        "An account refers to a spam policy that does not exist.",
        "The account inherits. A new policy with this id would apply to it.",
        "The reference is removed.",
    ),
    "POLICY_OF_ANOTHER": Check(
        _W,
        "An account uses the spam policy of another account.",
        "A change of the policy applies to both accounts.",
    ),
    "POLICY_LOSES_MAIL": Check(
        _W,
        "A spam policy neither delivers nor quarantines a kind of mail.",
        "Such mail is discarded.",
    ),
    "PRIORITY_WRONG": Check(
        _E,
        "The priority of a policy is not the priority of its kind of account.",
        "A wider policy has precedence over a narrower one, or the order is random.",
        "The right priority is stored.",
    ),
    "WBLIST_DANGLING": Check(
        _W,
        "A wblist entry refers to an account or address that does not exist.",
        "The entry has no effect. When the id is used again, it applies to the wrong account.",
        "The row is removed.",
    ),
    "POLICY_NOT_LOWER_CASE": Check(
        _W,
        "The account of a policy is stored with upper-case letters.",
        "The daemons look it up in lower case: the policy has no effect.",
    ),
    "THROTTLE_TWICE": Check(
        _W,
        "An account has two throttles of the same kind.",
        "Which of them applies is random. Set the throttle once through the API: one remains.",
    ),
    "THROTTLE_WITHOUT_PERIOD": Check(
        _W,
        "A throttle has a period of 0 seconds.",
        "iRedAPD ignores it: nothing is limited.",
    ),
    "SPF_ROW_WITHOUT_DOMAIN": Check(
        _W,
        "Addresses are whitelisted for a sender domain that is no longer listed.",
        "They are never greylisted, and no job updates them.",
        "The rows are removed.",
    ),
    "OWNERSHIP_EXPIRES_AT_ONCE": Check(
        _W,
        "A pending proof of domain ownership has a date where the clean-up job expects seconds.",
        "The hourly job removes the proof before it can be used.",
        "The date is removed.",
    ),
}
