"""Answers about the DNS records of domains."""

from __future__ import annotations

from pydantic import BaseModel, Field


class DnsRecord(BaseModel):
    """A record that should be in the DNS."""

    kind: str = Field(
        description="`ownership` (proves it), `mx`, `spf`, `dkim`, `dmarc`, `autoconfig`, "
        "`autodiscover`, `tls_rpt`."
    )
    name: str
    type: str
    value: str | None = Field(
        description="What to publish: as in a zone file, texts without quotes. null: not known."
    )
    status: str = Field(
        description="`ok`: what the DNS has means the same; `missing`, `wrong`; `unknown`: the DNS "
        "could not be asked, or the server's settings have no value."
    )
    reason: str | None = Field(
        description="missing: `NO_SUCH_NAME`, `NO_RECORD`; unknown: `DNS_FAILURE`, `DNS_TIMEOUT`, "
        "`INVALID_NAME`, `NOT_CONFIGURED`, `KEYS_NOT_READABLE`; wrong: `SEVERAL_RECORDS`, "
        "`INVALID_RECORD`, `NOT_LISTED`, `OTHER_HOST`, `OTHER_HOST_FIRST`, `OTHER_VALUE`, "
        "`KEY_REVOKED`."
    )
    found: list[str] = Field(description="What the DNS has; not of names that a CNAME leads to.")


class NameInDns(BaseModel):
    """A domain or one of its alias domains."""

    name: str
    is_alias: bool
    active: bool
    ownership: str | None = Field(
        description="`pending`: it waits for a proof; `verified`; null: none was asked for."
    )
    web_file: str | None = Field(
        description="A file here, with its own name as content, proves the ownership too."
    )
    records: list[DnsRecord]


class DnsOfDomain(BaseModel):
    """What a domain and its alias domains need in the DNS."""

    domain: str
    names: list[NameInDns] = Field(description="The domain, then its alias domains by name.")
