"""Request bodies in OpenAPI: JSON first, with a small example that does no harm as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from iredapi.auth.permissions import Action
from iredapi.schemas.params import Params

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
_EXAMPLES: Final[Mapping[Action, tuple[str, ...]]] = {
    Action.ADMIN_CREATE: ("name", "password"),
    Action.ADMIN_UPDATE: ("name", "language"),
    Action.ALIAS_CREATE: ("name", "members"),
    Action.ALIAS_UPDATE: ("name",),
    Action.DELETED_MAILBOX_UPDATE: ("keep_mailbox_days",),
    Action.DOMAIN_ADMINS: ("addAdmin",),
    Action.DOMAIN_CREATE: ("name", "quota", "defaultQuota"),
    Action.DOMAIN_UPDATE: ("name", "quota"),
    Action.GREYLISTING_DOMAINS_UPDATE: ("addDomains",),
    Action.GREYLISTING_SENDERS_UPDATE: ("addSenders",),
    Action.MAILLIST_CREATE: ("name", "members"),
    Action.MAILLIST_UPDATE: ("name",),
    Action.ML_CREATE: ("name", "owner"),
    Action.ML_UPDATE: ("name",),
    Action.SPAMPOLICY_UPDATE: ("prefix_spam_in_subject",),
    Action.THROTTLE_UPDATE: ("max_msgs",),
    Action.TOKEN_CREATE: ("days",),
    Action.USERS_UPDATE: ("language",),
    Action.USER_CREATE: ("name", "password", "quota"),
    Action.USER_UPDATE: ("name", "quota"),
    Action.WBLIST_ADD: ("addresses",),
    Action.WBLIST_REMOVE: ("addresses",),
}
"""Parameters of the example, besides the required ones."""


def properties(form: type[Params]) -> list[tuple[str, dict[str, Any]]]:
    """Return the JSON schema of each parameter of a form, with a description."""
    schema = form.model_json_schema(by_alias=True)
    found = []
    for name, properties in schema.get("properties", {}).items():
        detail = {
            key: value for key, value in properties.items() if key not in {"title", "default"}
        }
        describe_relations = form.describe_relations(name)
        if describe_relations:
            detail["description"] = f"{detail.get('description', '')} {describe_relations}".strip()
        if detail["type"] == "integer":
            detail["examples"] = [int(example) for example in detail.get("examples", [])]
        found.append((name, detail))
    return found


def body(action: Action, form: type[Params]) -> dict[str, Any]:
    """Return the request body of an operation.

    It is not required, because parameters may be sent in the query, too. Only the schema of JSON
    has examples of single parameters: pages that show a form would send all of them.
    """
    required = form.model_json_schema(by_alias=True).get("required", [])
    found = properties(form)
    names = {*required, *_EXAMPLES.get(action, ())}
    example = {name: detail["examples"][0] for name, detail in found if name in names}
    plain = {
        name: {key: value for key, value in detail.items() if key != "examples"}
        for name, detail in found
    }

    def schema(parameters: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {"type": "object", "properties": parameters}
        return made | ({"required": required} if required else {})

    return {
        "required": False,
        "content": {
            JSON: {"schema": schema(dict(found)), "example": example},
            FORM: {"schema": schema(plain)},
        },
    }


def file_body(kinds: Mapping[str, str]) -> dict[str, Any]:
    """Return the request body of an operation that reads a file: media types and examples."""
    return {
        "required": True,
        "content": {
            kind: {"schema": {"type": "string"}, "example": text} for kind, text in kinds.items()
        },
    }
