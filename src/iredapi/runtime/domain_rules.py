"""Convert settings into the values that the rules of ``iredapi.domain`` take."""

from __future__ import annotations

from iredapi.backends.policies.iredadmin import IredadminDbSettings
from iredapi.backends.unit_of_work import Rules
from iredapi.config.settings import Settings
from iredapi.domain import domains, users
from iredapi.domain.hidden_fields import with_other_names
from iredapi.domain.mailbox_paths import Layout
from iredapi.domain.passwords import PasswordPolicy


def configured_rules(settings: Settings) -> Rules:
    """Return the rules of the configuration, without iRedAdmin's settings."""
    return Rules(
        domains=domains.Rules(
            default_transport=settings.default_transport,
            hostname=settings.server_hostname,
            min_password_length=settings.min_password_length,
            max_password_length=settings.max_password_length,
            keep_relay_prefix=settings.relay_keep_prefix,
            verify_ownership=settings.require_domain_ownership,
        ),
        users=users.Rules(
            layout=Layout(
                base=settings.storage_base_directory,
                roots=tuple(settings.storage_roots),
                hashed=settings.maildir_hashed,
                prepend_domain=settings.maildir_prepend_domain,
                domain_hashed=settings.maildir_domain_hashed,
                append_timestamp=settings.maildir_append_timestamp,
            ),
            mailbox_format=settings.mailbox_format,
            mailbox_folder=settings.mailbox_folder,
            disabled_services=frozenset(settings.disabled_user_services),
            enabled_services=frozenset(settings.enabled_user_services),
            name_characters=settings.auth_username_chars,
        ),
        hidden_user_fields=with_other_names(settings.hidden_user_fields),
        hidden_admin_fields=with_other_names(settings.hidden_admin_fields),
        max_keep_days=settings.max_keep_mailbox_days,
        alias_anywhere=settings.user_alias_cross_all_domains,
        set_password_date=settings.set_password_change_date,
    )


def password_policy(settings: Settings, iredadmin: IredadminDbSettings) -> PasswordPolicy:
    """Return the policy for new passwords; iRedAdmin's settings override ours."""
    numbers, switches = iredadmin.numbers, iredadmin.switches
    return PasswordPolicy(
        min_length=numbers.get("min_passwd_length", settings.min_password_length),
        max_length=numbers.get("max_passwd_length", settings.max_password_length),
        letter=switches.get("password_has_letter", settings.password_has_letter),
        uppercase=switches.get("password_has_uppercase", settings.password_has_uppercase),
        digit=switches.get("password_has_number", settings.password_has_number),
        special=switches.get("password_has_special_char", settings.password_has_special_char),
        ascii_only=settings.password_ascii_only,
    )
