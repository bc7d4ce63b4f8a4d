"""All settings of one process, and the rules that involve several of them.

A setting ``name`` is read from ``IREDAPI_NAME`` (``iredapi.config.loading``). The modules
``*_settings`` declare the settings by subject, with the descriptions that
``docs/configuration.md`` prints.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy.engine import make_url

from iredapi.config.access_settings import AccessSettings
from iredapi.config.database_settings import DatabaseSettings
from iredapi.config.event_settings import EventSettings
from iredapi.config.ldap_settings import Backend, LdapSettings
from iredapi.config.mail_server_settings import MailServerSettings
from iredapi.config.mailing_list_settings import MailingListSettings
from iredapi.config.monitoring_settings import MonitoringSettings
from iredapi.config.onboarding_settings import OnboardingSettings
from iredapi.config.parsing import EnvFile
from iredapi.config.password_settings import PasswordSettings
from iredapi.config.server_settings import ServerSettings
from iredapi.config.webhook_settings import WebhookSettings
from iredapi.domain.password_readers import PasswordReader
from iredapi.domain.passwords import Scheme
from iredapi.domain.slapd_passwords import UNKNOWN_TO_SLAPD

GROUPS = (
    ServerSettings,
    LdapSettings,
    DatabaseSettings,
    AccessSettings,
    PasswordSettings,
    MailServerSettings,
    OnboardingSettings,
    MailingListSettings,
    MonitoringSettings,
    EventSettings,
    WebhookSettings,
)
"""The settings by subject, in the order of ``docs/configuration.md``."""


class _Sourced(BaseSettings):
    """Where settings are read from."""

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
        """Return the sources by precedence: arguments, environment, env file."""
        env_file = getattr(dotenv_settings, "env_file", None)
        return init_settings, env_settings, EnvFile(settings_cls, env_file)


class MailServer(MailServerSettings, _Sourced):
    """The settings of the mail server alone."""


class Settings(
    ServerSettings,
    LdapSettings,
    DatabaseSettings,
    AccessSettings,
    PasswordSettings,
    MailServerSettings,
    OnboardingSettings,
    MailingListSettings,
    MonitoringSettings,
    EventSettings,
    WebhookSettings,
    _Sourced,
):
    """The configuration of one process."""

    @model_validator(mode="after")
    def _check_ldap(self) -> Settings:
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
        if self.slapd_checks_passwords and self.password_scheme in UNKNOWN_TO_SLAPD:
            raise ValueError(
                f"IREDAPI_PASSWORD_SCHEME: OpenLDAP cannot check {self.password_scheme}; see "
                "IREDAPI_LDAP_PASSWORD_CHECK"
            )
        return self

    @model_validator(mode="after")
    def _check_related_databases(self) -> Settings:
        related = {"AMAVISD_URL": self.amavisd_url, "IREDAPD_URL": self.iredapd_url}
        related |= {"IREDADMIN_URL": self.iredadmin_url}
        if self.embedded and (given := [n for n, url in related.items() if url.get_secret_value()]):
            # The accounts that these databases refer to would not exist in our SQLite files.
            raise ValueError(
                f"IREDAPI_{given[0]}: it is set, but no account storage: set IREDAPI_VMAIL_URL "
                "too, or IREDAPI_BACKEND=ldap with IREDAPI_LDAP_URI; or remove it to use SQLite "
                "databases of our own for everything"
            )
        return self

    @model_validator(mode="after")
    def _check_ldap_backend(self) -> Settings:
        given = [name for name in ("LDAP_URI", "LDAP_BASE_DN", "LDAP_BIND_DN")
                 if getattr(self, name.lower())]  # fmt: skip
        if given and self.backend is not Backend.LDAP:
            raise ValueError(
                f"IREDAPI_{given[0]}: it is used with IREDAPI_BACKEND=ldap only: set that too, or "
                "remove it"
            )
        return self

    @model_validator(mode="after")
    def _check_workers(self) -> Settings:
        if self.uses_sqlite and self.workers > 1:
            raise ValueError(
                "IREDAPI_WORKERS: SQLite allows one worker process; use PostgreSQL or MariaDB for "
                "IREDAPI_VMAIL_URL and IREDAPI_STATE_URL to run more"
            )
        return self

    @model_validator(mode="after")
    def _check_list_server(self) -> Settings:
        if self.mlmmjadmin_url and self.mlmmj_spool:
            raise ValueError(
                "IREDAPI_MLMMJ_SPOOL: mlmmjadmin writes the spool when IREDAPI_MLMMJADMIN_URL is "
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
    def _check_state_database(self) -> Settings:
        urls = self.urls()
        others = [url for name, url in urls.items() if name != "state"]
        if urls["state"] in others:
            raise ValueError("IREDAPI_STATE_URL: it must be a database of its own")
        return self

    @model_validator(mode="after")
    def _check_used_quota_table(self) -> Settings:
        if self.embedded and self.used_quota_table != "used_quota":
            raise ValueError("IREDAPI_USED_QUOTA_TABLE: the embedded databases have used_quota")
        return self

    @property
    def mail_exchangers(self) -> list[str]:
        """The hosts that get the mail of hosted domains, the first one first."""
        name = self.server_hostname.rstrip(".").lower()
        return self.dns_mx or ([name] if "." in name else [])

    @property
    def slapd_checks_passwords(self) -> bool:
        """Whether users log in with an LDAP bind, so that OpenLDAP must support their hashes."""
        if self.backend is not Backend.LDAP:
            return False
        by_version = "dovecot" if self.dovecot_release == "2.4" else "slapd"
        chosen = self.ldap_password_check
        return (by_version if chosen == "auto" else chosen) == "slapd"

    @property
    def slapd_checks_admins(self) -> bool:
        """Whether standalone admins log in to iRedAdmin with an LDAP bind."""
        return self.backend is Backend.LDAP

    @property
    def password_reader(self) -> PasswordReader:
        """Which program checks users' passwords when they log in to the mail server."""
        version = self.dovecot_release
        return PasswordReader(
            version,
            ldap=self.backend is Backend.LDAP,
            # Dovecot 2.4 with iRedMail's samples does not bind, whatever the setting says.
            binds=self.slapd_checks_passwords and version != "2.4",
        )

    @property
    def embedded(self) -> bool:
        """Whether no account storage is configured, so that all databases are SQLite files."""
        return self.backend is Backend.SQL and not self.vmail_url.get_secret_value()

    @property
    def uses_sqlite(self) -> bool:
        """Whether a database is a SQLite file, which allows one worker only."""
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

    def describe_storage(self) -> str:
        """Describe for operators where accounts and our own data are stored, without secrets."""
        shown = {name: _without_password(url) for name, url in self.urls().items()}
        accounts = shown.pop("vmail", "") or f"{self.ldap_base_dn} on {', '.join(self.ldap_uri)}"
        own = shown.pop("state")
        related = f"; related data in {', '.join(shown.values())}" if shown else ""
        if self.embedded:
            related = " (the embedded default: IREDAPI_VMAIL_URL is not set)"
        return f"accounts in {accounts}{related}; own data in {own}"

    @property
    def spool(self) -> Path | None:
        """The mlmmj spool directory that this process writes; None: it writes none."""
        if self.mlmmjadmin_url:
            return None
        if self.mlmmj_spool:
            return Path(self.mlmmj_spool)
        return (self.data_dir / "mlmmj").absolute() if self.embedded else None


def _without_password(url: str) -> str:
    """Return a database URL without its password and options."""
    parsed = make_url(url)
    sockets = {name: path for name, path in parsed.query.items() if name in {"host", "unix_socket"}}
    parsed = parsed.set(password=None, query=sockets)
    if parsed.get_backend_name() == "sqlite":
        return str(parsed.database)
    return parsed.set(drivername=parsed.get_backend_name()).render_as_string()
