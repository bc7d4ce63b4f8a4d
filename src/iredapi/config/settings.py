"""Every setting, typed and described: ``IREDAPI_*`` in the environment or in an env file.

The descriptions are what ``docs/configuration.md`` prints (``iredapi docs configuration``).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from sqlalchemy.engine import make_url

from iredapi.config import env_names
from iredapi.config.parsing import EnvFile, async_url, split
from iredapi.domain.addresses import DOVECOT_CHARACTERS
from iredapi.domain.origins import normalised as normalised_origin
from iredapi.domain.passwords import Scheme

Network = IPv4Network | IPv6Network
ENV_FILE = Path("/etc/iredapi/iredapi.env")

_NOT_FOR_SLAPD = (Scheme.PBKDF2, Scheme.ARGON2ID)


class Backend(StrEnum):
    """Where accounts are stored."""

    SQL = "sql"
    LDAP = "ldap"


class ConfigurationError(Exception):
    """A setting is wrong; the message names it and says what is wrong with it."""

    status = 2
    """Exit status of the command line."""


class NotReady(ConfigurationError):
    """A database that nothing can be done without is away; trying again later may help."""

    status = 3


Words = Annotated[list[str], NoDecode]


class Settings(BaseSettings):
    """The configuration of one process."""

    model_config = SettingsConfigDict(env_prefix="IREDAPI_", extra="ignore")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (pydantic passes it)
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the env file."""
        env_file = getattr(dotenv_settings, "env_file", None)
        return init_settings, env_settings, EnvFile(settings_cls, env_file)

    # The server.
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="TCP port to listen on.")
    workers: int = Field(
        1, ge=1, le=64, description="Worker processes. SQLite allows one; more need PostgreSQL."
    )
    data_dir: Path = Field(
        Path("data"),
        description="Directory of the embedded SQLite databases; made when it does not exist.",
    )
    prefixes: Words = Field(
        ["/api", "/iredadmin/api"],
        description="Path prefixes under which the API answers, separated by commas.",
    )
    always_200: bool = Field(
        False,
        description="Answer every handled result with HTTP 200, for old clients that look only "
        "at `_success`; `LOGIN_REQUIRED` is then spelt `LOGIN REQUIRED`.",
    )
    body_limit: int = Field(
        8 * 1024 * 1024,
        ge=1024,
        description="Largest body of a request that takes lists of addresses, in bytes. Others "
        "take 256 KiB at most, a login 8 KiB.",
    )
    max_requests: int = Field(
        500,
        ge=1,
        description="Most requests that one worker handles at a time; more are answered 503 "
        "`OVERLOADED` with `Retry-After` at once. One that waits for its body is not counted; a "
        "sixteenth may be lists of 500 items and more.",
    )
    request_timeout: float = Field(
        60.0,
        gt=0,
        description="Seconds for the databases' part of one request (before it is committed), for "
        "each page of a list, and for a body to arrive (10 at most before a login); then 503, or "
        "400 for the body. So long, "
        "too, an answer waits at most for its turn in the panel's log, and again for the log "
        "itself; the change is made, and an entry that could not be written there is in the "
        "service's own log.",
    )
    start_timeout: float = Field(
        30.0,
        ge=0,
        description="Seconds for which `iredapi serve` waits for databases that are away; then it "
        "ends with status 3. 0: it does not wait.",
    )
    drain_seconds: float = Field(
        2.0,
        ge=0,
        le=300,
        description="Seconds between SIGTERM, from which on `/readyz` fails, and the closing of "
        "the port. Longer than a load balancer needs to notice.",
    )
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")

    # Where accounts live.
    backend: Backend = Field(Backend.SQL, description="Account storage: `sql` or `ldap`.")
    ldap_uri: Words = Field(
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
    ldap_pool_size: int = Field(8, ge=2, le=200, description="Most LDAP connections of one worker.")
    ldap_timeout: float = Field(
        30.0, gt=0, description="Seconds for one LDAP operation before 503."
    )
    ldap_member_dns: bool = Field(
        True, description="Also write members' DNs into lists (`member`), for SOGo."
    )
    ldap_password_check: str = Field(
        "slapd",
        pattern="^(slapd|dovecot)$",
        description="Who checks users' passwords. `slapd` (Dovecot 2.3 binds as the user): hashes "
        "that OpenLDAP cannot check are refused. `dovecot` (2.4 reads `userPassword`): all are "
        "taken.",
    )
    vmail_url: SecretStr = Field(
        SecretStr(""),
        description="Database `vmail`, with the login `vmailadmin`: "
        "`postgresql://user:password@host/vmail`, `mysql://…` or `sqlite:///path`. "
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
        description="Database `iredadmin` (the panel's log and settings). Empty: not used.",
    )
    state_url: SecretStr = Field(
        SecretStr(""),
        description="Our own database (sessions, login throttle, locks). Empty: a SQLite file in "
        "the data directory; several replicas need PostgreSQL or MariaDB.",
    )
    pool_size: int = Field(
        10,
        ge=2,
        le=500,
        description="Most connections of one worker to the account database: a quarter is never "
        "lent to those who write, and a quarter at most to long lists. amavisd, iredapd and "
        "iredadmin get half as many each, and the state database up to 8. With the default a "
        "worker has at most 33.",
    )
    pool_timeout: float = Field(
        10.0, gt=0, description="Seconds to wait for a free connection before 503."
    )
    connect_timeout: float = Field(5.0, gt=0, description="Seconds to wait for a connection.")
    used_quota_table: str = Field(
        "used_quota",
        pattern=r"^[A-Za-z0-9_]{1,64}$",
        description="Name of the real-time quota table (`SQL_TBL_USED_QUOTA` of iRedAdmin).",
    )

    # The first admin of the embedded default.
    admin: str = Field(
        "postmaster@iredapi.invalid",
        description="First global admin of a new embedded database.",
    )
    admin_password: SecretStr = Field(
        SecretStr(""),
        description="Its password; empty: a random one, printed once.",
    )

    # Who may call.
    allowed_networks: Words = Field(
        [],
        description="Client addresses and networks that may use the API, separated by commas; "
        "empty: everybody. `restful_api_clients` of iRedAdmin's settings must admit the client "
        "too.",
    )
    trusted_proxies: Words = Field(
        [],
        description="Proxies whose X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host are "
        "believed.",
    )
    allowed_origins: Words = Field(
        [],
        description="Web sites, such as `https://panel.example.com`, whose pages may log in and "
        "make changes with a session, besides pages of the API's own host.",
    )
    session_idle: int = Field(1800, ge=60, description="Seconds of idleness that end a session.")
    session_absolute: int = Field(43200, ge=60, description="Longest life of a session, seconds.")
    session_cookie: str = Field(
        "iredapi_session", pattern=r"^[A-Za-z0-9_-]+$", description="Name of the session cookie."
    )
    tokens_outlive_password: bool = Field(
        False,
        description="API tokens stay good when their owner's password is changed. By default they "
        "end: who knew the old one may have made them.",
    )
    login_failures: int = Field(
        10,
        ge=1,
        description="Different wrong passwords per account and per address before 429; an account "
        "that logged in from a network within 30 days has a counter of its own there.",
    )
    login_window: int = Field(900, ge=1, description="Seconds over which failures are counted.")
    strict: bool = Field(
        False,
        description="Parameters that an operation ignores, and values that it would adjust, are "
        "errors; a request's own `strict=no` prevails.",
    )
    query_login: bool = Field(
        True, description="Accept login credentials in the query string too (never logged)."
    )

    # Passwords.
    password_scheme: Scheme = Field(
        Scheme.SSHA512,
        description="Scheme of new password hashes. On LDAP `SSHA` unless set: what every slapd "
        "can check.",
    )
    rehash_at_login: bool = Field(
        False,
        description="After a login, replace a hash of another scheme, or a cheaper one, by one of "
        "the scheme above; never by a weaker one. Accounts without a date of creation keep theirs.",
    )
    password_workers: int = Field(2, ge=1, le=64, description="Threads that hash passwords.")
    password_ascii_only: bool = Field(True, description="New passwords are printable ASCII only.")
    min_password_length: int = Field(8, ge=0, description="Shortest new password, characters.")
    max_password_length: int = Field(0, ge=0, description="Longest new password; 0: no limit.")
    password_has_letter: bool = Field(True, description="New passwords need a letter.")
    password_has_uppercase: bool = Field(True, description="… an upper-case letter.")
    password_has_number: bool = Field(True, description="… a digit.")
    password_has_special_char: bool = Field(True, description="… a special character.")
    hidden_user_fields: Words = Field(
        ["password", "userPassword"],
        description="Fields left out of user profiles (`API_HIDDEN_USER_PROFILES`), in every view "
        "and in LDIF; unhidden hashes are shown to global admins only.",
    )
    hidden_admin_fields: Words = Field(
        ["password", "userPassword"],
        description="Fields left out of admin profiles (`API_HIDDEN_ADMIN_PROFILES`), likewise.",
    )
    set_password_change_date: bool = Field(
        True,
        description="Write the time of creation as `passwordlastchange` of new users "
        "(`SET_PASSWORD_CHANGE_DATE_FOR_NEW_USER`).",
    )

    # The mail server.
    server_hostname: str = Field(
        "", description="The mail server's host name; never accepted as a mail domain."
    )
    storage_base_directory: str = Field(
        "/var/vmail/vmail1", pattern=r"^/[^\x00\n]+$", description="Root of new mailboxes."
    )
    storage_roots: Words = Field(
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
        "lower case, with its default. Dovecot lets nobody else log in, and 2.3 delivers them no "
        "mail. Empty: all that an address may have. Aliases and lists may have these anyway.",
    )
    default_transport: str = Field(
        "dovecot", description="Postfix transport of new domains (`default_mta_transport`)."
    )
    disabled_user_services: Words = Field(
        [], description="Services switched off for new users (`ADDITIONAL_DISABLED_USER_SERVICES`)."
    )
    enabled_user_services: Words = Field(
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
        description="Domains made by normal admins stay disabled until their ownership is "
        "verified (`REQUIRE_DOMAIN_OWNERSHIP_VERIFICATION`).",
    )
    max_keep_mailbox_days: int = Field(
        365, ge=1, description="Longest time for which a normal admin may keep mailboxes, days."
    )
    dns_resolver: str = Field(
        "",
        description="DNS resolver for `query_dns_immediately`: `address` or `address:port` "
        "(`[address]:port` for IPv6). Empty: the system's.",
    )
    dns_timeout: float = Field(
        10.0, gt=0, le=300, description="Seconds for all DNS questions of one request."
    )

    # Subscribable mailing lists.
    mlmmjadmin_url: str = Field(
        "",
        pattern=r"^(https?://[^\s?#]+)?$",
        description="Base URL of mlmmjadmin's API, such as `http://127.0.0.1:7790/api`. Empty: the "
        "lists are in `IREDAPI_MLMMJ_SPOOL`, kept by this process itself.",
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
        description="Where deleted lists are moved to. Empty: the spool's name with `-archive`.",
    )
    mlmmj_programs: str = Field(
        "/usr/bin",
        pattern=r"^/[^\x00\n]*$",
        description="Directory of mlmmj's programs (for a spool of our own).",
    )
    mlmmj_texts: str = Field(
        "/usr/share/mlmmj/text.skel/en",
        pattern=r"^/[^\x00\n]*$",
        description="Directory of the texts that new lists answer with (for a spool of our own).",
    )
    mlmmj_smtp_port: int = Field(
        10027,
        ge=0,
        le=65535,
        description="TCP port on loopback to which lists send their mail (for a spool of our own); "
        "10027 is iRedMail's Amavisd, which signs it; 0: mlmmj's default, 25.",
    )
    mlmmj_transport: str = Field(
        "mlmmj",
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="Postfix transport of mailing lists (`MLMMJ_MTA_TRANSPORT_NAME`).",
    )

    @field_validator(
        "prefixes", "allowed_networks", "trusted_proxies", "allowed_origins", "storage_roots",
        "hidden_user_fields", "hidden_admin_fields",
        "disabled_user_services", "enabled_user_services", "ldap_uri",
        mode="before",
    )  # fmt: skip
    @classmethod
    def _lists(cls, value: Any) -> Any:
        return split(value)

    @field_validator("prefixes")
    @classmethod
    def _prefixes(cls, value: list[str]) -> list[str]:
        if not value or any(not item.startswith("/") or item.endswith("/") for item in value):
            raise ValueError("each prefix starts with / and does not end with it")
        return value

    @field_validator("allowed_networks", "trusted_proxies")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for item in value:
            ip_network(item)
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: list[str]) -> list[str]:
        return [normalised_origin(item) for item in value]

    @field_validator("dns_resolver")
    @classmethod
    def _resolver(cls, value: str) -> str:
        _address_and_port(value)
        return value

    @field_validator("log_level")
    @classmethod
    def _level(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("DEBUG, INFO, WARNING or ERROR")
        return value.upper()

    @field_validator("vmail_url", "amavisd_url", "iredapd_url", "iredadmin_url", "state_url")
    @classmethod
    def _urls(cls, value: SecretStr) -> SecretStr:
        return SecretStr(async_url(value.get_secret_value()))

    @field_validator("ldap_uri")
    @classmethod
    def _uris(cls, value: list[str]) -> list[str]:
        if any(not re.fullmatch(r"ldaps?://[^/\s]+/?", item) for item in value):
            raise ValueError("ldap://host or ldaps://host, with an optional :port, is expected")
        return [item.rstrip("/") for item in value]

    @model_validator(mode="after")
    def _directory(self) -> Settings:
        if self.backend is not Backend.LDAP:
            return self
        needed = {
            "LDAP_URI": self.ldap_uri,
            "LDAP_BASE_DN": self.ldap_base_dn,
            "LDAP_BIND_DN": self.ldap_bind_dn,
            "LDAP_BIND_PASSWORD": self.ldap_bind_password.get_secret_value(),
        }
        for name, value in needed.items():
            if not value:
                raise ValueError(f"IREDAPI_{name}: it is needed with IREDAPI_BACKEND=ldap")
        if self.vmail_url.get_secret_value():
            raise ValueError(
                "IREDAPI_VMAIL_URL: with IREDAPI_BACKEND=ldap there is no such database"
            )
        if self.ldap_starttls and any(uri.startswith("ldaps:") for uri in self.ldap_uri):
            raise ValueError("IREDAPI_LDAP_STARTTLS: ldaps:// has TLS from the beginning")
        if "password_scheme" not in self.model_fields_set:
            self.password_scheme = Scheme.SSHA
        if self.slapd_checks_passwords and self.password_scheme in _NOT_FOR_SLAPD:
            raise ValueError(
                f"IREDAPI_PASSWORD_SCHEME: OpenLDAP cannot check {self.password_scheme}; see "
                "IREDAPI_LDAP_PASSWORD_CHECK"
            )
        return self

    @model_validator(mode="after")
    def _one_storage(self) -> Settings:
        beside = {"AMAVISD_URL": self.amavisd_url, "IREDAPD_URL": self.iredapd_url}
        beside |= {"IREDADMIN_URL": self.iredadmin_url}
        if self.embedded and (given := [n for n, url in beside.items() if url.get_secret_value()]):
            # Every policy there would belong to an account that does not exist.
            raise ValueError(
                f"IREDAPI_{given[0]}: it is set, but no account storage: set IREDAPI_VMAIL_URL "
                "too, or IREDAPI_BACKEND=ldap with IREDAPI_LDAP_URI; or remove it, and SQLite "
                "databases of our own are used for everything"
            )
        return self

    @model_validator(mode="after")
    def _ldap_is_meant(self) -> Settings:
        given = [name for name in ("LDAP_URI", "LDAP_BASE_DN", "LDAP_BIND_DN")
                 if getattr(self, name.lower())]  # fmt: skip
        if given and self.backend is not Backend.LDAP:
            raise ValueError(
                f"IREDAPI_{given[0]}: it is used with IREDAPI_BACKEND=ldap only: set that too, or "
                "remove it"
            )
        return self

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if self.uses_sqlite and self.workers > 1:
            raise ValueError(
                "IREDAPI_WORKERS: SQLite allows one worker process; use PostgreSQL or MariaDB for "
                "IREDAPI_VMAIL_URL and IREDAPI_STATE_URL to run more"
            )
        return self

    @model_validator(mode="after")
    def _one_list_server(self) -> Settings:
        if self.mlmmjadmin_url and self.mlmmj_spool:
            raise ValueError(
                "IREDAPI_MLMMJ_SPOOL: mlmmjadmin keeps the spool when IREDAPI_MLMMJADMIN_URL is "
                "set; two writers would overwrite each other's changes"
            )
        if self.mlmmjadmin_url and not self.mlmmjadmin_token.get_secret_value():
            raise ValueError(
                "IREDAPI_MLMMJADMIN_TOKEN: IREDAPI_MLMMJADMIN_URL needs it: one of "
                "`api_auth_tokens` in mlmmjadmin's settings.py"
            )
        if self.mlmmjadmin_token.get_secret_value() and not self.mlmmjadmin_url:
            raise ValueError(
                "IREDAPI_MLMMJADMIN_URL: IREDAPI_MLMMJADMIN_TOKEN is for it: set it, such as "
                "http://127.0.0.1:7790/api, or remove the token"
            )
        return self

    @model_validator(mode="after")
    def _own_database(self) -> Settings:
        urls = self.urls()
        others = [url for name, url in urls.items() if name != "state"]
        if urls["state"] in others:
            raise ValueError("IREDAPI_STATE_URL: it must be a database of its own")
        return self

    @model_validator(mode="after")
    def _own_tables(self) -> Settings:
        if self.embedded and self.used_quota_table != "used_quota":
            raise ValueError("IREDAPI_USED_QUOTA_TABLE: the embedded databases have used_quota")
        return self

    @property
    def embedded(self) -> bool:
        """No account database is configured: everything is in SQLite files of ours."""
        return self.backend is Backend.SQL and not self.vmail_url.get_secret_value()

    @property
    def slapd_checks_passwords(self) -> bool:
        """Users log in by a bind, so OpenLDAP must be able to check their hashes."""
        return self.backend is Backend.LDAP and self.ldap_password_check == "slapd"  # noqa: S105

    @property
    def admin_base_dn(self) -> str:
        """The DN above the standalone admins."""
        parent = self.ldap_base_dn.partition(",")[2]
        return self.ldap_admin_base_dn or f"o=domainAdmins,{parent}"

    @property
    def uses_sqlite(self) -> bool:
        """A database of this configuration is a SQLite file, so one worker only."""
        return any(url.startswith("sqlite") for url in self.urls().values())

    def urls(self) -> dict[str, str]:
        """Return the SQLAlchemy URL of each database in use, by its name, in locking order."""
        names = ("vmail", "amavisd", "iredapd", "iredadmin", "state")
        given = {
            "vmail": self.vmail_url,
            "amavisd": self.amavisd_url,
            "iredapd": self.iredapd_url,
            "iredadmin": self.iredadmin_url,
            "state": self.state_url,
        }
        urls: dict[str, str] = {}
        for name in names:
            url = given[name].get_secret_value()
            if not url and (self.embedded or name == "state"):
                url = f"sqlite+aiosqlite:///{(self.data_dir / name).absolute()}.db"
            if url:
                urls[name] = url
        return urls

    def places(self) -> str:
        """Say where the accounts and our own data are, without a secret."""
        shown = {name: _place(url) for name, url in self.urls().items()}
        accounts = shown.pop("vmail", "") or f"{self.ldap_base_dn} on {', '.join(self.ldap_uri)}"
        own = shown.pop("state")
        beside = f"; beside them {', '.join(shown.values())}" if shown else ""
        if self.embedded:
            beside = " (the embedded default: IREDAPI_VMAIL_URL is not set)"
        return f"accounts in {accounts}{beside}; own data in {own}"

    @property
    def spool(self) -> Path | None:
        """The directory of the mailing lists that we keep ourselves; None: mlmmjadmin, or none."""
        if self.mlmmjadmin_url:
            return None
        if self.mlmmj_spool:
            return Path(self.mlmmj_spool)
        return (self.data_dir / "mlmmj").absolute() if self.embedded else None

    @property
    def resolver(self) -> tuple[str, int] | None:
        """Address and port of the DNS resolver; None: the system's."""
        return _address_and_port(self.dns_resolver)

    def networks(self, name: str) -> tuple[Network, ...]:
        """Return ``allowed_networks`` or ``trusted_proxies`` as networks."""
        return tuple(ip_network(item) for item in getattr(self, name))


def _place(url: str) -> str:
    """Return a database URL without its password and options."""
    parsed = make_url(url)
    sockets = {name: path for name, path in parsed.query.items() if name in {"host", "unix_socket"}}
    parsed = parsed.set(password=None, query=sockets)
    if parsed.get_backend_name() == "sqlite":
        return str(parsed.database)
    return parsed.set(drivername=parsed.get_backend_name()).render_as_string()


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


def load(env_file: Path | None = None, **given: Any) -> Settings:
    """Read the settings; ``given`` (from the command line) wins over the environment.

    The environment wins over ``env_file`` (default ``/etc/iredapi/iredapi.env``, when it is
    there). Raises ConfigurationError that names the setting and what is wrong with it: also for
    names that are no settings.
    """
    given["_env_file"] = check_names(env_file)
    try:
        return Settings(**given)
    except ValidationError as error:
        raise ConfigurationError(explain(error)) from None
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def check_names(
    env_file: Path | None = None, *, optional: bool = False, replaced: Path | None = None
) -> Path | None:
    """Refuse names in the environment and in the env file that are no settings.

    Returns the file that is to be read: None when there is none. ``optional``: one that may not be
    read is not there; ``replaced``: nor is the one that is about to be written. Raises
    ConfigurationError with a line for each name.
    """
    path = env_file or ENV_FILE
    try:
        is_there = path != replaced and _is_there(path, required=env_file is not None)
        lines = env_names.read(path) if is_there else []
    except PermissionError as error:
        if not optional:
            raise ConfigurationError(
                f"{path}: {error.strerror}: run this as its owner, or as root"
            ) from None
        is_there, lines = False, []
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except env_names.WrongEnvFile as error:
        raise ConfigurationError(str(error)) from None
    if wrong := list(env_names.complaints(names(), os.environ, path, lines)):
        raise ConfigurationError("\n".join(wrong))
    return path if is_there else None


def _is_there(path: Path, *, required: bool) -> bool:
    """Whether there is an env file. Raises OSError when that cannot be known."""
    try:
        mode = path.stat().st_mode  # not is_file(), which takes what it may not see for absent
    except (FileNotFoundError, NotADirectoryError):
        if required:
            raise ConfigurationError(f"{path}: no such file") from None
        return False
    if stat.S_ISDIR(mode):
        raise ConfigurationError(
            f"{path}: a directory, where an env file is expected; Docker makes one when the file "
            "that is to be mounted does not exist"
        )
    return True


def names() -> list[str]:
    """Return the name of every setting, with its prefix."""
    return [f"{env_names.PREFIX}{name.upper()}" for name in Settings.model_fields]


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings in a worker process, to which ``serve`` handed all of them on.

    Then no file is read: it may have changed meanwhile, or have been another one. Raises
    ConfigurationError.
    """
    return Settings(_env_file=None) if set(names()) <= environment.keys() else load()


def explain(error: ValidationError) -> str:
    """Return a line for each wrong setting: its name and what is wrong, never its value."""
    lines = []
    for item in error.errors(include_input=False):
        name = ".".join(str(part) for part in item["loc"][:1])
        label = f"IREDAPI_{name.upper()}: " if name else ""
        lines.append(f"{label}{item['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


def document() -> str:
    """Return ``docs/configuration.md``: every setting, its default and its meaning."""
    lines = [
        "# Configuration",
        "",
        "Generated by `iredapi docs configuration`; a test keeps it true. Settings are read from",
        "the environment and from `/etc/iredapi/iredapi.env`; the environment wins.",
        "",
        "| setting | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        if isinstance(default, list):
            default = ",".join(default)
        if isinstance(default, bool):
            default = str(default).lower()
        shown = f"`{default}`" if str(default) else "(empty)"
        lines.append(f"| `IREDAPI_{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(lines) + "\n"
