"""Settings of passwords and their hashes."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, Field

from iredapi.config.parsing import CommaList
from iredapi.domain.passwords import Scheme


class PasswordSettings(BaseModel):
    """Hash schemes, rules for new passwords, and hidden profile fields."""

    TITLE: ClassVar[str] = "Passwords"

    password_scheme: Scheme = Field(
        Scheme.SSHA512,
        description="Scheme of new password hashes. With LDAP the default is `SSHA`, which every "
        "slapd can check.",
    )
    rehash_at_login: bool = Field(
        False,
        description="After a login, replace a hash of another scheme, or a cheaper one, by one of "
        "the scheme above; never by a weaker one. Accounts without a date of creation keep theirs.",
    )
    password_workers: int = Field(2, ge=1, le=64, description="Threads that hash passwords.")
    password_ascii_only: bool = Field(True, description="New passwords are printable ASCII only.")
    min_password_length: int = Field(
        8, ge=0, description="Minimum length of new passwords, characters."
    )
    max_password_length: int = Field(
        0, ge=0, description="Maximum length of new passwords; 0: no limit."
    )
    password_has_letter: bool = Field(True, description="New passwords need a letter.")
    password_has_uppercase: bool = Field(
        True, description="New passwords need an upper-case letter."
    )
    password_has_number: bool = Field(True, description="New passwords need a digit.")
    password_has_special_char: bool = Field(
        True, description="New passwords need a special character."
    )
    hidden_user_fields: CommaList = Field(
        ["password", "userPassword"],
        description="Fields left out of user profiles (`API_HIDDEN_USER_PROFILES`), in every view, "
        "of usage and in LDIF; no list is searched or sorted by them. Unhidden hashes are shown to "
        "global admins only.",
    )
    hidden_admin_fields: CommaList = Field(
        ["password", "userPassword"],
        description="Fields left out of admin profiles (`API_HIDDEN_ADMIN_PROFILES`), likewise.",
    )
    set_password_change_date: bool = Field(
        True,
        description="Write the time of creation as `passwordlastchange` of new users "
        "(`SET_PASSWORD_CHANGE_DATE_FOR_NEW_USER`).",
    )
