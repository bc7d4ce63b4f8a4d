"""Settings that choose the account storage, and those of OpenLDAP."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import ClassVar

from pydantic import BaseModel, Field, SecretStr, field_validator

from iredapi.config.parsing import CommaList


class Backend(StrEnum):
    """Where accounts are stored."""

    SQL = "sql"
    LDAP = "ldap"


class LdapSettings(BaseModel):
    """The kind of account storage, and the LDAP servers."""

    TITLE: ClassVar[str] = "Account storage and LDAP"

    backend: Backend = Field(Backend.SQL, description="Account storage: `sql` or `ldap`.")
    ldap_uri: CommaList = Field(
        [],
        description="LDAP servers, separated by commas, tried in this order: `ldap://host:port` or "
        "`ldaps://host:port` (TLS from the beginning).",
    )
    ldap_base_dn: str = Field(
        "", description="DN above all mail domains, such as `o=domains,dc=example,dc=com`."
    )
    ldap_admin_base_dn: str = Field(
        "",
        description="DN above the standalone admins. Empty: `o=domainAdmins` beside the domains.",
    )
    ldap_bind_dn: str = Field(
        "", description="DN to bind as, such as `cn=vmailadmin,dc=example,dc=com`."
    )
    ldap_bind_password: SecretStr = Field(SecretStr(""), description="Its password.")
    ldap_starttls: bool = Field(False, description="Switch `ldap://` to TLS after connecting.")
    ldap_ca_file: str = Field(
        "", description="CA certificates for TLS, a PEM file. Empty: those of the system."
    )
    ldap_verify: bool = Field(True, description="Verify the server's TLS certificate.")
    ldap_pool_size: int = Field(
        8, ge=2, le=200, description="Maximum LDAP connections of one worker."
    )
    ldap_timeout: float = Field(
        30.0, gt=0, description="Seconds for one LDAP operation before 503."
    )
    ldap_member_dns: bool = Field(
        True, description="Also write members' DNs into lists (`member`), for SOGo."
    )
    ldap_password_check: str = Field(
        "auto",
        pattern="^(auto|slapd|dovecot)$",
        description="Which program checks users' passwords. `slapd` (Dovecot 2.3 binds as the "
        "user): hashes that OpenLDAP cannot check are refused. `dovecot` (2.4 reads "
        "`userPassword`): hashes of all schemes are accepted. `auto`: `dovecot` when "
        "`IREDAPI_DOVECOT_VERSION` is 2.4 or later, else `slapd`.",
    )

    @field_validator("ldap_uri")
    @classmethod
    def _uris(cls, value: list[str]) -> list[str]:
        if any(not re.fullmatch(r"ldaps?://[^/\s]+/?", item) for item in value):
            raise ValueError("ldap://host or ldaps://host, with an optional :port, is expected")
        return [item.rstrip("/") for item in value]

    @property
    def admin_base_dn(self) -> str:
        """The DN above the standalone admins."""
        parent = self.ldap_base_dn.partition(",")[2]
        return self.ldap_admin_base_dn or f"o=domainAdmins,{parent}"
