"""Settings of subscribable mailing lists (mlmmj)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, Field, SecretStr


class MailingListSettings(BaseModel):
    """mlmmjadmin, or the spool directory of mlmmj."""

    TITLE: ClassVar[str] = "Subscribable mailing lists"

    mlmmjadmin_url: str = Field(
        "",
        pattern=r"^(https?://[^\s?#]+)?$",
        description="Base URL of mlmmjadmin's API, such as `http://127.0.0.1:7790/api`. Empty: the "
        "service itself keeps the lists, in `IREDAPI_MLMMJ_SPOOL`.",
    )
    mlmmjadmin_token: SecretStr = Field(SecretStr(""), description="mlmmjadmin's API token.")
    mlmmjadmin_verify_tls: bool = Field(
        True, description="Check the certificate of an `https` mlmmjadmin."
    )
    mlmmjadmin_timeout: float = Field(
        10.0,
        gt=0,
        le=300,
        description="Seconds to wait for an answer of mlmmjadmin; six times as many for calls with "
        "many subscribers.",
    )
    mlmmj_spool: str = Field(
        "",
        pattern=r"^(/[^\x00\n]*)?$",
        description="mlmmj's spool directory (`/var/vmail/mlmmj` on iRedMail), for hosts without "
        "mlmmjadmin; run the API as its owner. Empty: `mlmmj` in the data directory in the "
        "embedded default, otherwise none.",
    )
    mlmmj_archive: str = Field(
        "",
        pattern=r"^(/[^\x00\n]*)?$",
        description="Directory to which deleted lists are moved. Empty: the spool's name with "
        "`-archive`.",
    )
    mlmmj_programs: str = Field(
        "/usr/bin",
        pattern=r"^/[^\x00\n]*$",
        description="Directory of mlmmj's programs (with `IREDAPI_MLMMJ_SPOOL`).",
    )
    mlmmj_texts: str = Field(
        "/usr/share/mlmmj/text.skel/en",
        pattern=r"^/[^\x00\n]*$",
        description="Directory of the message texts of new lists (with `IREDAPI_MLMMJ_SPOOL`).",
    )
    mlmmj_smtp_port: int = Field(
        10027,
        ge=0,
        le=65535,
        description="TCP port on loopback to which lists send their mail (with "
        "`IREDAPI_MLMMJ_SPOOL`); "
        "10027 is iRedMail's Amavisd, which signs it; 0: mlmmj's default, 25.",
    )
    mlmmj_transport: str = Field(
        "mlmmj",
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="Postfix transport of mailing lists (`MLMMJ_MTA_TRANSPORT_NAME`).",
    )
