"""Settings of the DNS records that hosted domains need, and of proofs of ownership."""

from __future__ import annotations

from ipaddress import ip_network
from typing import ClassVar

from pydantic import BaseModel, Field, field_validator

from iredapi.config.parsing import CommaList
from iredapi.domain import spf
from iredapi.domain.addresses import existing_domain


class OnboardingSettings(BaseModel):
    """DNS records of hosted domains ([onboarding.md](onboarding.md))."""

    TITLE: ClassVar[str] = "DNS records of hosted domains"

    dns_mx: CommaList = Field(
        [],
        description="Hosts that get the mail of hosted domains, the first one first: their MX "
        "records. Empty: `IREDAPI_SERVER_HOSTNAME`.",
    )
    dns_spf: str = Field(
        "v=spf1 mx ~all",
        description="SPF record of hosted domains. A record that lets the same servers send, among "
        "others, is as good; `mx` stands for `IREDAPI_DNS_MX`.",
    )
    dns_dmarc: str = Field(
        "v=DMARC1; p=none",
        pattern=r"^v=DMARC1 *; *[!-~ ]+$",
        description="DMARC record for domains that have none. Each valid one is as good.",
    )
    dns_autoconfig: str = Field(
        "",
        description="Host of the settings for Thunderbird: `autoconfig.<domain>` should lead to "
        "it. Empty: domains need no such name.",
    )
    dns_autodiscover: str = Field(
        "",
        description="Host of the settings for Outlook: `autodiscover.<domain>`, or the SRV record "
        "`_autodiscover._tcp.<domain>`, should lead to it. Empty: domains need neither.",
    )
    dns_tls_rpt: str = Field(
        "",
        pattern=r"^(|(mailto:|https://)[!-+\--:<-~]+)$",
        description="Where reports about TLS go, such as `mailto:tls-reports@example.com`: the "
        "`rua` of `_smtp._tls.<domain>`. Empty: domains need no such record.",
    )
    dkim_keys: str = Field(
        "",
        description="File with the DKIM records of hosted domains, as `amavisd showkeys` prints "
        "them: names are `<selector>._domainkey.<domain>`; the domain `*` stands for all that have "
        "none. Empty: a key is not compared, but must be valid if the DNS has one.",
    )
    ownership_by_web: bool = Field(
        True,
        description="A file at the web server of a domain proves its ownership, too. Without it, "
        "only a TXT record does.",
    )
    ownership_web_networks: CommaList = Field(
        [],
        description="Networks in which such a web server may be although they are not public. "
        "**Who may add a domain can make this service read from hosts there.**",
    )

    @field_validator("dns_mx")
    @classmethod
    def _mail_hosts(cls, value: list[str]) -> list[str]:
        return [_host(item) for item in value]

    @field_validator("dns_autoconfig", "dns_autodiscover")
    @classmethod
    def _client_host(cls, value: str) -> str:
        return _host(value) if value else ""

    @field_validator("dns_spf")
    @classmethod
    def _spf_record(cls, value: str) -> str:
        if not spf.is_valid(value):
            raise ValueError("an SPF record such as `v=spf1 mx ~all` is expected")
        return value

    @field_validator("ownership_web_networks")
    @classmethod
    def _web_networks(cls, value: list[str]) -> list[str]:
        for item in value:
            ip_network(item)
        return value


def _host(text: str) -> str:
    return existing_domain(text.rstrip("."))
