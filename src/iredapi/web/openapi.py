"""OpenAPI documentation of a route, made from its form, its action and its docstring."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, TypedDict, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, create_model

from iredapi.auth.permissions import LASTING, PUBLIC, RULES, Action
from iredapi.domain.features import NOTES, Feature
from iredapi.errors import CODES
from iredapi.operations.preconditions import Versions
from iredapi.schemas.listing import Paged
from iredapi.schemas.params import Params
from iredapi.schemas.strictness import Strictness, StrictReading
from iredapi.web import idempotency
from iredapi.web.openapi_bodies import body, file_body, properties
from iredapi.web.openapi_parameters import path_parameter, query_parameter

_IF_NONE_MATCH: Final = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "`ETag` of an earlier answer: 304 without a body if nothing has changed.",
    "schema": {"type": "string", "examples": ['"s0123456789abcdef01234567-0123456789ab"']},
}
_IF_MATCH: Final = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "`ETag` of the profile: 412 and no change if somebody has changed it since.",
    "schema": {"type": "string", "examples": ["*"]},
}
_IDEMPOTENCY_KEY: Final = {
    "name": idempotency.HEADER,
    "in": "header",
    "required": False,
    "description": "A new random text for each request. The same request, sent again with it, is "
    "not carried out again, and gets the first answer; see docs/retries.md.",
    "schema": {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}$"},
}
_REPLAYED: Final = {
    "description": "`true`: the first answer to an `Idempotency-Key`; nothing was done now.",
    "schema": {"type": "string"},
}
_WITH_KEY: Final = (
    "INVALID_IDEMPOTENCY_KEY", "IDEMPOTENCY_KEY_IN_USE", "IDEMPOTENCY_KEY_REUSED",
    "OUTCOME_UNKNOWN", "ANSWER_NOT_KEPT",
)  # fmt: skip
_CHALLENGE: Final = {
    "description": "How to authenticate, and what was wrong with the header `Authorization`.",
    "schema": {"type": "string"},
}
_ETAG: Final = {
    "description": "For `If-None-Match`, and for `If-Match` of a change.",
    "schema": {"type": "string"},
}
_EVERYWHERE: Final = ("NOT_AUTHORIZED", "SERVER_ERROR", "SERVER_DOWN", "OVERLOADED")
_WITH_SESSION: Final = ("LOGIN_REQUIRED", "INVALID_TOKEN", "PERMISSION_DENIED", "NOT_ALLOWED_IP")
_WITH_PARAMS: Final = ("INVALID_REQUEST", "INVALID_PARAMETERS", "REQUEST_TOO_LARGE")


CHANGES: Final = frozenset(
    {Action.USER_UPDATE, Action.USERS_UPDATE, Action.USER_RENAME}
    | {Action.ALIAS_UPDATE, Action.ALIAS_RENAME, Action.DOMAIN_UPDATE, Action.DOMAIN_ADMINS}
    | {Action.ADMIN_UPDATE, Action.DELETED_MAILBOX_UPDATE, Action.MAILLIST_UPDATE, Action.ML_UPDATE}
    | {Action.THROTTLE_UPDATE, Action.THROTTLE_DELETE}
    | {Action.SPAMPOLICY_UPDATE, Action.SPAMPOLICY_DELETE}
    | {Action.WBLIST_ADD, Action.WBLIST_REMOVE, Action.WBLIST_CLEAR}
    | {Action.GREYLISTING_UPDATE, Action.GREYLISTING_DELETE}
    | {Action.GREYLISTING_SENDERS_UPDATE, Action.GREYLISTING_DOMAINS_UPDATE}
    | {Action.DOMAIN_VERIFY}
)
"""Actions whose answer lists in ``_changed`` which parameters have a new value."""


class ParameterProblem(BaseModel):
    """What is wrong with one parameter."""

    param: str = Field(description="The parameter's name as it was sent.")
    code: str
    detail: str


class Skipped(BaseModel):
    """A value that was left out of a successful change: not there, in use, or malformed."""

    param: str
    value: str
    reason: str


class Adjusted(BaseModel):
    """A value that a successful change stored as another one."""

    param: str
    asked: str | int | None
    stored: str | int | None
    why: str = Field(description="A stable short code; see docs/compatibility.md.")


class WouldChange(BaseModel):
    """A value that a dry run would change; null: it does not exist."""

    kind: str = Field(description="`user`, `domain`, `alias`, `ml`, `throttle outbound` …")
    account: str
    field: str = Field(description="A key of `view=canonical`, or of the policy.")
    old: Any = None
    new: Any = None


_IGNORED: Final = Field(
    None,
    alias="_ignored",
    description="Names that were sent and have no effect in this operation; missing without any.",
)
_ADJUSTED: Final = Field(
    None,
    alias="_adjusted",
    description="Values that could not be stored as they were asked for; missing without any.",
)


_NEXT: Final = Field(
    None,
    alias="_next",
    description="The cursor of the next page; null on the last one. Only with `limit` or `cursor`.",
)
_TOTAL: Final = Field(
    None, alias="_total", description="The number of items of all pages. Only with `total=yes`."
)


class ChosenFields(BaseModel):
    """An item with the keys that `fields` chose, and no others."""

    model_config = ConfigDict(extra="allow")


class Failure(BaseModel):
    """Every answer to a request that was refused or failed."""

    success: bool = Field(alias="_success", json_schema_extra={"const": False})
    msg: str = Field(alias="_msg", description="A stable short code; see docs/errors.md.")
    detail: str | None = Field(None, alias="_detail", description="A sentence for people.")
    errors: list[ParameterProblem] | None = Field(None, alias="_errors")
    request_id: str = Field(alias="_request_id", description="Find it in the server's log.")


class Success(BaseModel):
    """The answer to a change that was made."""

    success: bool = Field(alias="_success", json_schema_extra={"const": True})
    skipped: list[Skipped] | None = Field(
        None,
        alias="_skipped",
        description="Values that were left out, or stored although the mail server ignores them "
        "(`NO_EFFECT`).",
    )
    ignored: list[str] | None = _IGNORED
    adjusted: list[Adjusted] | None = _ADJUSTED
    dry_run: bool | None = Field(
        None, alias="_dry_run", description="Nothing was changed: `dry_run=yes` was sent."
    )
    changes: list[WouldChange] | None = Field(
        None, alias="_changes", description="What the real call would change. Passwords are `***`."
    )
    more_changes: bool | None = Field(
        None, alias="_more_changes", description="There are more than 10,000 changes."
    )


class Changed(Success):
    """The answer to a change of something that is there."""

    changed: list[str] = Field(
        alias="_changed",
        description="What is different now, in the names of parameters. Empty: nothing was "
        "written, and nothing logged.",
    )


class Details(TypedDict, total=False):
    """What an operation may declare beside its action and its form."""

    answer: Any
    """The type of ``_data``."""
    errors: Sequence[str]
    """Error codes that are particular to this operation."""
    words: Mapping[str, type[StrEnum]]
    """Allowed values of path parameters: with another value there is no such path (404)."""
    feature: Feature | None
    """Without it a backend answers 501."""
    versions: Versions
    """The operation is about an account whose profile has an entity tag."""
    also: Sequence[str]
    """Media types of a plain answer, beside JSON."""
    takes: Mapping[str, str]
    """Media types of a file that is the body, with examples; parameters are in the query."""
    following: str
    """What `_next` of the answer is for, where every answer has it."""
    gives: str
    """Media type of an answer that is a file, and no JSON document."""


def describe(
    handler: Callable[..., Any],
    method: str,
    path: str,
    action: Action,
    form: type[Params],
    details: Details,
) -> dict[str, Any]:
    """Return the arguments of ``add_api_route`` that make up the documentation."""
    feature, words = details.get("feature"), details.get("words", {})
    errors = tuple(details.get("errors", ()))
    summary, _, rest = inspect.cleandoc(handler.__doc__ or "").partition("\n")
    rest = rest.strip()
    if action not in PUBLIC:
        rest = f"{rest}\n\nWho may call: {RULES[action].name}.".strip()
    if feature is not None:
        rest = f"{rest}\n\n{NOTES[feature]}".strip()
        errors += ("NOT_SUPPORTED_BY_BACKEND",)
    named = re.findall(r"{(\w+)}", path)
    extra: dict[str, Any] = {}
    parameters = [path_parameter(path, name, words.get(name)) for name in named]
    takes = details.get("takes", {})
    if method == "GET" or takes:
        parameters += [query_parameter(*item, form) for item in properties(form)]
    if takes:
        extra["requestBody"] = file_body(takes)
    elif method != "GET" and form.model_fields:
        extra["requestBody"] = body(action, form)
    options = StrictReading if method == "GET" else Strictness
    parameters += [
        query_parameter(*item, options)
        for item in properties(options)
        if item[0] != "dry_run" or action not in idempotency.NOT_HERE
    ]
    is_versioned = details.get("versions") is not None
    if is_versioned:
        parameters.append(_IF_NONE_MATCH if method == "GET" else _IF_MATCH)
    takes_key = method != "GET" and action not in idempotency.NOT_HERE
    if takes_key:
        parameters.append(_IDEMPOTENCY_KEY)
    if parameters:
        extra["parameters"] = parameters
    if action in PUBLIC:
        extra["security"] = []
    codes = _common_codes(method, words) + errors
    codes += ("INVALID_VALUE", "IGNORED_PARAMETER", *_WITH_PARAMS)
    if method != "GET":
        codes += _WITH_KEY if takes_key else ("IDEMPOTENCY_KEY_NOT_SUPPORTED",)
    if is_versioned and method != "GET":
        codes += ("PRECONDITION_FAILED",)
    answer, writes = details.get("answer"), method != "GET"
    responses = _responses(action, form, named, answer, codes, writes=writes)
    if text := details.get("following"):
        more = {"next": (str, Field(alias="_next", description=text))}
        responses[200]["model"] = _data_model(answer, more)
    if is_versioned and method == "GET":
        responses[200]["headers"] = {"ETag": _ETAG}
        responses[304] = {"description": "The profile is as the tag in `If-None-Match` says."}
    if takes_key:
        responses[200]["headers"] = {idempotency.REPLAYED: _REPLAYED}
    _describe_files(responses, details)
    return {
        "summary": summary.rstrip("."),
        "description": rest or summary,
        "operation_id": action.value.replace(".", "_") + _variant(method, path),
        "responses": responses,
        "openapi_extra": extra,
    }


def _describe_files(responses: dict[int | str, dict[str, Any]], details: Details) -> None:
    """Describe answers that are no JSON document."""
    if kind := details.get("gives"):
        responses[200] = {
            "description": "Done, as far as the last line says.",
            "content": {kind: {"schema": {"type": "string"}}},
        }
    if kinds := details.get("also"):
        responses[200]["content"] = {kind: {"schema": {"type": "string"}} for kind in kinds}


def _variant(method: str, path: str) -> str:
    """Return a suffix that makes the operation id of an action's second route unique."""
    if "keep_mailbox_days" in path:
        return "_keeping_mailboxes"
    if path.startswith("/spampolicy/"):
        return f"_{path.split('/')[2]}"
    return "_put" if method == "PUT" and "change_email" in path else ""


def _common_codes(method: str, words: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the error codes of all writes, and of all paths with an enumeration."""
    codes = () if method == "GET" else ("CHANGED_MEANWHILE", "FOREIGN_ORIGIN")
    return (*codes, "NO_SUCH_OPERATION") if words else codes


def _responses(
    action: Action,
    form: type[Params],
    named: Sequence[str],
    answer: Any,
    errors: Sequence[str],
    *,
    writes: bool = False,
) -> dict[int | str, dict[str, Any]]:
    codes = [*_EVERYWHERE, *errors]
    if action not in PUBLIC:
        codes += _WITH_SESSION
    if action in LASTING:
        codes.append("LIMITED_TOKEN")
    if form.model_fields:
        codes += _WITH_PARAMS
    if "domain" in named:
        codes.append("INVALID_DOMAIN_NAME")
    if {"mail", "new_mail"} & set(named):
        codes.append("INVALID_MAIL")
    if "account" in named:
        codes += ["INVALID_DOMAIN_NAME", "INVALID_MAIL", "NO_SUCH_DOMAIN", "NO_SUCH_ACCOUNT"]
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(CODES[code].status, []).append(code)
    responses: dict[int | str, dict[str, Any]] = {
        200: {
            "model": Changed if action in CHANGES else _success(answer, form, writes=writes),
            "description": "Done.",
        }
    }
    for status in sorted(by_status):
        listed = ", ".join(f"`{code}`" for code in dict.fromkeys(by_status[status]))
        responses[status] = {"model": Failure, "description": listed}
        if status == 401:
            responses[status]["headers"] = {"WWW-Authenticate": _CHALLENGE}
    return responses


def _success(answer: Any, form: type[Params], *, writes: bool = False) -> type[BaseModel]:
    if answer is None:
        return Success
    more: dict[str, Any] = {"ignored": (list[str] | None, _IGNORED)} if writes else {}
    if issubclass(form, Paged):
        answer = list[Union[get_args(answer)[0], ChosenFields]]  # type: ignore[misc]  # noqa: UP007
        more |= {"next": (str | None, _NEXT), "total": (int | None, _TOTAL)}
    return _data_model(answer, more)


def _data_model(answer: Any, more: dict[str, Any]) -> type[BaseModel]:
    return create_model(
        f"{_name(answer)}Answer",
        __doc__="A successful answer with data.",
        success=(bool, Field(alias="_success", json_schema_extra={"const": True})),
        data=(answer, Field(alias="_data")),
        **more,
    )


def _name(answer: Any) -> str:
    """Return a name for an answer's model: that of its first alternative."""
    if get_origin(answer) is list:
        return f"{_name(get_args(answer)[0])}List".replace("str", "Name")
    if shapes := get_args(answer):
        return _name(shapes[0])
    return str(answer.__name__)
