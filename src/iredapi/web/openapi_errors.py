"""The error codes of each operation in OpenAPI, beside those that its route declares.

What is wrong with single parameters is found out by reading the operation's form with wrong values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from functools import cache
from typing import Any, Final

from iredapi.auth.permissions import PUBLIC, Action
from iredapi.errors import CODES, InvalidParameters
from iredapi.schemas.listing import Paged
from iredapi.schemas.params import Params

_WRONG: Final = (
    "", "\x00nonsense\n", "@", "a@-b", "-99999999999999999999", "x" * 2000, "é",
    "{NONE}x", "{SSHA512}", "{PLAIN}x", "$6$rounds=999999999$abcdefgh$x", "$2y$31$x",
    "10.0.0.0/99",
)  # fmt: skip
"""Values that at least some parameters refuse."""
_PASSWORDS: Final = (
    "PASSWORD_IS_A_HASH", "PW_EMPTY", "PW_NON_ASCII", "PW_SHORTER_THAN_MIN_LENGTH",
    "PW_GREATER_THAN_MAX_LENGTH", "PW_NO_LETTER", "PW_NO_UPPERCASE", "PW_NO_DIGIT_NUMBER",
    "PW_NO_SPECIAL_CHAR", "PW_REFUSED_BY_DIRECTORY",
)  # fmt: skip
_SETS_PASSWORD: Final = frozenset(
    {Action.ADMIN_CREATE, Action.ADMIN_UPDATE}
    | {Action.USER_CREATE, Action.USER_UPDATE, Action.USERS_UPDATE}
)
_WRITES: Final = ("DATABASE_READ_ONLY", "STORAGE_FULL")
_ACCOUNTS: Final = ("admin.", "alias.", "domain.", "maillist.", "ml.", "user.", "users.")
_IN_DOMAIN: Final = ("alias.", "maillist.", "ml.", "user.", "users.")
_NOT_UNIQUE: Final = "ALREADY_EXISTS"
"""The overlay ``unique`` of OpenLDAP refuses a value that another entry has."""
_OF_LISTS: Final = (
    "CONFLICTING_PARAMETERS", "MISSING_COMPANION", "OWN_ADDRESS", "INVALID_DOMAIN_NAME",
)  # fmt: skip
_LIMITS: Final = (
    "EXCEED_LIMIT_DOMAIN", "EXCEED_LIMIT_QUOTA", "EXCEED_LIMIT_USERS", "EXCEED_LIMIT_ALIASES",
    "EXCEED_LIMIT_LISTS",
)  # fmt: skip
_NOT_YOURS: Final = "PERMISSION_DENIED_UPDATE_GLOBAL_ADMIN_PROFILE"
_MORE: Final[Mapping[Action, tuple[str, ...]]] = {
    Action.ADMIN_CREATE: ("REQUIRED",),
    Action.ADMIN_DELETE: ("CANNOT_REMOVE_YOURSELF",),
    Action.DOMAIN_CREATE: _LIMITS,
    Action.DOMAIN_UPDATE: (*_LIMITS, _NOT_YOURS),
    Action.DOMAIN_DELETE: ("CANNOT_REMOVE_YOURSELF", _NOT_YOURS),
    Action.ADMIN_UPDATE: (_NOT_UNIQUE,),
    Action.ALIAS_UPDATE: (_NOT_UNIQUE,),
    Action.MAILLIST_UPDATE: (_NOT_UNIQUE,),
    Action.ML_CREATE: (*_OF_LISTS, "NOT_ALLOWED"),
    Action.ML_UPDATE: (*_OF_LISTS, _NOT_UNIQUE),
    Action.USERS_UPDATE: ("LAST_GLOBAL_ADMIN", _NOT_YOURS, "EXCEEDED_DOMAIN_QUOTA_SIZE"),
    Action.USER_CREATE: (
        "REQUIRED", "EMPTY_NOT_ALLOWED", "INVALID_MAILDIR", "INVALID_DOMAIN_NAME",
        "EXCEEDED_DOMAIN_QUOTA_SIZE", _NOT_YOURS,
    ),
    Action.DELETED_MAILBOX_UPDATE: (_NOT_YOURS,),
    Action.USER_DELETE: ("CANNOT_REMOVE_YOURSELF", _NOT_YOURS),
    Action.USER_RENAME: (_NOT_YOURS,),
    Action.USER_UPDATE: (
        "EMPTY_NOT_ALLOWED", "INVALID_MAILDIR", "INVALID_DOMAIN_NAME", _NOT_YOURS, _NOT_UNIQUE,
    ),
    Action.LOGIN: ("EMPTY_PASSWORD",),
}  # fmt: skip
_WITH_OTHER_STATUS: Final[Mapping[Action, Mapping[str, int]]] = {
    Action.ADMIN_VERIFY_PASSWORD: {"INVALID_CREDENTIALS": 403},
    Action.USER_VERIFY_PASSWORD: {"INVALID_CREDENTIALS": 403},
}
"""Here 401 would mean that the caller is not logged in."""


@cache
def of_form(form: type[Params]) -> tuple[str, ...]:
    """Return the codes with which a form refuses parameters."""
    if not form.model_fields:
        return ()
    cases: list[dict[str, str]] = [{}]
    cases += [{name: value} for name in form.wire_names().values() for value in _WRONG]
    cases += [dict.fromkeys(pair, "x") for pair in form.conflicts]
    cases += [{name: "x"} for name, _ in form.needs]
    found: dict[str, None] = {}
    for case in cases:
        try:
            form.read(case)
        except InvalidParameters as refused:
            found |= dict.fromkeys(problem.code for problem in refused.errors)
    return tuple(found)


def _of_operation(method: str, path: str, action: Action, form: type[Params]) -> Iterator[str]:
    yield from of_form(form)
    yield from _MORE.get(action, ())
    if issubclass(form, Paged):
        yield "INVALID_CURSOR"
    if action in _SETS_PASSWORD:
        yield from _PASSWORDS
    if re.search("{(domain|mail)}", path):
        yield "AMBIGUOUS_NAME"
    if method != "GET" and action not in PUBLIC:
        yield from _WRITES
        if form.model_fields:
            yield "VALUE_ADJUSTED"
        if action.startswith(_ACCOUNTS):
            yield "DIRECTORY_READ_ONLY"
        if action.startswith(_IN_DOMAIN):
            yield "NO_SUCH_DOMAIN"


def add(
    operation: dict[str, Any], method: str, path: str, action: Action, form: type[Params]
) -> None:
    """Add codes to the responses of an operation in the document."""
    responses = operation["responses"]
    other = _WITH_OTHER_STATUS.get(action, {})
    for code in (*_of_operation(method, path, action, form), *other):
        status = str(other.get(code, CODES[code].status))
        if status not in responses:
            responses[status] = deepcopy(responses["500"]) | {"description": ""}
        listed = responses[status]["description"]
        if f"`{code}`" not in listed:
            responses[status]["description"] = ", ".join(filter(None, (listed, f"`{code}`")))
    operation["responses"] = _sorted(responses)


def _sorted(responses: Mapping[str, Any]) -> dict[str, Any]:
    order: Iterable[str] = sorted(responses)
    return {status: responses[status] for status in order}
