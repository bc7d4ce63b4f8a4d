"""Forms of spam policies, and what their answers hold."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_snake

from iredapi.schemas import fields
from iredapi.schemas.params import Params, param


class SpamPolicyEdit(Params):
    """Changes of a policy: what is not sent stays as it is, or inherited."""

    model_config = ConfigDict(alias_generator=to_snake)

    bypass_spam_checks: fields.YesNo = param("`yes`: do not look for spam.", "yes")
    bypass_virus_checks: fields.YesNo = param("`yes`: do not look for viruses.", "yes")
    bypass_banned_checks: fields.YesNo = param("`yes`: let all types of files pass.", "yes")
    bypass_header_checks: fields.YesNo = param("`yes`: let malformed headers pass.", "yes")
    quarantine_spam: fields.YesNo = param(
        "`yes`: spam is kept in quarantine, not delivered; `no`: it is delivered.", "yes"
    )
    quarantine_virus: fields.YesNo = param(
        "`yes`: infected mail is kept in quarantine. `no`: it **is delivered**, wrapped and tagged "
        "as infected; it is not discarded.",
        "yes",
    )
    quarantine_banned: fields.YesNo = param(
        "`yes`: mail with banned types of files is kept in quarantine; `no`: it is delivered.",
        "yes",
    )
    quarantine_bad_header: fields.YesNo = param(
        "`yes`: mail with malformed headers is kept in quarantine; `no`: it is delivered.", "yes"
    )
    prefix_spam_in_subject: fields.YesNo = param(
        "`yes`: the subject of spam begins with `[SPAM] `.", "yes"
    )
    always_insert_x_spam_headers: fields.YesNo = param(
        "`yes`: `X-Spam-*` headers in all mail, with the score and the rules that matched; meant "
        "for finding errors.",
        "no",
    )
    spam_score: fields.SpamScore = param(
        "From this score on mail is spam: marked, and quarantined if spam is. Empty: inherited.",
        "4.5",
    )
    banned_rulenames: fields.RuleNames = param(
        "Names of rules of `amavisd.conf` about banned files (not in iRedMail's API). The rules of "
        "the user's, the domain's and the global policy add up. Empty: none of its own.",
        "ALLOW_MS_WORD",
    )


class SpamPolicyProfile(BaseModel):
    """An account's own policy, empty when it has none. `null` is inherited."""

    account: str | None = Field(None, description="`@.`, `@example.com` or an address.")
    bypass_spam_checks: str | None = Field(None, description="`yes`, `no` or null.")
    bypass_virus_checks: str | None = None
    bypass_banned_checks: str | None = None
    bypass_header_checks: str | None = None
    quarantine_spam: str | None = None
    quarantine_virus: str | None = None
    quarantine_banned: str | None = None
    quarantine_bad_header: str | None = None
    prefix_spam_in_subject: str | None = None
    always_insert_x_spam_headers: str | None = None
    spam_score: float | int | None = None
    banned_rulenames: list[str] | None = None
    columns: dict[str, Any] | None = Field(
        None, description="As stored; with `effective=yes` only those behind the parameters."
    )
    effective: dict[str, Any] | None = Field(
        None, description="With `effective=yes`: `value` and `from` (an account) per parameter."
    )
