"""Parameters of the path and of the query in OpenAPI, with examples that work as they stand.

The page that shows the document fills in examples of the path and of required parameters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from iredapi.schemas.params import Params

_PATHS: Final = {
    "domain": ("A mail domain.", "example.com"),
    "mail": ("An e-mail address.", "alice@example.com"),
    "new_mail": ("The new e-mail address, in the same domain.", "alice.new@example.com"),
    "account": ("`global`, a domain or an e-mail address.", "example.com"),
    "direction": (
        (
            "`inbound`: mail to the account; `outbound`: what it sends after logging in; "
            "`external`: mail without a login that claims to come from it (throttles only)."
        ),
        "outbound",
    ),
    "kind": ("Which list.", "blacklist"),
    "webhook_id": ("The id of a webhook.", "0123456789abcdef"),
    "token_id": ("The id of an API token.", "0123456789abcdef"),
    "session_id": ("The public name of a session.", "0123456789abcdef"),
    "mailbox_id": ("The id of a deleted mailbox.", "12"),
    "number": ("Days for which mailboxes are kept on disk; 0 is for ever.", "30"),
}
_OTHER_ACCOUNTS: Final[Mapping[str, str]] = {
    "admin": "boss@example.net",
    "alias": "sales@example.com",
    "maillist": "staff@example.com",
    "ml": "news@example.com",
}
"""Addresses of what is no user: one address is one account. Admins are in no hosted domain."""


def path_parameter(path: str, name: str, words: type[StrEnum] | None) -> dict[str, Any]:
    """Return the description of a part of a path, with an allowed value or an example."""
    description, example = _PATHS[name]
    kind: dict[str, Any] = {"type": "string"}
    if name == "number":
        kind = {"type": "integer", "minimum": 0}
    elif words is not None:
        kind["enum"] = [word.value for word in words]
    elif name in {"mail", "new_mail"} and (noun := re.search(r"/(\w+)/{mail}", path)):
        example = _OTHER_ACCOUNTS.get(noun[1], "alice@example.com")
        example = example.replace("@", ".new@") if name == "new_mail" else example
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": kind,
        "example": int(example) if name == "number" else example,
    }


def query_parameter(name: str, schema: dict[str, Any], form: type[Params]) -> dict[str, Any]:
    """Return the description of a parameter of the query; a required one has an example."""
    schema = dict(schema)
    required = name in form.model_json_schema(by_alias=True).get("required", [])
    found = {
        "name": name,
        "in": "query",
        "required": required,
        "description": schema.pop("description", ""),
        "schema": schema,
    }
    return found | ({"example": schema["examples"][0]} if required else {})
