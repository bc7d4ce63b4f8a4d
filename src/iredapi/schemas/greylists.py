"""Forms of greylisting."""

from __future__ import annotations

from iredapi.schemas import fields
from iredapi.schemas.params import Params, param

_FORMS = "E-mail addresses, `@domain`, `@.domain` (with sub-domains), IP addresses, CIDR networks."


class GreylistingEdit(Params):
    """Greylisting of one account."""

    status: fields.Switch = param("Whether mail is greylisted.", "enable", required=True)


class GreylistingSendersEdit(Params):
    """Changes of a whitelist."""

    senders: fields.GreylistingSenders = param(
        f"The whole whitelist from now on; empty clears it. {_FORMS}",
        "192.168.1.0/24,172.16.10.1,@example.com",
    )
    add_senders: fields.GreylistingSenders = param(
        f"Senders to whitelist. {_FORMS}", "192.168.1.0/24,@example.com"
    )
    remove_senders: fields.Entries = param(
        "Senders to take off the whitelist; this happens before any are added.",
        "192.168.1.0/24,@example.com",
    )
    conflicts = (("senders", "addSenders"), ("senders", "removeSenders"))


class GreylistingDomainsEdit(Params):
    """Changes of the sender domains whose networks are whitelisted."""

    domains: fields.ExistingDomains = param(
        "All whitelisted sender domains from now on; empty removes them all.",
        "iredmail.org,gmail.com",
    )
    add_domains: fields.ExistingDomains = param(
        "Sender domains to whitelist.", "iredmail.org,gmail.com"
    )
    remove_domains: fields.Entries = param(
        "Sender domains to remove, with the networks that were found for them; this happens before "
        "any are added.",
        "iredmail.org,gmail.com",
    )
    query_dns_immediately: fields.YesNo = param(
        "Ask the DNS now for the domains in `domains` or `addDomains`. The hourly job of iRedAPD "
        "replaces what was found; it asks neither for A records nor for `a/24`.",
        "yes",
        alias="query_dns_immediately",
    )
    conflicts = (("domains", "addDomains"), ("domains", "removeDomains"))
