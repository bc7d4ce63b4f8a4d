"""Forms of logging in and of verifying passwords."""

from __future__ import annotations

from iredapi.schemas import fields
from iredapi.schemas.params import Params, param


class Login(Params):
    """Name and password of an admin."""

    username: fields.LoginName = param(
        "The admin's full e-mail address.", "postmaster@example.com", required=True
    )
    password: fields.Password = param("The plain password.", "Corr3ct-Horse", required=True)


class Verification(Params):
    """A password to compare with the stored one."""

    password: fields.Password = param("The plain password.", "Corr3ct-Horse", required=True)
