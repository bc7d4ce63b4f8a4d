"""The header ``Authorization``: bearer tokens, and what is wrong with others (RFC 6750)."""

from __future__ import annotations

from typing import Final

from starlette.types import Scope

from iredapi.domain.tokens import PREFIX
from iredapi.errors import ApiError
from iredapi.web import request_headers

_REALM: Final = 'Bearer realm="iredapi"'
_HOW: Final = "Send `Authorization: Bearer TOKEN` with an API token, or log in (POST /api/login)."
_SCHEMES: Final = ("Basic", "Digest", "Negotiate", "Token", "OAuth")
"""Names of schemes that may be repeated in an answer; other words may be secrets."""


def bearer_of(scope: Scope) -> str | None:
    """Return the bearer token; None without one, empty (invalid) with several."""
    found = request_headers.values(scope, b"authorization")
    if not found:
        return None
    bearers = [value[6:].strip() for value in found if value[:7].lower().rstrip() == b"bearer"]
    if not bearers:
        return None  # other schemes may be meant for a proxy in front
    return bearers[0].decode("latin-1") if len(found) == 1 else ""


def explain(scope: Scope, error: ApiError) -> str:
    """Return the value of ``WWW-Authenticate`` for a refusal with 401.

    When the header ``Authorization`` is malformed, the refusal says so instead of speaking of
    sessions. The header's value is never repeated.
    """
    if error.code not in {"LOGIN_REQUIRED", "INVALID_TOKEN"}:
        return _REALM
    problem = _problem(request_headers.values(scope, b"authorization"))
    if problem:
        error.detail = f"{problem} {_HOW}"
        return f'{_REALM}, error="invalid_request", error_description="{problem}"'
    if error.code == "INVALID_TOKEN":
        return f'{_REALM}, error="invalid_token", error_description="{error.detail}"'
    return _REALM


def _problem(sent: list[bytes]) -> str:
    """Return what is malformed; empty: nothing, or there is no such header."""
    if not sent:
        return ""
    if len(sent) > 1:
        return "There are several Authorization headers."
    word, _, rest = sent[0].decode("latin-1").strip().partition(" ")
    rest = rest.strip()
    if word.lower() == "bearer":
        if not rest:
            return "The Authorization header has no token after the word Bearer."
        if not rest.startswith(PREFIX) or " " in rest:
            return f"The Authorization header has no token of this API: they begin with {PREFIX}."
        return ""
    if word.startswith(PREFIX):
        return "The Authorization header has a token without the word Bearer in front of it."
    for scheme in _SCHEMES:
        if word.lower() == scheme.lower():
            return f"The Authorization header has the scheme {scheme}, which is not used here."
    return "The Authorization header is not of the form Bearer TOKEN."
