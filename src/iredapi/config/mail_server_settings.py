"""Settings that describe the mail server: mailboxes, services, DNS."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import ClassVar

from pydantic import BaseModel, Field, field_validator

from iredapi.config import host_programs
from iredapi.config.parsing import CommaList
from iredapi.domain.addresses import DOVECOT_CHARACTERS


class MailServerSettings(BaseModel):
    """Mailboxes, services and transports of new accounts, and DNS."""

    TITLE: ClassVar[str] = "Mail server"

    server_hostname: str = Field(
        "", description="The mail server's host name; never accepted as a mail domain."
    )
    dovecot_version: str = Field(
        "",
        description="Release of Dovecot on the mail server, such as `2.3` or `2.4`. It decides "
        "which stored passwords log a user in ([passwords.md](passwords.md)). Empty: what is "
        "installed on this host; not known if it has no Dovecot.",
    )
    storage_base_directory: str = Field(
        "/var/vmail/vmail1", pattern=r"^/[^\x00\n]+$", description="Root of new mailboxes."
    )
    storage_roots: CommaList = Field(
        [],
        description="Directories under which the parameter `maildir` may lie; empty: only "
        "`IREDAPI_STORAGE_BASE_DIRECTORY`.",
    )
    maildir_hashed: bool = Field(True, description="Spread mailboxes over letter directories.")
    maildir_prepend_domain: bool = Field(True, description="Start mailbox paths with the domain.")
    maildir_domain_hashed: bool = Field(False, description="Spread domains over directories.")
    maildir_append_timestamp: bool = Field(
        True, description="End mailbox paths with the time of creation."
    )
    mailbox_format: str = Field(
        "maildir", pattern="^(maildir|mdbox|sdbox)$", description="Format of new mailboxes."
    )
    mailbox_folder: str = Field(
        "Maildir", pattern="^[A-Za-z0-9]{1,20}$", description="Folder of new mailboxes."
    )
    auth_username_chars: str = Field(
        DOVECOT_CHARACTERS,
        description="Characters of the addresses of new users: Dovecot's `auth_username_chars` in "
        "lower case, with its default. Dovecot refuses logins with other characters, and 2.3 "
        "delivers no mail to such users. Empty: every character that an address may have. Aliases "
        "and lists are not restricted.",
    )
    default_transport: str = Field(
        "dovecot", description="Postfix transport of new domains (`default_mta_transport`)."
    )
    disabled_user_services: CommaList = Field(
        [], description="Services switched off for new users (`ADDITIONAL_DISABLED_USER_SERVICES`)."
    )
    enabled_user_services: CommaList = Field(
        [], description="Services switched on for new users (`ADDITIONAL_ENABLED_USER_SERVICES`)."
    )
    user_alias_cross_all_domains: bool = Field(
        False, description="Per-user alias addresses may be in any hosted domain."
    )
    relay_keep_prefix: bool = Field(
        False,
        description="Store `outboundRelay` as sent, with a leading `smtp:` that Postfix would "
        "read as a host name.",
    )
    require_domain_ownership: bool = Field(
        False,
        description="Domains created by normal admins stay disabled until their ownership is "
        "verified (`REQUIRE_DOMAIN_OWNERSHIP_VERIFICATION`).",
    )
    max_keep_mailbox_days: int = Field(
        365,
        ge=1,
        description="Maximum days for which a normal admin may keep mailboxes of deleted users.",
    )
    dns_resolver: str = Field(
        "",
        description="DNS resolver for `query_dns_immediately` and for the records of domains: "
        "`address` or `address:port` (`[address]:port` for IPv6). Empty: the system's.",
    )
    dns_timeout: float = Field(
        10.0, gt=0, le=300, description="Seconds for all DNS queries of one request."
    )

    @field_validator("dovecot_version")
    @classmethod
    def _dovecot_version(cls, value: str) -> str:
        if value and not re.fullmatch(r"\d{1,3}(\.\d{1,5}){1,3}", value):
            raise ValueError("a version such as 2.3 or 2.4 is expected, or nothing")
        if value and tuple(map(int, value.split(".")[:2])) < (2, 3):
            raise ValueError("Dovecot 2.3 or later is expected")
        return value

    @property
    def dovecot_release(self) -> str:
        """``2.3``, ``2.4`` (also for later ones), or empty: not known."""
        return host_programs.release(self.dovecot_version)

    @field_validator("dns_resolver")
    @classmethod
    def _resolver(cls, value: str) -> str:
        _address_and_port(value)
        return value

    @property
    def resolver(self) -> tuple[str, int] | None:
        """Address and port of the DNS resolver; None: the system's."""
        return _address_and_port(self.dns_resolver)


def _address_and_port(text: str) -> tuple[str, int] | None:
    if not text:
        return None
    host, port = text, "53"
    if text.startswith("["):
        host, _, port = text[1:].partition("]:")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("an IP address, or an address and a port, is expected")
    return str(ip_address(host)), int(port)
