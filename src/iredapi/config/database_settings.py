"""Settings of the databases."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, Field, SecretStr, field_validator

from iredapi.config.parsing import async_url


class DatabaseSettings(BaseModel):
    """URLs and connection pools of the databases."""

    TITLE: ClassVar[str] = "Databases"

    vmail_url: SecretStr = Field(
        SecretStr(""),
        description="Database `vmail`, with the login `vmailadmin`: "
        "`postgresql://user:password@host/vmail`, `mysql://…` or `sqlite:///path`. To a server "
        "elsewhere with TLS: `?sslmode=verify-full&sslrootcert=FILE` (PostgreSQL) or "
        "`?ssl_ca=FILE` "
        "(MariaDB, MySQL) at its end, in each of these URLs. Several servers: "
        "`postgresql://user:password@h1:p1,h2:p2/vmail`, of which the first that takes writes is "
        "used; docs/database.md has all options. "
        "Empty: the embedded SQLite default, all five databases.",
    )
    amavisd_url: SecretStr = Field(
        SecretStr(""),
        description="Database `amavisd`. Empty: nothing is cleaned up there when accounts are "
        "deleted or renamed.",
    )
    iredapd_url: SecretStr = Field(
        SecretStr(""),
        description="Database `iredapd`. Empty: nothing is cleaned up there when accounts are "
        "deleted or renamed.",
    )
    iredadmin_url: SecretStr = Field(
        SecretStr(""),
        description="Database `iredadmin` (log and settings of iRedAdmin). Empty: not used.",
    )
    state_url: SecretStr = Field(
        SecretStr(""),
        description="The service's own database (sessions, tokens, locks, events …). Empty: "
        "a SQLite file in the data directory; several replicas need PostgreSQL or MariaDB.",
    )
    pool_size: int = Field(
        10,
        ge=2,
        le=500,
        description="Maximum connections of one worker to the account database. A quarter is "
        "reserved for reading; long lists use at most a quarter. amavisd, iredapd and iredadmin "
        "get half as many each, and the state database up to 8. With the default a worker has at "
        "most 33.",
    )
    pool_timeout: float = Field(
        10.0, gt=0, description="Seconds to wait for a free connection before 503."
    )
    connect_timeout: float = Field(5.0, gt=0, description="Seconds to wait for a connection.")
    connection_max_age: float = Field(
        300.0,
        gt=0,
        description="Seconds after which a connection to a database is replaced by a new one, up "
        "to a fifth of it earlier: then a server that has come back behind a load balancer, or "
        "stands first in a URL of several, is used again.",
    )
    audit_days: int = Field(
        365,
        ge=0,
        le=36500,
        description="Days for which request ids and changed values of entries of iRedAdmin's log "
        "are kept in the service's own database, for `GET /api/log`; 0: none are kept, "
        "and those that are there are removed at the start.",
    )
    used_quota_table: str = Field(
        "used_quota",
        pattern=r"^[A-Za-z0-9_]{1,64}$",
        description="Name of the real-time quota table (`SQL_TBL_USED_QUOTA` of iRedAdmin).",
    )

    admin: str = Field(
        "postmaster@iredapi.invalid",
        description="First global admin of a new embedded database.",
    )
    admin_password: SecretStr = Field(
        SecretStr(""),
        description="Its password; empty: a random one, printed once.",
    )

    @field_validator("vmail_url", "amavisd_url", "iredapd_url", "iredadmin_url", "state_url")
    @classmethod
    def _urls(cls, value: SecretStr) -> SecretStr:
        return SecretStr(async_url(value.get_secret_value()))
