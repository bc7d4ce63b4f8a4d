"""The OpenAPI document as a whole: security schemes, servers, tags, and its variants.

A variant has answers of one shape: programs that generate a client from it get one class for each
kind of account, and no unions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from enum import StrEnum
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import Response

from iredapi.domain.tokens import PREFIX
from iredapi.web import openapi_errors
from iredapi.web.openapi_bodies import JSON
from iredapi.web.operation_route import Router
from iredapi.web.route_table import API

Document = dict[str, Any]

DESCRIPTION: Final = f"""\
Provision mail domains, admins, users, aliases and mailing lists on an iRedMail server, and decide
what Amavisd and iRedAPD do with their mail.

**First steps**

1. Log in: `curl -c jar -d username=NAME -d password=PASSWORD HOST/api/login`. On this page: open
   `POST /api/login`, press *Execute*; the browser keeps the session cookie.
2. Make a token for a program: `curl -b jar -d label=billing HOST/api/tokens`. It begins with
   `{PREFIX}` and is shown once. Put it into *Authorize* (`bearer`), or send
   `Authorization: Bearer {PREFIX}…`.
3. Create: `curl -H "Authorization: Bearer $TOKEN" -d quota=5000 HOST/api/domain/example.com`, then
   `POST /api/user/alice@example.com` with `{{"name": "Alice", "password": "…", "quota": 1024}}`.
4. Read it again: `GET /api/user/alice@example.com?view=canonical`.

**Requests.** Parameters may be sent as JSON, as a form, as multipart or in the query. A parameter
that is not sent changes nothing; an empty one removes the value where that is possible. Names that
a change does not know are listed in `_ignored`; `strict=yes` makes them an error. A `GET` without
`strict=yes` ignores them: check the spelling of `search`, `status` and `limit`.

**Answers** are JSON with `_success`. Failures have a stable code in `_msg` and a real HTTP status.

**Generated clients.** `openapi.json?view=canonical` has one shape for each kind of account, the
same on every storage; `openapi.json?view=native` has the one of this server's storage.
"""
TAGS: Final[Mapping[str, str]] = {
    "Login": "Sessions of admins: a cookie, which a browser keeps.",
    "API Token": "Tokens for programs, with limits of their own, and the caller's sessions.",
    "Webhook": "URLs to which events are sent: what was changed, by whom, in which account.",
    "Domain": "Mail domains: limits, alias domains, catch-all, relays, and who manages them.",
    "Domain Admin": "Standalone admins, whose address is in no hosted domain.",
    "Mail User": "Mailboxes: password, quota, forwarding, aliases and services.",
    "Mail Alias": "Addresses without a mailbox that lead to members.",
    "Subscribable Mailing List": "Lists of mlmmj: people subscribe and leave by themselves.",
    "Mailing List (Unsubscribable)": "Lists in LDAP whose members an admin decides.",
    "Deleted Mailbox": "Mailboxes of deleted users that are still on the disk.",
    "Usage": "What domains and users use: space, messages, accounts, last logins.",
    "Log": "What was changed, when, by whom and from where.",
    "Events": "Changes, for programs that keep a copy or act on them.",
    "All Domains": "Lists over everything that the caller manages, and search.",
    "Spam Policy": "What Amavisd does with spam, viruses and banned files.",
    "Throttling": "How much mail an account, a domain or everybody may send and receive.",
    "Whitelisting and Blacklisting": "Senders and recipients that are always or never accepted.",
    "Greylisting": "Whose mail has to be sent twice when the sender is not known yet.",
    "Import": "Many accounts at once, from a file.",
    "Export": "Accounts for another server: as records for any storage, or as LDIF for `ldapadd`.",
}


class View(StrEnum):
    """Which shapes of profiles a document describes."""

    ALL = ""
    NATIVE = "native"
    CANONICAL = "canonical"


_SQL: Final = frozenset({"DomainProfile", "AdminProfile", "UserProfile", "AliasProfile"})
_LDAP: Final = frozenset({"DirectoryProfile"})
_CANONICAL: Final = "Canonical"
_CHOICES: Final = frozenset({"name_only", "email_only", "fields"})
"""Parameters that make answers of another shape: a document of one view does not have them."""
_NDJSON: Final = "application/x-ndjson"
_OTHER_SHAPES: Final = frozenset({"ChosenFields"})
_REFERENCE: Final = re.compile(r"#/components/schemas/(.+)")


def _body_of(operation: Document) -> Document:
    """Return the media types of an operation's body."""
    found: Document = operation.get("requestBody", {}).get("content", {})
    return found


# FastAPI looks at its parameters.
async def _endpoint(request: Request) -> Response:
    raise NotImplementedError


def make(app: FastAPI, *, cookie: str, routers: Iterable[Router]) -> Document:
    """Return the document of the operations: by FastAPI, and what it does not add.

    That is security schemes, and the codes of refused parameters.
    """
    from iredapi.web.openapi import describe  # models that only the document needs

    described = APIRouter()
    declared = [(router, route) for router in routers for route in router.routes]
    for router, route in declared:
        described.add_api_route(
            API + route.path,
            _endpoint,
            methods=[route.method],
            tags=router.tags,
            response_model=None,
            name=route.handler.__name__,
            **describe(
                route.handler, route.method, route.path, route.action, route.form, route.details
            ),
        )
    document: Document = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version=app.openapi_version,
        description=app.description,
        license_info=app.license_info,
        routes=described.routes,
        tags=app.openapi_tags,
        servers=app.servers,
    )
    for _, route in declared:
        operation = document["paths"][API + route.path][route.method.lower()]
        openapi_errors.add(operation, route.method, route.path, route.action, route.form)
        content = operation["responses"]["200"].get("content", {})
        if _NDJSON in content and _NDJSON in _body_of(operation):
            content.pop("application/json", None)
    document["components"]["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": f"An API token, which begins with `{PREFIX}`: for programs.",
        },
        "cookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": cookie,
            "description": "The session of `POST /api/login`; a browser sends it by itself.",
        },
    }
    document["security"] = [{"bearer": []}, {"cookie": []}]
    return document


def variant(
    document: Document, *, view: View = View.ALL, on_ldap: bool | None = None, prefix: str = API
) -> Document:
    """Return a copy for one view and one storage (None: for all), with other paths if needed."""
    made = deepcopy(document)

    def is_gone(name: str) -> bool:
        if on_ldap is not None and name in (_SQL if on_ldap else _LDAP):
            return True
        if view is View.ALL:
            return False
        return name in _OTHER_SHAPES or (name.startswith(_CANONICAL) != (view is View.CANONICAL))

    for name, schema in made["components"]["schemas"].items():
        if name.endswith("Answer"):
            _choose(schema, is_gone, with_names=view is View.ALL)
    for path in made["paths"].values():
        for operation in path.values():
            if view is not View.ALL:
                _narrow(operation, view)
    if prefix != API:
        made["paths"] = {
            prefix + path.removeprefix(API): item for path, item in made["paths"].items()
        }
    _drop_unused(made)
    return made


def _narrow(operation: Document, view: View) -> None:
    """Leave out what would make an answer of another shape: parameters, and other formats."""
    if "parameters" in operation:
        operation["parameters"] = list(_parameters(operation["parameters"], view))
    for response in operation["responses"].values():
        if JSON in response.get("content", {}):
            response["content"] = {JSON: response["content"][JSON]}
    if _NDJSON in _body_of(operation):
        # Generators make a file of it. With several types of a file they send the last one.
        lines = {_NDJSON: {"schema": {"type": "string", "format": "binary"}}}
        operation["requestBody"]["content"] = operation["responses"]["200"]["content"] = lines


def _parameters(parameters: list[Document], view: View) -> Iterator[Document]:
    """Return parameters for one view: it is named, so that clients send it by themselves."""
    for item in parameters:
        if item["in"] == "query" and item["name"] in _CHOICES:
            continue
        if item["in"] == "query" and item["name"] == "view":
            schema = {"type": "string", "enum": [view.value], "default": view.value}
            required = view is View.CANONICAL
            yield item | {"schema": schema, "required": required, "example": view.value}
            continue
        yield item


def _choose(schema: Document, is_gone: Callable[[str], bool], *, with_names: bool) -> None:
    """Leave out alternatives of a list, or of ``_data``; a single one replaces ``anyOf``."""
    data = schema["properties"].get("_data")
    place = data.get("items", data) if data else {}
    if "anyOf" not in place:
        return
    kept = [
        one
        for one in place["anyOf"]
        if not is_gone(_referenced(one)) and (with_names or "$ref" in one)
    ]
    if not kept:  # the answer does not depend on the view
        kept = [one for one in place["anyOf"] if _referenced(one) not in _OTHER_SHAPES]
    if len(kept) == 1:
        del place["anyOf"]
        place.update(kept[0])
    else:
        place["anyOf"] = kept


def _referenced(schema: Document) -> str:
    found = _REFERENCE.fullmatch(schema.get("$ref", ""))
    return found[1] if found else ""


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if name := _referenced(value):
            yield name
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _drop_unused(document: Document) -> None:
    schemas = document["components"]["schemas"]
    used: set[str] = set()
    new = set(_references(document["paths"]))
    while new:
        used |= new
        new = {name for one in new for name in _references(schemas[one])} - used
    document["components"]["schemas"] = {
        name: schema for name, schema in schemas.items() if name in used
    }
